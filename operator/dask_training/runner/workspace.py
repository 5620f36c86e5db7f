"""The folders of one attempt."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from dask_training.runner.packages import layer_site


class Workspace:
    """Folders below `root`, a place for each thing.

    `code` is importable, `script` holds the inline script, `work` is the code's working folder, `artifacts` what it
    wants kept, `logs` the processes' output, `reports` what the
    cluster says of itself, `layer` what `packages` brought, `tls` the certificates, `spill` what
    workers write to disk.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
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

    def _made(self, name: str) -> Path:
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        return folder
