"""What the two places where workers run have in common: processes of this machine, and pods of a cluster."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

import msgspec

from dask_training.runner.console import Launch
from dask_training.workers.records import Worker
from dask_training.workers.request import Request


class Refused(msgspec.Struct, frozen=True):
    """A quota refused a group of workers, none of which runs: the ids they would have had, and Kubernetes' words."""

    ids: tuple[str, ...]
    message: str

    def as_dicts(self) -> list[dict[str, Any]]:
        """As CML says it: without `id`."""
        return [{"engineId": each, "k8sMessage": self.message, "message": self.message} for each in self.ids]


class Group(Protocol):
    """The workers of one call of `launch_workers`."""

    ids: tuple[str, ...]

    def stop(self, ids: Collection[str]) -> None:
        """Stop these workers; returns when they have ended, or will end for sure."""

    def begin_close(self) -> None:
        """Tell all that run to stop, without waiting for it; raises nothing."""

    def close(self) -> None:
        """Stop all that run and let go of everything; raises nothing."""


def launch_document(request: Request) -> bytes:
    """What a worker reads that it is to run."""
    launch = Launch(kernel=request.kernel, script=request.script, code=request.code, threads=request.threads)
    return msgspec.json.encode(launch)


def label_of(group: str, index: int) -> str:
    """What a worker's lines are marked with."""
    return f"{group}-{index}"


def ended_badly(worker: Worker) -> str:
    """One line about a worker that failed."""
    code = "" if worker.exit_code is None else f" (exit code {worker.exit_code})"
    return f"{worker.label} {worker.status}{code}{f': {worker.message}' if worker.message else ''}"
