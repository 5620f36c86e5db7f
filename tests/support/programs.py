"""Where tests find the programs that images/kind-node/tools.sh makes."""

from __future__ import annotations

import os
from pathlib import Path

MADE = Path(__file__).parents[2] / ".cache/tools/bin"


def search_path() -> str:
    """PATH, with this checkout's own programs first."""
    return os.pathsep.join([str(MADE), os.environ.get("PATH", "")])
