"""The runner's small parts."""

import json
import ssl
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from dask_training.api import Phase, Reason
from dask_training.certificates import make_certificates
from dask_training.errors import StartupDeadlineError
from dask_training.local.workspace import TemporaryWorkspace
from dask_training.model import TrainingJob
from dask_training.model.scripts import modules_imported_by
from dask_training.runner import dask_environment, events, packages, records
from dask_training.runner.address import scheduler_address, write_address
from dask_training.runner.code import child_config
from dask_training.runner.logs import LogFile


@pytest.mark.parametrize(
    "event",
    [
        events.PhaseChanged(phase=Phase.RUNNING, message="m"),
        events.WorkersChanged(desired=2, ready=1, restarts=1),
        events.DashboardReady(url="http://127.0.0.1:1/status"),
        events.Output(line="[bold] ünï \x1b[31m", stream="stderr", source="worker-0"),
        events.Progress(done=1, total=None, call=1, name="fit"),
        events.MetricsReported(metrics={"a": 1.5, "b": "x", "c": None, "d": True}),
        events.Notice(message="n", level="info"),
        events.ArtifactsStored(url="/a", files=1, bytes=2, manifest_sha256="0" * 64, names=("a",)),
        events.Finished(phase=Phase.FAILED, reason=Reason.RUNNER_FAILED, message="m", exit_code=1),
    ],
)
def test_events_are_one_line_of_json_and_come_back(event):
    line = events.to_json(event)
    assert "\n" not in line
    assert events.from_json(line) == event
    assert {"type", "at"} <= set(json.loads(line))


def test_what_is_no_event_is_refused():
    with pytest.raises(msgspec.ValidationError):
        events.from_json('{"type": "phase"}')


def test_a_log_keeps_its_tail_and_says_what_it_left_out(tmp_path):
    log = LogFile(tmp_path / "logs" / "a.log", limit_bytes=20)
    for number in range(10):
        log.write(f"line {number}")
    log.close()
    log.write("too late")
    log.close()
    text = (tmp_path / "logs" / "a.log").read_text()
    assert text == "line 0\nline 1\n[dask-training: 8 more lines, past the limit of 20 bytes]\n"
    assert log.tail(2) == ["line 9", "too late"]


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("import numpy as np\nfrom sklearn.svm import SVC\nimport os, mymodule\n", ["numpy", "sklearn.svm"]),
        ("def f():\n    import pandas\n", []),
        ("from . import x\nfrom .sklearn import y\n", []),
        ("import sklearn.\n", []),
        ("import numpy\x00", []),
    ],
)
def test_what_a_script_imports_first(source, modules):
    assert modules_imported_by(source) == modules


def test_pips_reason_is_the_end_of_its_errors():
    output = ["Collecting x", "ERROR: Could not find a version that satisfies x", "ERROR: No matching distribution"]
    message = str(packages.failure(["x"], 1, output))
    assert (
        "pip could not install x (exit code 1):\n  Could not find a version that satisfies x\n  No matching" in message
    )
    assert "it printed nothing" in str(packages.failure(["x"], 2, []))


def test_certificates_are_of_one_ca_and_valid_already(tmp_path):
    made = make_certificates("job", ("scheduler", "worker", "client"), lifetime_seconds=60)
    ca = x509.load_pem_x509_certificate(made.ca)
    for role, leaf in made.leaves.items():
        certificate = x509.load_pem_x509_certificate(leaf.certificate)
        certificate.verify_directly_issued_by(ca)
        assert certificate.subject.rfc4514_string() == f"CN=job {role}"
        assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
        assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).total_seconds() > 24 * 3600
        assert "key" not in repr(leaf)
    dask_environment.write_certificates(made, tmp_path / "tls")
    files = sorted((tmp_path / "tls").iterdir())
    assert [file.name for file in files] == ["ca.pem", "client.pem", "scheduler.pem", "worker.pem"]
    assert all(file.stat().st_mode & 0o077 == 0 for file in [*files, tmp_path / "tls"])
    ssl.create_default_context(cafile=tmp_path / "tls" / "ca.pem").load_cert_chain(tmp_path / "tls" / "worker.pem")


def test_the_outer_environment_does_not_steer_a_run():
    outer = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "1", "DASK_TRAINING_ROLE": "worker", "HOME": "/root"}
    assert dask_environment.without_dask(outer) == {"HOME": "/root"}


def test_an_address_that_never_comes_ends_the_wait(tmp_path, monkeypatch):
    with pytest.raises(StartupDeadlineError, match="no scheduler answers at"):
        scheduler_address(tmp_path / "address", timeout=0.05)
    write_address(tmp_path / "address", "tls://127.0.0.1:9")
    assert scheduler_address(tmp_path / "address", timeout=0.05) == "tls://127.0.0.1:9"
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tls://127.0.0.1:9")
    with pytest.raises(StartupDeadlineError, match=r"tls://127\.0\.0\.1:9"):
        scheduler_address(None, timeout=0.05)


values = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False)


@given(own=st.dictionaries(st.text(), values | st.lists(values)), reported=st.dictionaries(st.text(), values))
def test_reported_metrics_win_over_those_of_the_file(tmp_path_factory, own, reported):
    folder = tmp_path_factory.mktemp("artifacts")
    (folder / "metrics.json").write_text(json.dumps(own))
    metrics, notes = records.write_metrics(folder, reported)
    assert notes == []
    assert json.loads((folder / "metrics.json").read_text()) == {**own, **reported}
    assert metrics == {name: value for name, value in {**own, **reported}.items() if not isinstance(value, list)}


def test_a_workspace_is_private_and_goes_with_its_user(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with TemporaryWorkspace() as workspace:
        assert workspace.root.stat().st_mode & 0o077 == 0
        (workspace.work / "left.txt").write_text("x")
        assert workspace.left_in_work() == ["left.txt"]
        with TemporaryWorkspace():
            assert workspace.root.exists()  # in use: not taken for abandoned
    assert list(tmp_path.iterdir()) == []


def test_an_abandoned_workspace_is_removed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    abandoned = tmp_path / "dask-training-dead"
    abandoned.mkdir()
    (abandoned / "in-use").touch()
    other = tmp_path / "dask-training-notes.txt"
    other.touch()
    with TemporaryWorkspace():
        assert not abandoned.exists()
    assert list(tmp_path.iterdir()) == [other]


@pytest.mark.parametrize(
    ("workers", "here", "most"),
    [
        ({"maxReplicas": 8, "threads": 2}, False, 16),
        ({"maxReplicas": 8, "threads": 2}, True, 0),
        ({"maxReplicas": 8, "adaptive": False}, False, 0),
        ({"replicas": 4}, False, 0),
    ],
    ids=["adaptive", "on this machine", "adaptive: false", "no maxReplicas"],
)
def test_joblib_sends_tasks_for_more_threads_than_there_are_only_where_there_will_be_more(workers, here, most):
    job = TrainingJob.from_body(
        {"metadata": {"name": "forest"}, "spec": {"runner": {"module": "m"}, "workers": workers}}
    )
    config = child_config(job, script=None, address_file=Path("address") if here else None)
    assert config.joblib.most_cores == most
