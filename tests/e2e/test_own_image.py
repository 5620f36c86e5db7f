"""A job runs in an image that its user has built on another base than ours."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "images" / "own-image-example"
IMAGE = "own-image-example:test"
# What python:3.12-slim is elsewhere, and whatever of ours pip would fetch from an index were it published.
BASE = """
FROM dask-training-base:trixie
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-pip && ln -s python3 /usr/bin/python
ENV PIP_BREAK_SYSTEM_PACKAGES=1
RUN pip install --ignore-installed pip && apt-get purge -y --autoremove python3-pip
COPY constraints.txt *.whl /packages/
ENV PIP_FIND_LINKS=/packages PIP_CONSTRAINT=/packages/constraints.txt
"""
SCRIPT = """
import sys
import dask_training
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
import joblib
X, y = load_iris(return_X_y=True)
with joblib.parallel_config(n_jobs=-1):
    model = RandomForestClassifier(20).fit(X, y)
dask_training.report(accuracy=model.score(X, y), minor=sys.version_info.minor)
"""
SMALL = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}}


@pytest.fixture(scope="module")
def own_image(cluster, tmp_path_factory) -> str:
    """The documented Dockerfile on Debian 13 with Python 3.13, and on the node."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "Dockerfile").write_text(BASE)
    lock = (ROOT / "locks" / "runtime.txt").read_text()
    pins = re.findall(r"^(\S+==\S+(?: ; .*?)?) \\$", lock, re.MULTILINE)
    assert len(pins) > 30
    (folder / "constraints.txt").write_text("\n".join(pins) + "\n")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    cluster.run(str(ROOT / "images/kind-node/base-image.sh"), "trixie", timeout=600)
    cluster.docker("build", "-t", "own-image-base:test", str(folder), timeout=600)
    cluster.docker("build", "-t", IMAGE, "--build-arg", "BASE=own-image-base:test", str(EXAMPLE), timeout=600)
    cluster.run(str(ROOT / "images/kind-node/cluster.sh"), "load", IMAGE, timeout=300)
    shutil.rmtree(folder)
    return IMAGE


def job(image: str) -> dict:
    return {
        "apiVersion": "dask-training.io/v1alpha1",
        "kind": "DaskTrainingJob",
        "metadata": {"name": "own-image"},
        "spec": {
            "image": image,
            "imagePullPolicy": "Never",
            "runner": {"script": SCRIPT, "resources": SMALL},
            "scheduler": {"resources": SMALL},
            "workers": {"replicas": 1, "resources": SMALL},
        },
    }


@pytest.mark.timeout(1200)
def test_a_job_runs_in_an_image_of_its_user_s_own(own_image, apply, job_status, wait_for):
    apply(job(own_image))
    wait_for(lambda: job_status("own-image").get("phase") in {"Succeeded", "Failed"}, timeout=120)
    status = job_status("own-image")
    assert status["phase"] == "Succeeded", status
    assert status["metrics"]["minor"] == 13, "Debian 13's Python, not ours"
    assert status["artifacts"]["files"] > 3


def test_an_image_without_our_package_is_named_as_such(cluster, apply, job_status, wait_for):
    """The base image of ours has neither Python nor our package."""
    cluster.run(str(ROOT / "images/kind-node/cluster.sh"), "load", "dask-training-base:bookworm", timeout=300)
    apply(job("dask-training-base:bookworm"))
    status = wait_for(lambda: (found := job_status("own-image")).get("phase") == "Failed" and found, timeout=120)
    assert "dask-training[runtime]" in status["message"], status
