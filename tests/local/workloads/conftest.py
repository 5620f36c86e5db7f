"""Runs a job of many parts once for all the tests of a module, with `dask-training run` as a user does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from dask_training import api

JOBS = Path(__file__).parent / "jobs"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> Callable[..., dict]:
    """What the parts of a job of ./jobs have returned, with so many workers of one thread each."""

    def outcomes(name: str, workers: int) -> dict:
        spec = {
            "activeDeadlineSeconds": 270,
            "runner": {"script": (JOBS / f"{name}.py").read_text()},
            "workers": {"replicas": workers, "minReplicas": workers, "threads": 1},
        }
        body = {"apiVersion": api.API_VERSION, "kind": api.KIND, "metadata": {"name": "parts"}, "spec": spec}
        command = [sys.executable, "-m", "dask_training.cli", "run", "-", "--json"]
        command += ["--artifacts", str(tmp_path_factory.mktemp(name[:8]))]
        done = subprocess.run(
            command, input=yaml.safe_dump(body), capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr
        finished = json.loads(done.stdout.splitlines()[-1])
        folder = Path(finished["artifacts"]["url"].removeprefix("file://"))
        return json.loads((folder / "outcomes.json").read_text())

    return outcomes
