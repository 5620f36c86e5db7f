"""A session's job from its client's side, against an API server: made, waited for, let go of, and never left behind."""

from __future__ import annotations

import asyncio
import importlib
import math
import threading
import time
import tomllib
import types

import pytest
from machine import give_up_at, slowdown

from dask_training.client.connection import Connection
from dask_training.errors import (
    AlreadyExistsError,
    ClusterStartError,
    ClusterStartTimeoutError,
    NotAttachableError,
    NotFoundError,
    OptionError,
)
from dask_training.session import TrainingCluster, job, list_clusters, remote
from dask_training.session.options import PARAMETERS, checked
from dask_training.session.pulse import Pulse

COLLECTION = "/apis/dask-training.io/v1alpha1/namespaces/default/dasktrainingjobs"
READY = {
    "phase": "Running",
    "attempt": 1,
    "schedulerAddress": "tls://10.0.0.1:8786",
    "session": {"certificate": "CERT", "certificateAuthority": "CA"},
    "message": "1/1 workers",
}
PLAIN = {
    "n_workers": 1,
    "cpu": 1,
    "gpu": 0,
    "packages": (),
    "secrets": (),
    "idle_timeout": None,
    "no_client_timeout": "auto",
    "shutdown_on_close": True,
    "startup_timeout": 5,
    "wait": True,
}


class Launched:
    """A launch in a thread; the test plays the operator meanwhile."""

    def __init__(self, api, seconds=60.0, **given) -> None:
        self.api = api
        self.said: list[str] = []
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self.job = None
        options = checked(dict.fromkeys(PARAMETERS) | PLAIN | {"name": "mine"} | given)
        self.thread = threading.Thread(target=self._run, args=(options, seconds))
        self.thread.start()

    def _run(self, options, seconds) -> None:
        connection = Connection()
        try:
            self.job = job.launch(connection, options, self.said.append, self.stop, time.monotonic() + seconds)
        except BaseException as error:  # noqa: BLE001 - what the test looks at
            self.error = error
        finally:
            connection.close()

    def made(self) -> dict:
        deadline = give_up_at(5)
        while (COLLECTION, "mine") not in self.api.objects:
            assert time.monotonic() < deadline, self.error
            time.sleep(0.01)
        return self.api.objects[COLLECTION, "mine"]

    def says(self, text: str) -> None:
        deadline = give_up_at(5)
        while not any(text in line for line in self.said):
            assert time.monotonic() < deadline, self.said
            time.sleep(0.01)

    def end(self) -> BaseException | None:
        self.thread.join(60)
        assert not self.thread.is_alive()
        return self.error


@pytest.fixture
def launch(api):
    started: list[Launched] = []

    def launch(**given) -> Launched:
        started.append(Launched(api, **given))
        return started[-1]

    yield launch
    for each in started:
        each.stop.set()
        each.thread.join(60)


@pytest.fixture
def late(monkeypatch):
    """Once it is set, every deadline of a launch has passed."""
    passed = threading.Event()

    def monotonic() -> float:
        return math.inf if passed.is_set() else 0.0

    clock = types.SimpleNamespace(monotonic=monotonic, strftime=time.strftime, gmtime=time.gmtime)
    monkeypatch.setattr(job, "time", clock)
    return passed


def left(api) -> list[str]:
    return [name for (place, name) in api.objects if "dasktrainingjobs" in place or "configmaps" in place]


def test_it_says_what_it_waits_for_and_gives_what_a_client_needs(api, launch):
    launched = launch()
    assert launched.made()["spec"]["mode"] == "Session"
    launched.says("Waiting for the operator")
    api.status("mine", phase="Starting", message="waiting for scheduler, worker 0")
    launched.says("Waiting for scheduler, worker 0")
    api.status("mine", **READY)
    assert launched.end() is None
    assert launched.job.scheduler_address == "tls://10.0.0.1:8786"
    assert (launched.job.credentials.certificate, launched.job.credentials.authority) == ("CERT", "CA")
    assert "PRIVATE KEY" in launched.job.credentials.key
    assert launched.said[0] == "Creating cluster mine in namespace default"


def test_it_is_not_ready_without_its_certificate(api, launch, late):
    launched = launch()
    launched.made()
    api.status("mine", **READY | {"session": None})
    launched.says("1/1 workers")
    late.set()
    assert isinstance(launched.end(), ClusterStartTimeoutError)
    assert left(api) == []


def test_a_job_that_fails_while_it_starts_says_why_at_once_and_is_removed(api, launch, tmp_path):
    (tmp_path / "helper.py").write_text("A = 1\n")
    launched = launch(code=tmp_path / "helper.py")
    launched.made()
    begin = time.monotonic()
    api.status("mine", phase="Failed", reason="QuotaExceeded", message="exceeded quota: compute")
    error = launched.end()
    assert time.monotonic() - begin < 2 * slowdown()
    assert isinstance(error, ClusterStartError)
    assert not isinstance(error, TimeoutError)
    assert error.reason == "QuotaExceeded"
    assert "exceeded quota: compute" in str(error)
    assert (COLLECTION, "mine") not in api.objects
    # What it owned, Kubernetes removes with it.
    (name,) = left(api)
    (owner,) = api.objects["/api/v1/namespaces/default/configmaps", name]["metadata"]["ownerReferences"]
    assert owner["name"] == "mine"


