"""dask_ml with our repairs in this process, and what it does without them in another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from distributed import Client

from dask_training import dask_ml_compat

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))  # dask_ml_cases: tests and workers import it by the same name


@pytest.fixture(scope="session", autouse=True)
def _repaired():
    dask_ml_compat.install()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numba's and dask_ml's own, once, when imported
        import dask_ml.model_selection  # noqa: F401


@pytest.fixture
def run_python():
    """Runs Python code in a process of its own, without our repairs unless it asks for them; gives what it printed."""

    def run(*args: str, expect: int = 0, **env: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(FOLDER), "OMP_NUM_THREADS": "1"} | env
        ended = subprocess.run(
            [sys.executable, *args], capture_output=True, text=True, timeout=120, check=False, env=environment
        )
        assert ended.returncode == expect, ended.stderr
        return ended.stdout + (ended.stderr if expect else "")

    return run


@pytest.fixture(scope="session")
def upstream():
    """The error of each of dask_ml_cases, without our repairs."""
    command = [sys.executable, str(FOLDER / "dask_ml_cases.py")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def client():
    """A cluster in this process."""
    with Client(processes=False, n_workers=2, threads_per_worker=1, dashboard_address=":0") as client:
        yield client


@pytest.fixture(scope="module")
def processes():
    """A cluster of worker processes that have our repairs because the client has asked for them."""
    with Client(
        processes=True, n_workers=2, threads_per_worker=1, dashboard_address=":0", set_as_default=False
    ) as client:
        dask_ml_compat.install(client)
        yield client
