"""The workers of this session: who they are, how they are launched, and their end with the session."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from pathlib import Path
from typing import Any

import msgspec

from dask_training.client.connection import is_configured
from dask_training.workers import output
from dask_training.workers.launcher import Group, Refused
from dask_training.workers.records import Table, Worker
from dask_training.workers.request import Request
from dask_training.workers.session import Identity, identify, set_variables

_VARIABLES = ("local", "namespace", "context", "image", "packages", "project")
_LOCAL = {"": None, "true": True, "1": True, "false": False, "0": False}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Where workers are launched, and with what; `project` None: the working directory, False: none is sent."""

    local: bool | None = None
    namespace: str | None = None
    context: str | None = None
    image: str = ""
    packages: tuple[str, ...] = ()
    project: Path | bool | None = None

    @property
    def folder(self) -> Path:
        """The project's folder."""
        return self.project if isinstance(self.project, Path) else Path.cwd()


def from_environment() -> Settings:
    """What `DASK_TRAINING_WORKERS_...` variables say: for scripts that can't be changed to call `configure`."""
    given = {name: os.environ.get(f"DASK_TRAINING_WORKERS_{name.upper()}", "").strip() for name in _VARIABLES}
    local = given["local"].lower()
    if local not in _LOCAL:
        raise ValueError(f"DASK_TRAINING_WORKERS_LOCAL must be true or false, got {local!r}")
    return Settings(
        local=_LOCAL[local],
        namespace=given["namespace"] or None,
        context=given["context"] or None,
        image=given["image"],
        packages=tuple(given["packages"].split()),
        project=Path(given["project"]).resolve() if given["project"] else None,
    )


class Session:
    """What one process has launched."""

    def __init__(self) -> None:
        self.settings = from_environment()
        self.table = Table()
        self.refused: set[str] = set()
        self._groups: dict[str, Group] = {}
        self._lock = threading.Lock()
        self._identity: Identity | None = None
        self._said_local = False

    @property
    def identity(self) -> Identity:
        """Who this session is."""
        if self._identity is None:
            self._identity = identify()
        return self._identity

    def introduce(self) -> None:
        """Set the `CDSW_*` variables that this process lacks."""
        set_variables(self.identity)

    def launch(self, request: Request) -> list[dict[str, Any]]:
        """Launch the workers; the dictionaries that CML gives."""
        group = self._launched(request)
        if isinstance(group, Refused):
            self.refused.update(group.ids)
            output.note(f"none of {request.n} workers was launched: {group.message}")
            return group.as_dicts()
        self.adopt(group)
        return [worker.as_dict() for worker in self.of(group.ids)]

    def adopt(self, group: Group) -> None:
        """Take the workers of *group*, which are in the table, for those of this session."""
        self.end_with_process()
        with self._lock:
            self._groups |= dict.fromkeys(group.ids, group)

    def of(self, ids: tuple[str, ...] | list[str]) -> list[Worker]:
        """The workers of these ids."""
        return [worker for each in ids if (worker := self.table.get(each)) is not None]

    def stop(self, ids: list[str]) -> None:
        """Stop those of these workers that run."""
        with self._lock:
            groups = {id(self._groups[each]): self._groups[each] for each in ids}
        running = {worker.id for worker in self.of(ids) if not worker.is_final}
        for group in groups.values():
            if chosen := [each for each in group.ids if each in running]:
                group.stop(chosen)

    def end_with_process(self) -> None:
        """Have everything end with this process, before what was set up until now is taken apart.

        The Kubernetes client removes the files with its credentials at the process's end, the last registered first.
        """
        atexit.unregister(self.close)
        atexit.register(self.close)

    def close(self) -> None:
        """End everything; raises nothing."""
        groups = list({id(group): group for group in self._groups.values()}.values())
        for group in groups:
            with contextlib.suppress(Exception):
                group.begin_close()
        for group in groups:
            with contextlib.suppress(Exception):
                group.close()

    def is_local(self) -> bool:
        """Whether workers are processes of this machine: where no Kubernetes is configured, or as `configure` says."""
        if self.settings.local is not None:
            return self.settings.local
        if is_configured():
            return False
        if not self._said_local:
            self._said_local = True
            output.note("no Kubernetes is configured here: workers are processes of this machine")
        return True

    def _launched(self, request: Request) -> Group | Refused:
        if self.is_local():
            if request.nvidia_gpu:
                output.note("nvidia_gpu is not honoured on this machine: each worker sees all of its GPUs")
            from dask_training.workers import processes  # noqa: PLC0415 - needs the extra runtime, pods do not

            return processes.launch(request, self.identity, self.table, self.settings.folder)
        from dask_training.workers import pods  # noqa: PLC0415 - needs the extra client

        return pods.launch(request, self.identity, self.table, self.settings)


session = Session()
