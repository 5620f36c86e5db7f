"""Functions that the tests' workers import: pickled by reference, as a user's module would be."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from joblib import Parallel, delayed


def pid(_=None, seconds: float = 0.0) -> int:
    time.sleep(seconds)
    return os.getpid()


def stand(flag: str, index: int) -> int:
    """Runs until the flag is there."""
    while not Path(flag).exists():
        time.sleep(0.02)
    return index


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


class UnpicklableError(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


def fail(index, at):
    if index == at:
        raise ValueError(f"no {index}")
    time.sleep(0.05)
    return index


def fail_unpicklably():
    raise UnpicklableError(1, 2)


def leave():
    raise SystemExit(3)


def nested(level, seconds=0.0):
    if level == 0:
        time.sleep(seconds)
        return 1
    return sum(Parallel(n_jobs=-1)(delayed(nested)(level - 1, seconds) for _ in range(3)))


def nested_pids(seconds):
    return Parallel(n_jobs=-1)(delayed(pid)(i, seconds) for i in range(6))


def stand_and_nest(flag, seconds):
    stand(flag, 0)
    return nested_pids(seconds)


def first(array) -> float:
    return array[0]


def write_into(array) -> float:
    array[0] += 1
    return array[0]


def types_of(value) -> tuple:
    import pandas as pd
    import scipy.sparse

    if isinstance(value, pd.DataFrame):
        return "frame", str(dict(value.dtypes)), int(pd.util.hash_pandas_object(value).sum())
    if isinstance(value, pd.Series):
        return "series", value.name, int(pd.util.hash_pandas_object(value).sum())
    if scipy.sparse.issparse(value):
        return "sparse", value.format, float(value.sum())
    return type(value).__name__, str(value.dtype), value.shape, str(value.tolist())
