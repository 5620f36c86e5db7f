"""A Dask cluster of real processes, whose workers can be killed as a kernel or a cloud kills them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import joblib
import joblib.parallel
import pytest
from distributed import Client
from machine import slowdown, wait_until

from dask_training.joblib_backend import register

START_SECONDS = 30

sys.path.insert(0, str(Path(__file__).parent))  # remote_tasks: tests and workers import it by the same name


class Processes:
    """A scheduler and its workers, each a process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workers: list[subprocess.Popen] = []
        file = folder / "scheduler.json"
        self.scheduler = self._start("dask_scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
        self.address = wait_until(
            lambda: file.exists() and file.read_text().strip() and json.loads(file.read_text())["address"]
        )

    def _start(self, module: str, *args: str) -> subprocess.Popen:
        command = [sys.executable, "-m", f"distributed.cli.{module}", *args]
        env = os.environ | {
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONPATH": str(Path(__file__).parent),
            "DASK_TEMPORARY_DIRECTORY": str(self.folder),
            # It takes away copies that no task waits for, which tests count.
            "DASK_DISTRIBUTED__SCHEDULER__ACTIVE_MEMORY_MANAGER__START": "False",
        }
        with (self.folder / "processes.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=self.folder)

    def add_worker(self, threads: int = 1) -> subprocess.Popen:
        """Start a worker; it joins about half a second later."""
        options = ["--nthreads", str(threads), "--no-nanny", "--no-dashboard", "--death-timeout", "20"]
        process = self._start("dask_worker", self.address, *options, "--local-directory", str(self.folder))
        self.workers.append(process)
        return process

    def kill_workers(self, number: int | None = None) -> None:
        """SIGKILL so many of the running workers, or all."""
        running = [worker for worker in self.workers if worker.poll() is None]
        for worker in running[:number]:
            worker.kill()
            worker.wait()

    def close(self) -> None:
        for process in [*self.workers, self.scheduler]:
            if process.poll() is None:
                process.kill()
                process.wait()


@contextlib.contextmanager
def _cluster(folder: Path, workers: int, threads: int = 1):
    processes = Processes(folder)
    try:
        for _ in range(workers):
            processes.add_worker(threads)
        with Client(processes.address) as client:
            if workers:
                client.wait_for_workers(workers, timeout=START_SECONDS * slowdown())
            processes.client = client
            yield processes
    finally:
        processes.close()


@pytest.fixture
def poll():
    """`wait_until`, for tests."""
    return wait_until


@pytest.fixture
def start_cluster(tmp_path):
    """Start a cluster of the test's own: `start_cluster(workers, threads)` gives its processes and client."""
    with contextlib.ExitStack() as stack:
        yield lambda workers=2, threads=1: stack.enter_context(_cluster(tmp_path, workers, threads))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two workers of one thread, for tests that leave them alive."""
    with _cluster(tmp_path_factory.mktemp("dask"), 2) as processes:
        yield processes


@pytest.fixture(autouse=True)
def registered():
    """Our backend under joblib's names, with its own defaults; joblib's registry as it was afterwards."""
    before = dict(joblib.parallel.BACKENDS)
    register()
    yield
    register()
    joblib.parallel.BACKENDS.clear()
    joblib.parallel.BACKENDS.update(before)


@pytest.fixture(autouse=True)
def no_threads_left():
    """Fails a test that leaves one of the backend's threads running."""
    yield
    wait_until(lambda: not any(thread.name == "dask-training-joblib" for thread in threading.enumerate()), 5)


@pytest.fixture
def dask(cluster):
    """Joblib's default backend is ours, on the module's cluster."""
    with joblib.parallel_config("dask"):
        yield cluster.client
