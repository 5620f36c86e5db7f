"""The clusters that are measured: a scheduler and workers, a process each, no nanny, loopback TCP."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
# What the job's pods have: one thread per core for BLAS and OpenMP. A benchmark's own process needs it before NumPy.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
ENVIRONMENT = ONE_THREAD | {"PYTHONPATH": str(ROOT)}
START_SECONDS = 60
WORKER_TTL = "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL"  # a paused cluster is silent for minutes


@dataclass(frozen=True)
class Cluster:
    """A running cluster."""

    address: str
    processes: tuple[subprocess.Popen[bytes], ...]

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """All its processes stopped: what is idle takes no time from what is measured."""
        for process in self.processes:
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in self.processes:
                process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def cluster(workers: int = 2, threads: int = 1, *, launcher: str | None = None) -> Iterator[Cluster]:
    """A running cluster; its processes are gone afterwards.

    launcher: a module to run in the place of distributed's commands, with the command's name as its first argument.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        file = Path(folder, "scheduler.json")
        environment = os.environ | ENVIRONMENT | {"DASK_TEMPORARY_DIRECTORY": folder, WORKER_TTL: "1 hour"}
        processes: list[subprocess.Popen[bytes]] = []

        def start(command: str, *args: str) -> None:
            module = [launcher, command] if launcher else [f"distributed.cli.{command}"]
            command_line = [sys.executable, "-m", *module, "--no-dashboard", *args]
            process = subprocess.Popen(command_line, stderr=subprocess.DEVNULL, env=environment, cwd=folder)
            stack.callback(process.wait)
            stack.callback(process.kill)
            processes.append(process)

        start("dask_scheduler", "--port", "0", "--scheduler-file", str(file))
        for _ in range(workers):
            start("dask_worker", "--scheduler-file", str(file), "--nthreads", str(threads), "--no-nanny")
        deadline = time.monotonic() + START_SECONDS
        while not file.exists() or not file.read_text().strip():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the Dask scheduler did not start within {START_SECONDS} seconds")
            time.sleep(0.02)
        yield Cluster(str(json.loads(file.read_text())["address"]), tuple(processes))
