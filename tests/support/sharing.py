"""What several processes share: made by the first of them, taken away by the last, and theirs in turns."""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

SECONDS_APART = 0.5


@contextlib.contextmanager
def shared(
    path: Path,
    session: str,
    *,
    is_there: Callable[[], bool],
    make: Callable[[], object],
    remove: Callable[[], object],
    wait: Callable[[], object] = lambda: None,
) -> Iterator[None]:
    """Within, what `make` makes is there, for all processes that name the same session; other sessions wait for it.

    Others wait while the first makes it. What was there before stays; `remove` takes away what was not, once the last
    process is done. `wait` is called once if another session has it. `path` is a file for locks; one beside it is made.
    """
    # `members` is let go of first: who has the gate is not to find it locked and empty.
    with path.with_suffix(".gate").open("w") as gate, path.open("a+") as members:
        _join(members, gate, session, is_there, make, remove, wait)
        try:
            yield
        finally:
            _lock(gate, fcntl.LOCK_EX)
            if _try(members, fcntl.LOCK_EX):
                try:
                    if _read(members)["ours"]:
                        remove()
                finally:
                    members.truncate(0)


def _join(members: IO[str], gate: IO[str], session: str, is_there, make, remove, wait) -> None:
    told = False
    while not _try(gate, fcntl.LOCK_EX) or not _enter(members, session, is_there, make, remove):
        _lock(gate, fcntl.LOCK_UN)
        if not told and _read(members).get("session", session) != session:
            wait()
            told = True
        time.sleep(SECONDS_APART)
    _lock(gate, fcntl.LOCK_UN)


def _enter(members: IO[str], session: str, is_there, make, remove) -> bool:
    """Called by one process at a time."""
    if _try(members, fcntl.LOCK_EX):
        ours = not is_there()
        _write(members, {"session": session, "ours": ours})
        try:
            make()
        except BaseException:
            if ours:
                remove()
            raise
    elif _read(members)["session"] != session:
        return False
    _lock(members, fcntl.LOCK_SH)
    return True


@contextlib.contextmanager
def turn(path: Path, *, alone: bool) -> Iterator[None]:
    """Within, no other process is in a turn if this one is to be alone; otherwise none that is to be.

    Who wants to be alone is let in before who comes later. `path` is a file for locks; one beside it is made.
    """
    with path.open("w") as turns, path.with_suffix(".queue").open("w") as queue:
        _lock(queue, fcntl.LOCK_EX)
        _lock(turns, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        _lock(queue, fcntl.LOCK_UN)
        yield


def _lock(file: IO[str], how: int) -> None:
    fcntl.flock(file, how)


def _try(file: IO[str], how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(file: IO[str]) -> dict:
    file.seek(0)
    return json.loads(file.read() or "{}")


def _write(file: IO[str], record: dict) -> None:
    file.seek(0)
    file.truncate()
    json.dump(record, file)
    file.flush()
