"""What workers print, in the session: whole lines, each marked with its worker, as they come."""

from __future__ import annotations

import sys
import threading

_lock = threading.Lock()


def show(label: str, line: str) -> None:
    """Print a line of a worker's; never raises."""
    _write(f"[{label}] {line}\n")


def note(text: str) -> None:
    """Print a remark of ours about the workers."""
    _write(f"[workers] {text}\n")


def _write(text: str) -> None:
    stream = sys.stdout
    if stream is None:
        return
    try:
        with _lock:
            stream.write(text)
            stream.flush()
    except (OSError, ValueError):  # closed: nobody reads it any more
        return
