"""The folders of one attempt on this machine; all of them are gone after it."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from dask_training.runner.workspace import Workspace

_PREFIX = "dask-training-"
_LOCK = "in-use"


class TemporaryWorkspace(Workspace):
    """A workspace in a temporary folder (readable by this user alone); a context manager that removes it."""

    def __init__(self) -> None:
        remove_abandoned()
        self._folder = tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True)
        root = Path(self._folder.name)
        # Held as long as this process lives, so that a later run can tell what a killed one left behind.
        self._lock = (root / _LOCK).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        super().__init__(root)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.close()
        self._folder.cleanup()


def remove_abandoned() -> None:
    """Removes the workspaces of this user's runs that were killed: those whose lock nobody holds any more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError), (folder / _LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
