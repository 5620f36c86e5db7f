"""The job as the operator hands it to the runner."""

import json

import pytest

from dask_training.manifests.secrets import job_document
from dask_training.model import TrainingJob

RUNNERS = {
    "script": {"script": "print(1)\n"},
    "module": {"module": "training"},
    "command": {"command": ["python", "-V"], "args": ["x"]},
    "scriptFrom": {"scriptFrom": {"configMap": {"name": "code", "key": "train.py"}}},
}


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_the_runner_reads_the_job_that_the_operator_has(runner):
    body = {
        "apiVersion": "dask-training.io/v1alpha1",
        "kind": "DaskTrainingJob",
        "metadata": {"name": "forest", "namespace": "team", "uid": "1-2-3"},
        "spec": {"runner": runner, "workers": {"replicas": 3, "resources": {"limits": {"memory": "1Gi"}}}},
    }
    job = TrainingJob.from_body(body)
    read = json.loads(job_document(job))
    assert TrainingJob.from_body(read) == job
    # Another version of the package, in an image of the user's own, may have other defaults.
    assert read["spec"]["startupDeadlineSeconds"] == 600
