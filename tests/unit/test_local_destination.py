"""Where artifacts go, and with whose credentials."""

from pathlib import Path

import pytest

from dask_training.local.destination import Destination
from dask_training.model import load_job_file
from dask_training.runner.store_credentials import credentials_of

JOB = """\
apiVersion: dask-training.io/v1alpha1
kind: DaskTrainingJob
metadata: {name: forest, uid: 0a1b2c3d-0000-4000-8000-000000000000}
spec:
  runner: {module: train}
  artifacts: {destination: %s}
"""
OUTER = {"AWS_ACCESS_KEY_ID": "outer", "AWS_SESSION_TOKEN": "outer-token", "AWS_REGION": "eu-1"}


@pytest.mark.parametrize(
    ("secret", "found"),
    [
        ({}, OUTER),
        (
            {"AWS_ACCESS_KEY_ID": "own", "AWS_SECRET_ACCESS_KEY": "own-secret"},
            {"AWS_ACCESS_KEY_ID": "own", "AWS_SECRET_ACCESS_KEY": "own-secret", "AWS_REGION": "eu-1"},
        ),
        ({"AWS_REGION": "eu-2", "other": "x"}, {**OUTER, "AWS_REGION": "eu-2"}),
    ],
)
def test_a_key_is_taken_whole_from_one_place(secret, found):
    assert credentials_of(secret, OUTER) == found


def test_each_attempt_has_a_place_of_its_own(tmp_path):
    file = load_job_file(JOB % "null")
    destination = Destination.of(file.job(), file, tmp_path)
    assert not destination.remote
    assert destination.fallback_place(1) is None
    first, second = Path(destination.place(1).prefix), Path(destination.place(2).prefix)
    assert first.parent == second.parent == Path("forest")
    assert second.name == f"{first.name}-attempt2"
    assert first.name.endswith("-0a1b")
    file = load_job_file(JOB % f"{{url: 'file://{tmp_path}/store'}}")
    destination = Destination.of(file.job(), file, tmp_path)
    assert destination.remote
    assert destination.fallback_place(1).prefix.startswith("forest/")
    assert destination.place(2).prefix == "default/forest/0a1b2c3d-0000-4000-8000-000000000000/2"
