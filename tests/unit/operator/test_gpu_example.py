"""The job of examples/gpu as pods: who gets a GPU, and where they may run."""

from __future__ import annotations

import copy
import datetime
import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from dask_training.manifests import Attempt, runner_pod, scheduler_pod, worker_pod
from dask_training.model import TrainingJob, load_job_file
from dask_training.settings import OperatorSettings

EXAMPLE = Path(__file__).parents[3] / "examples" / "gpu"
BODY = yaml.safe_load((EXAMPLE / "job.yaml").read_text())
UID = "0a1b2c3d-0000-4000-8000-000000000000"


def with_own_image():
    """As the comments in the job file and in the Dockerfile have it."""
    body = copy.deepcopy(BODY)
    del body["spec"]["packages"]
    body["spec"]["image"] = "registry.example.com/team/training-gpu:1"
    return body


def pods_of(body):
    metadata = {"namespace": "ml", "uid": UID, **body["metadata"]}
    job = TrainingJob.from_body({**body, "metadata": metadata})
    settings = OperatorSettings(key=b"k" * 32, namespace="system")
    attempt = Attempt(job, 1, settings, datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC))
    return scheduler_pod(attempt), runner_pod(attempt, "10.0.0.1"), worker_pod(attempt, 0, "10.0.0.1")


@pytest.mark.parametrize("body", [BODY, with_own_image()], ids=["packages", "own image"])
@pytest.mark.parametrize("version", ["1.29.0", "1.34.0"])
def test_both_ways_are_valid_jobs_and_valid_pods(body, version):
    job = load_job_file(yaml.safe_dump(body), source="job.yaml").job(None)
    assert job.name == "gpu"
    for pod in pods_of(body):
        kubernetes_validate.validate(pod, version, strict=True)


def test_each_worker_has_one_gpu_and_nobody_else_any():
    scheduler, runner, worker = (pod["spec"]["containers"][0]["resources"] for pod in pods_of(BODY))
    assert worker["limits"]["nvidia.com/gpu"] == 1
    assert "nvidia.com/gpu" not in str((scheduler, runner))


def test_all_pods_may_run_where_there_are_gpus():
    for pod in pods_of(BODY):
        assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["spec"]["tolerations"]


def test_the_images_and_the_job_have_the_same_xgboost():
    (wanted,) = BODY["spec"]["packages"]
    assert re.fullmatch(r"xgboost==[\d.]+", wanted)  # xgboost-cpu has no CUDA
    images = (EXAMPLE / "Dockerfile").read_text()
    assert set(re.findall(r"xgboost==[\d.]+", images)) == {wanted}
    assert "AS xgboost" in images
    assert "AS rapids" in images
