"""What the processes of a job run with: packages of its own, the same versions, credentials for its data."""

from __future__ import annotations

import base64
import json

from dask_training import api

# What runner and worker import, beside each other; the script goes on when the test says so.
VERSIONS = """
import importlib.metadata
from joblib import Parallel, delayed

def version(_):
    import importlib.metadata, iniconfig
    return importlib.metadata.version("iniconfig"), iniconfig.__file__.startswith("/work/")

import iniconfig
found = {version(0), *Parallel(n_jobs=2)(delayed(version)(n) for n in range(4))}
print("found", found, flush=True)
"""


def versions_condition(body: dict) -> dict:
    return next((each for each in body["status"]["conditions"] if each["type"] == "VersionsMatch"), {})


def test_two_jobs_with_different_versions_of_a_package_run_at_the_same_time(jobs, wait_script):
    names = {"old": "2.0.0", "new": "2.1.0"}
    for name, version in names.items():
        jobs.start(name, VERSIONS + wait_script, packages=[f"iniconfig=={version}"])
    pods = {name: jobs.pod(name, "runner", timeout=90) for name in names}
    logs = {name: jobs.logged(pod, "waiting", timeout=90) for name, pod in pods.items()}
    assert [jobs.get(name)["status"].get("phase") for name in names] == ["Running", "Running"]
    for pod in pods.values():
        jobs.release(pod)
    for name, body in jobs.ends(*names).items():
        assert body["status"]["phase"] == "Succeeded", jobs.described(body)
        assert f"found {{('{names[name]}', " in logs[name], logs[name]
        assert versions_condition(body)["status"] == "True", jobs.described(body)
        assert "VersionMismatch" not in {event["reason"] for event in jobs.events(name)}


def test_pods_that_have_installed_different_versions_are_told_of(jobs, wait_script):
    """As when packages without versions are installed at different times: here the runner alone has a constraint."""
    jobs.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "pip"}, "data": {"c.txt": "iniconfig==2.0.0\n"}}
    )
    runner = {
        "env": [{"name": "PIP_CONSTRAINT", "value": "/constraints/c.txt"}],
        "volumeMounts": [{"name": "constraints", "mountPath": "/constraints"}],
    }
    volumes = [{"name": "constraints", "configMap": {"name": "pip"}}]
    jobs.start("differ", VERSIONS + wait_script, runner=runner, volumes=volumes, packages=["iniconfig>=2.0"])
    pod = jobs.pod("differ", "runner", timeout=90)
    differs = jobs.until("differ", lambda body: versions_condition(body).get("status") == "False", timeout=90)
    said = versions_condition(differs)
    assert said["reason"] == "VersionMismatch"
    worker = api.child_name("differ", differs["metadata"]["uid"], 1, api.Role.WORKER, 0)
    assert "iniconfig is 2.0.0 in the runner, 2." in said["message"]
    assert f" in {worker}. " in said["message"]
    assert "pin spec.packages" in said["message"]
    assert differs["status"]["phase"] == "Running"
    assert f"[dask-training] {said['message']}" in jobs.log(pod)
    jobs.release(pod)
    body = jobs.end("differ")
    assert body["status"]["phase"] == "Succeeded", jobs.described(body)
    assert versions_condition(body)["message"] == said["message"]
    told = jobs.told("differ", "VersionMismatch")
    assert [(event["type"], event["message"]) for event in told] == [("Warning", said["message"])]


DATA = """
import os, s3fs
import pandas as pd
from joblib import Parallel, delayed
import dask_training

folder = os.environ["DATA"]
storage = s3fs.S3FileSystem()
for part in range(4):
    with storage.open(f"{folder}/part-{part}.csv", "w") as file:
        file.write("value\\n" + "".join(f"{part * 50 + number}\\n" for number in range(50)))

def total(number):
    return os.environ["DASK_TRAINING_ROLE"], int(pd.read_csv(f"{folder}/part-{number}.csv").value.sum())

found = Parallel(n_jobs=2)(delayed(total)(number) for number in range(4))
assert {role for role, _ in found} == {"worker"}, found
here = pd.read_csv(f"{folder}/part-3.csv")
dask_training.report(total=sum(value for _, value in found), here=len(here))
"""


def test_data_in_s3_are_read_with_a_secrets_credentials_that_are_nowhere_else(jobs, fetch):
    """From the store that the chart installs; its Secret is as any other."""
    data = {"name": "DATA", "value": f"s3://{api.store_bucket(jobs.namespace)}/data"}
    jobs.start("data", DATA, env=[data], envFrom=[{"secretRef": {"name": api.STORE_SECRET}}])
    body = jobs.end("data")
    assert body["status"]["phase"] == "Succeeded", jobs.described(body)
    assert body["status"]["metrics"] == {"total": sum(range(200)), "here": 50}

    kept = fetch("data")
    assert "environment.json" in kept.files
    texts = [path.read_text(errors="replace") for path in kept.folder.rglob("*") if path.is_file()]
    seen = "\n".join([json.dumps(body), json.dumps(jobs.events("data")), *texts])
    assert "pandas" in seen
    secret = jobs.api.get(f"/api/v1/namespaces/{jobs.namespace}/secrets/{api.STORE_SECRET}")["data"]
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert base64.b64decode(secret[name]).decode() not in seen, name
