"""The cluster that is measured: a scheduler and two workers of one thread, no nanny, loopback TCP."""

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

ROOT = Path(__file__).parents[2]
WORKERS = 2
# What the job's pods have: one thread per core for BLAS and OpenMP.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@contextlib.contextmanager
def cluster() -> Iterator[str]:
    """A running cluster's address; its processes are gone afterwards."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        file = Path(folder, "scheduler.json")
        environment = os.environ | ENVIRONMENT | {"DASK_TEMPORARY_DIRECTORY": folder}

        def start(module: str, *args: str) -> None:
            command = [sys.executable, "-m", f"distributed.cli.{module}", "--no-dashboard", *args]
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment, cwd=folder)
            stack.callback(process.wait)
            stack.callback(process.kill)

        start("dask_scheduler", "--port", "0", "--scheduler-file", str(file))
        for _ in range(WORKERS):
            start("dask_worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-nanny")
        deadline = time.monotonic() + 30
        while not file.exists() or not file.read_text().strip():
            if time.monotonic() > deadline:
                raise TimeoutError("the Dask scheduler did not start within 30 seconds")
            time.sleep(0.02)
        yield str(json.loads(file.read_text())["address"])
