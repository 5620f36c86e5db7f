"""The clusters that are measured: a scheduler and workers, a process each, no nanny, loopback TCP."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
# What the job's pods have: one thread per core for BLAS and OpenMP. A benchmark's own process needs it before NumPy.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
ENVIRONMENT = ONE_THREAD | {"PYTHONPATH": str(ROOT)}


@contextlib.contextmanager
def cluster(workers: int = 2, threads: int = 1, *, launcher: str | None = None) -> Iterator[str]:
    """A running cluster's address; its processes are gone afterwards.

    launcher: a module to run in the place of distributed's commands, with the command's name as its first argument.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        file = Path(folder, "scheduler.json")
        environment = os.environ | ENVIRONMENT | {"DASK_TEMPORARY_DIRECTORY": folder}

        def start(command: str, *args: str) -> None:
            module = [launcher, command] if launcher else [f"distributed.cli.{command}"]
            process = subprocess.Popen(
                [sys.executable, "-m", *module, "--no-dashboard", *args],
                stderr=subprocess.DEVNULL,
                env=environment,
                cwd=folder,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)

        start("dask_scheduler", "--port", "0", "--scheduler-file", str(file))
        for _ in range(workers):
            start("dask_worker", "--scheduler-file", str(file), "--nthreads", str(threads), "--no-nanny")
        deadline = time.monotonic() + 30
        while not file.exists() or not file.read_text().strip():
            if time.monotonic() > deadline:
                raise TimeoutError("the Dask scheduler did not start within 30 seconds")
            time.sleep(0.02)
        yield str(json.loads(file.read_text())["address"])
