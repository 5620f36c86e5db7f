"""The folders of one attempt on this machine; all of them are gone after it."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from dask_training.runner.packages import layer_site

_PREFIX = "dask-training-"
_LOCK = "in-use"


class Workspace:
    """A temporary folder (readable by this user alone) with a place for each thing; a context manager that removes it.

    `code` is importable, `script` holds the inline script, `work` is the code's working folder, `artifacts` what it
    wants kept, `logs` the processes' output, `reports` what the
    cluster says of itself, `layer` what `packages` brought, `tls` the certificates, `spill` what
    workers write to disk.
    """

    def __init__(self) -> None:
        remove_abandoned()
        self._folder = tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True)
        self.root = Path(self._folder.name)
        # Held as long as this process lives, so that a later run can tell what a killed one left behind.
        self._lock = (self.root / _LOCK).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.code = self._made("code")
        self.script = self._made("script")
        self.work = self._made("work")
        self.artifacts = self._made("artifacts")
        self.logs = self._made("logs")
        self.reports = self._made("reports")
        self.spill = self._made("spill")
        self.layer = self.root / "layer"
        self.layer_site = layer_site(self.layer)
        self.tls = self.root / "tls"
        self.address_file = self.root / "scheduler-address"

    def write_code(self, files: Mapping[str, str]) -> None:
        """Puts the files of a code ConfigMap where they can be imported."""
        for name, text in files.items():
            (self.code / name).write_text(text, newline="")

    def copy_code(self, folder: Path) -> None:
        """Puts a copy of a folder's files where they can be imported."""
        ignored = shutil.ignore_patterns("__pycache__", ".git", ".venv", ".*_cache")
        shutil.copytree(folder, self.code, dirs_exist_ok=True, ignore=ignored)

    def left_in_work(self) -> list[str]:
        """The files that the code wrote to its working folder, which are not kept."""
        return sorted(str(path.relative_to(self.work)) for path in self.work.rglob("*") if path.is_file())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.close()
        self._folder.cleanup()

    def _made(self, name: str) -> Path:
        folder = self.root / name
        folder.mkdir()
        return folder


def remove_abandoned() -> None:
    """Removes the workspaces of this user's runs that were killed: those whose lock nobody holds any more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError), (folder / _LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
