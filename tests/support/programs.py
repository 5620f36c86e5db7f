"""The programs that images/kind-node/tools.sh makes: where tests find them, and how they run them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MADE = Path(__file__).parents[2] / ".cache/tools/bin"


def search_path() -> str:
    """PATH, with this checkout's own programs first."""
    return os.pathsep.join([str(MADE), os.environ.get("PATH", "")])


def run_captured(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs it and captures what it prints.

    kubectl is run again where a busy API server did not shake hands within the 10 s that every client gives it: nothing
    was asked of it yet.
    """
    for tries_left in (2, 1, 0):
        done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
        if not (tries_left and command[0] == "kubectl" and done.returncode and "TLS handshake timeout" in done.stderr):
            break
    return done