def test_the_deadline_names_the_pod_s_reason(api, launch, late):
    launched = launch()
    launched.made()
    api.status("mine", phase="Starting", reason="ImagePullFailed", message="image 'x' of the scheduler can't be pulled")
    launched.says("of the scheduler can't be pulled")
    late.set()
    error = launched.end()
    assert isinstance(error, ClusterStartTimeoutError)
    assert error.reason == "ImagePullFailed"
    assert "image 'x' of the scheduler can't be pulled" in str(error)
    assert "(startup_timeout)" in str(error)
    assert left(api) == []


def test_without_an_operator_the_deadline_says_so(api, launch):
    error = launch(seconds=0.5).end()
    assert "no operator seems to watch namespace default" in str(error)
    assert left(api) == []


def test_a_start_that_is_given_up_leaves_nothing(api, launch):
    launched = launch()
    launched.made()
    launched.stop.set()
    assert isinstance(launched.end(), job.Stopped)
    assert left(api) == []


def test_an_answer_that_is_lost_leaves_nothing(api, launch):
    api.faults += [("GET", "/dasktrainingjobs/mine", 403, {"reason": "Forbidden", "message": "no"})]
    error = launch().end()
    assert error is not None
    assert left(api) == []


def test_another_s_job_of_that_name_stays(api, launch):
    api.job("mine", phase="Running")
    error = launch().end()
    assert isinstance(error, AlreadyExistsError)
    assert "name: there is a cluster or job mine in namespace default already" in str(error)
    assert left(api) == ["mine"]


def test_what_the_api_server_refuses_is_said_of_the_parameter(api, launch):
    api.invalid = [{"field": "spec.workers.resources.limits.memory", "message": "Invalid value: too much"}]
    error = launch().end()
    assert isinstance(error, OptionError)
    assert str(error).startswith("memory: ")


def test_scaling_ends_adapting_and_heartbeats_have_their_own_manager(api, launch):
    launched = launch(n_workers=(1, 4))
    launched.made()
    api.status("mine", **READY)
    assert launched.end() is None
    made = launched.job
    made.connection = Connection()
    try:
        made.scale(3)
        workers = api.objects[COLLECTION, "mine"]["spec"]["workers"]
        assert workers["replicas"] == 3
        assert "maxReplicas" not in workers
        made.adapt(1, 2)
        assert api.objects[COLLECTION, "mine"]["spec"]["workers"]["replicas"] == 2
        made.beat()
        *_, (_, _, query, body) = api.sent("PATCH", "dasktrainingjobs/mine")
        assert query == {"fieldManager": "dask-training-heartbeat"}
        assert list(body["metadata"]["annotations"]) == ["dask-training.io/heartbeat"]
        assert set(body) == {"metadata"}
        # Another job of that name is none of ours.
        api.remove(COLLECTION, "mine")
        api.job("mine")
        with pytest.raises(Exception, match="changed it at the same time"):
            made.scale(1)
    finally:
        made.connection.close()


def test_the_pulse_goes_on_through_failures_and_tells_the_end_once(api):
    body = api.job("mine", phase="Running")
    connection = Connection()
    api.faults += [("PATCH", "dasktrainingjobs/mine", 403, {"reason": "Forbidden", "message": "for now"})]
    ends: list[tuple[str, str]] = []
    told = threading.Event()

    def on_end(*end: str) -> None:
        ends.append(end)
        told.set()

    pulse = Pulse(job.SessionJob(connection, body, None), on_end, beats=True, seconds=0.05)
    try:
        deadline = give_up_at(5)
        while len(api.sent("PATCH")) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert ends == []
        api.status("mine", phase="Failed", reason="IdleTimeout", message="no task for 1200 s")
        assert told.wait(5)
        assert ends == [("IdleTimeout", "no task for 1200 s")]
    finally:
        pulse.stop()
        connection.close()


def test_clusters_are_listed_without_jobs_and_what_has_ended(api):
    for name, mode, phase in (("a", "Session", "Running"), ("b", "Batch", "Running"), ("c", "Session", "Failed")):
        made = api.job(name, phase=phase, workers={"summary": "1/2"})
        api.put(COLLECTION, made | {"spec": {"mode": mode}})
    (found,) = list_clusters()
    assert (found.name, found.workers, found.owner) == ("a", "1/2", "")


def test_dask_ctl_finds_them(api, root, monkeypatch):
    async def found(discover) -> list:
        return [each async for each in discover()]

    (entry,) = tomllib.loads((root / "pyproject.toml").read_text())["project"]["entry-points"][
        "dask_cluster_discovery"
    ].values()
    module, _, name = entry.partition(":")
    discover = getattr(importlib.import_module(module), name)
    made = api.job("a", phase="Running")
    api.put(COLLECTION, made | {"spec": {"mode": "Session"}})
    assert asyncio.run(found(discover)) == [("a", TrainingCluster)]
    # Where there is no way to a cluster, others' clusters are listed all the same.
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert asyncio.run(found(discover)) == []


@pytest.mark.parametrize(
    ("mode", "phase", "error", "said"),
    [
        ("Batch", "Running", NotAttachableError, "mine is a job of mode Batch"),
        ("Session", "Failed", NotAttachableError, "cluster mine has ended: IdleTimeout: no task"),
        ("Session", "Running", NotAttachableError, "the key of cluster mine is not on this machine"),
        ("", "", NotFoundError, "there is no cluster mine in namespace default"),
    ],
)
def test_why_a_cluster_can_t_be_attached_to(api, tmp_path, monkeypatch, mode, phase, error, said):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    if mode:
        made = api.job("mine", phase=phase, reason="IdleTimeout", message="no task")
        api.put(COLLECTION, made | {"spec": {"mode": mode}})
    backend = remote.existing(Connection(), "mine", shutdown_on_close=False)
    with pytest.raises(error, match=said):
        backend._launch(print)
    backend.abandon()
