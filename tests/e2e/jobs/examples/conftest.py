"""The image that has what the examples' packages name, and how such an example is run."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from example_runs import job_file

ROOT = Path(__file__).parents[4]
RUNTIME_ML = "dask-training-runtime-ml:dev"


@pytest.fixture(scope="session")
def runtime_ml(kind_cluster) -> str:
    """The runtime image with dask-ml, pyarrow and XGBoost, on the cluster's node."""
    scripts = ROOT / "images"
    for command in ([scripts / "build.sh", "runtime-ml"], [scripts / "kind-node" / "cluster.sh", "load", RUNTIME_ML]):
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=900)
    return RUNTIME_ML


@pytest.fixture
def train(jobs) -> Callable[..., dict]:
    """Applies an example's job.yaml with these arguments for its script; gives the job once it has succeeded."""

    def train(example: str, *arguments: str, timeout: float = 170, **spec) -> dict:
        body = yaml.safe_load(job_file(example))
        body["spec"]["runner"]["args"] = list(arguments)
        body["spec"] |= spec
        workers = body["spec"]["workers"]
        workers.setdefault("minReplicas", workers["replicas"])  # as job_with_all_workers, but where it is not given
        jobs.apply(body)
        body = jobs.end(body["metadata"]["name"], timeout)
        assert body["status"]["phase"] == "Succeeded", jobs.described(body)
        return body

    return train
