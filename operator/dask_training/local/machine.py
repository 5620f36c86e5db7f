"""What this machine has to give a run."""

from __future__ import annotations

import os
import socket

import psutil

from dask_training.errors import PortTakenError
from dask_training.local.cluster import HOST
from dask_training.model import TrainingJob
from dask_training.runner.verdict import mebibytes


def check_dashboard_port(port: int | None) -> None:
    """Raises `PortTakenError` if something else listens on `port`; 0 and None are always free."""
    if not port:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise PortTakenError(
                f"the dashboard can't listen on port {port} ({error.strerror}): choose another with --dashboard-port, "
                "or leave it out for any free one"
            ) from error


def notes_on_size(job: TrainingJob) -> list[str]:
    """Sentences about a job that asks for more than there is."""
    workers = job.spec.workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    notes = []
    if workers.replicas * workers.nthreads > cores:
        notes.append(
            f"{workers.replicas} workers of {workers.nthreads} thread(s) share this machine's {cores} core(s): "
            "more workers than cores do not make it faster"
        )
    limit = workers.resources.memory_limit_bytes
    there = psutil.virtual_memory().total
    if limit is not None and limit * workers.replicas > there:
        notes.append(
            f"the workers may take {mebibytes(limit * workers.replicas)} in all, this machine has {mebibytes(there)}"
        )
    return notes
