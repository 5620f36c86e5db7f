"""Functions that the tests' workers import: pickled by reference, as a user's module would be."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def pid(_=None, seconds: float = 0.0) -> int:
    time.sleep(seconds)
    return os.getpid()


def total(array, index: int, seconds: float = 0.0) -> float:
    time.sleep(seconds)
    return float(array.sum()) + index


def kill_worker(seconds: float = 0.0) -> None:
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


def kill_if(index: int, culprit: int, seconds: float = 0.0) -> int:
    if index == culprit:
        kill_worker(seconds)
    time.sleep(seconds)
    return index


def kill_once(index: int, flag: str) -> int:
    """Kills its worker the first time that it runs at all."""
    try:
        Path(flag).touch(exist_ok=False)
    except FileExistsError:
        return index
    kill_worker()
    return index


def mark(folder: str, index: int, seconds: float) -> int:
    Path(folder, f"{index}-{time.time_ns()}").touch()
    time.sleep(seconds)
    return index


def at_once(folder: str, seconds: float = 0.1) -> int:
    """How many of these ran at the same time as this one began."""
    mine = Path(folder, f"{os.getpid()}-{time.time_ns()}")
    mine.touch()
    now = len(list(Path(folder).iterdir()))
    time.sleep(seconds)
    mine.unlink()
    return now
