"""A job that reads its data from S3 with credentials of a Secret, in runner and workers: they are not to be seen."""

import json

import pytest

SCRIPT = """
import os
import dask.dataframe as dd
import pandas as pd
from joblib import Parallel, delayed
import dask_training

def rows(number):
    return os.getpid(), len(pd.read_csv(f"s3://bucket/runs/data/part-{number}.csv"))

frame = dd.read_csv("s3://bucket/runs/data/part-*.csv")
here = pd.read_csv("s3://bucket/runs/data/part-0.csv")
counts = Parallel(n_jobs=-1)(delayed(rows)(number) for number in range(4))
assert os.getpid() not in {pid for pid, _ in counts}, "these were to be read by workers"
frame.groupby("kind").value.sum().compute().to_csv(os.environ["ARTIFACTS_DIR"] + "/sums.csv")
dask_training.report(total=int(frame.value.sum().compute()), here=len(here), there=sum(rows for _, rows in counts))
"""


@pytest.fixture
def bucket(s3_store):
    """Four CSV files of 50 rows."""
    storage = s3_store()._storage
    for part in range(4):
        rows = "".join(f"{'ab'[number % 2]},{part * 50 + number}\n" for number in range(50))
        storage.put_bytes(f"kind,value\n{rows}".encode(), f"data/part-{part}.csv", lambda: False)


def secret(values):
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "data"}, "stringData": values}


def seen(run):
    """All that the run has said and kept."""
    kept = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    assert {"environment.json", "runner.log", "worker-0.log"} <= {path.name for path in kept}
    return b"\n".join([json.dumps(run.events).encode(), run.stderr.encode(), *kept.values()])


@pytest.mark.usefixtures("bucket")
def test_runner_and_workers_read_with_the_secrets_credentials_which_are_nowhere_to_be_seen(
    run_job, make_job, server, credentials
):
    known = credentials(server.port)
    spec = {"runner": {"script": SCRIPT}, "envFrom": [{"secretRef": {"name": "data"}}], "workers": {"replicas": 2}}
    run = run_job(make_job(spec), secret(known))
    assert run.exit_code == 0, run.output
    assert run.finished["metrics"] == {"total": sum(range(200)), "here": 50, "there": 200}
    assert (run.folder / "sums.csv").read_text() == "kind,value\na,9900\nb,10000\n"
    said = seen(run)
    assert b"sums.csv" in said
    assert known["AWS_ACCESS_KEY_ID"].encode() not in said
    assert known["AWS_SECRET_ACCESS_KEY"].encode() not in said


@pytest.mark.usefixtures("bucket")
def test_a_refused_key_fails_in_the_users_line_without_the_secret(run_job, make_job, server, credentials):
    wrong = credentials(server.port, AWS_SECRET_ACCESS_KEY="canary/wrong+4711")
    spec = {"runner": {"script": SCRIPT}, "envFrom": [{"secretRef": {"name": "data"}}]}
    run = run_job(make_job(spec), secret(wrong))
    assert run.exit_code == 1
    assert run.finished["reason"] == "RunnerFailed"
    assert "PermissionError" in run.finished["message"]
    assert "of spec.runner.script" in run.finished["message"]
    assert b"canary/wrong" not in seen(run)
