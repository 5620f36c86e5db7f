"""Workers in pods, against an API server of our own: requests, states, output, refusals and the end."""

from __future__ import annotations

import base64
import json
import threading
import time
import zipfile
from io import BytesIO

import pytest

from dask_training import workers
from dask_training.api import Role, child_name
from dask_training.errors import ForbiddenError, KubernetesError
from dask_training.workers import pods, state

JOBS = "/apis/dask-training.io/v1alpha1/namespaces/default/dasktrainingjobs"


class Operator(threading.Thread):
    """Does to jobs of mode Workers what the operator does: `play` is called once with each."""

    def __init__(self, api, play) -> None:
        super().__init__(daemon=True)
        self.api = api
        self.play = play
        self.stopped = threading.Event()

    def run(self) -> None:
        seen: set[str] = set()
        while not self.stopped.wait(0.02):
            for (collection, name), body in list(self.api.objects.items()):
                if collection == JOBS and name not in seen:
                    seen.add(name)
                    self.play(Job(self.api, body))


class Job:
    """A job, and its members' states."""

    def __init__(self, api, body) -> None:
        self.api = api
        self.name, self.uid = body["metadata"]["name"], body["metadata"]["uid"]
        self.body = body
        self.n = body["spec"]["workers"]["replicas"]
        self.ids = [child_name(self.name, self.uid, 1, Role.WORKER, index) for index in range(self.n)]

    def members(self, **fields) -> list[dict]:
        return [{"index": index, "id": each, "state": "scheduling"} | fields for index, each in enumerate(self.ids)]

    def say(self, members=None, **status) -> None:
        extra = {"workers": {"members": members}} if members is not None else {}
        if (JOBS, self.name) in self.api.objects:
            self.api.status(self.name, **(extra | status))

    def end(self, reason: str, message: str = "") -> None:
        condition = {"type": "FailureTarget", "status": "True", "reason": reason}
        self.say(phase="Finalizing", reason=reason, message=message, conditions=[condition])

    @property
    def stopped(self) -> list[int]:
        found = self.api.objects.get((JOBS, self.name))
        return (found or {"spec": {"workers": {}}})["spec"]["workers"].get("stopped") or []


T0, T1, T2 = (f"2026-11-21T10:00:0{second}Z" for second in (0, 1, 4))


@pytest.fixture
def play(api, monkeypatch):
    """Starts an operator that does what the test says; a session of its own."""
    session = state.Session()
    session.settings = state.Settings(local=False, project=False)
    for module in (workers.functions, workers.dask_cluster):
        monkeypatch.setattr(module, "session", session)
    monkeypatch.setattr(state.atexit, "register", lambda _: None)
    pods._connection.cache_clear()
    operators = []

    def play(what):
        operators.append(Operator(api, what))
        operators[-1].start()
        return session

    yield play
    session.close()
    for each in operators:
        each.stopped.set()
        each.join()
    pods._connection.cache_clear()


def run_well(log_script, *lines):
    """All workers are made, run and end well, at once; the API server has their logs."""

    def what(job: Job) -> None:
        for index, each in enumerate(job.ids):
            job.api.pod(each, "worker", job.body, index=index, phase="Succeeded")
            job.api.logs[each] = log_script(*(f"{line} {index}" for line in lines))
        job.say(job.members(createdAt=T0))
        done = {"createdAt": T0, "runningAt": T1, "finishedAt": T2, "ip": "10.0.0.7", "exitCode": 0}
        job.say(job.members(state="succeeded", **done), phase="Finalizing")

    return what


def test_workers_are_one_job_of_mode_workers(api, play, log_script, capsys, tmp_path):
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "fit.py").write_text("print(1)")
    (tmp_path / "lib.py").write_text("")
    session = play(run_well(log_script, "hello", "bye"))
    workers.configure(project=tmp_path, image="team/r:1", packages="tabulate")
    launched = workers.launch_workers(2, 1.5, 0.5, 1, script="steps/fit.py", env={"A": 1}, name="My search")
    found = workers.await_workers(launched, timeout_seconds=20)
    (body,) = [body for (place, _), body in api.objects.items() if place == JOBS]
    ids = [worker["id"] for worker in launched]
    assert body["metadata"]["name"].startswith("my-search-")
    assert ids == [child_name(body["metadata"]["name"], body["metadata"]["uid"], 1, Role.WORKER, n) for n in (0, 1)]
    spec = body["spec"]
    assert (spec["mode"], spec["image"], spec["packages"]) == ("Workers", "team/r:1", ["tabulate"])
    assert spec["runner"] == {"command": ["python", "-m", "dask_training.runner.console", "/code/launch.json"]}
    resources = {"requests": {"cpu": "1500m", "memory": "512Mi"}, "limits": {"memory": "512Mi", "nvidia.com/gpu": 1}}
    assert spec["workers"] == {"replicas": 2, "threads": 2, "resources": resources}
    assert spec["session"]["heartbeatTimeoutSeconds"] == 90
    env = {each["name"]: each["value"] for each in spec["env"]}
    assert env["A"] == "1"
    assert env["CDSW_MASTER_ID"] == session.identity.id
    assert "CDSW_MASTER_IP" not in env, "127.0.0.1 would be the worker itself"
    (config,) = [body for (place, _), body in api.objects.items() if place.endswith("/configmaps")]
    assert json.loads(config["data"]["launch.json"])["script"] == "steps/fit.py"
    with zipfile.ZipFile(BytesIO(base64.b64decode(config["binaryData"]["project.zip"]))) as archive:
        assert archive.namelist() == ["lib.py", "steps/fit.py"]
    assert config["metadata"]["ownerReferences"][0]["uid"] == body["metadata"]["uid"]
    assert found["failures"] == []
    assert [(each["status"], each["duration"], each["ip_address"]) for each in found["workers"]] == [
        ("succeeded", 3.0, "10.0.0.7")
    ] * 2
    assert found["workers"][0]["app_url"] == "http://10.0.0.7:8100/"
    lines = capsys.readouterr().out.splitlines()
    name = body["metadata"]["name"]
    for index in (0, 1):
        mark = f"[{name}-{index}] "
        assert [line.removeprefix(mark) for line in lines if line.startswith(mark)] == [
            f"hello {index}",
            f"bye {index}",
        ]
    beats = [each for each in api.sent("PATCH", name) if each[2].get("fieldManager") == "dask-training-heartbeat"]
    assert list(beats[0][3]["metadata"]["annotations"]) == ["dask-training.io/heartbeat"]


def test_a_quota_that_refuses_leaves_nothing(api, play, capsys):
    said = 'pods "x" is forbidden: exceeded quota: small, requested: cpu=1, used: cpu=1, limited: cpu=1'
    released = threading.Event()

    def what(job: Job) -> None:
        job.end("QuotaExceeded", f"Pod x: {said}\nAsk for fewer or smaller workers, or for a larger ResourceQuota.")
        time.sleep(0.5)
        released.set()
        job.say(phase="Failed")

    play(what)
    refused = workers.launch_workers(2, 1, 1, code="print(1)")
    assert [sorted(each) for each in refused] == [["engineId", "k8sMessage", "message"]] * 2
    assert refused[0]["k8sMessage"] == said
    assert released.is_set(), "the pods that were made would count for the next launch"
    assert f"none of 2 workers was launched: {said}" in capsys.readouterr().out
    assert [name for place, name in api.objects if place == JOBS] == []
    assert workers.list_workers() == []
    assert [each.status_code for each in workers.stop_workers(*[each["engineId"] for each in refused])] == [204, 204]


def test_a_quota_on_jobs_is_one_too(api, play):
    message = 'dasktrainingjobs "x" is forbidden: exceeded quota: jobs, requested: 1, used: 1, limited: 1'
    api.faults.append(("POST", "dasktrainingjobs", 403, {"reason": "Forbidden", "message": message}))
    play(lambda _: None)
    (refused,) = workers.launch_workers(1, 1, 1, code="print(1)")
    assert "exceeded quota: jobs" in refused["k8sMessage"]
    assert "id" not in refused


def test_what_else_keeps_a_group_from_being_made_is_an_error_with_its_reason(api, play, capsys):

    def what(job: Job) -> None:
        job.end("ConfigError", "the namespace forbids it: seccompProfile")
        job.say(phase="Failed")

    play(what)
    with pytest.raises(RuntimeError, match="the workers could not be launched: ConfigError: the namespace forbids it"):
        workers.launch_workers(1, 1, 1, code="print(1)")
    assert "ConfigError: the namespace forbids it" in capsys.readouterr().out
    assert [name for place, name in api.objects if place == JOBS] == []


def test_without_an_operator_nothing_waits_for_ever(api, play, monkeypatch):
    monkeypatch.setattr(pods, "_OPERATOR_SECONDS", 0.5)
    play(lambda _: None)
    with pytest.raises(KubernetesError, match="no operator seems to watch namespace default"):
        workers.launch_workers(1, 1, 1, code="print(1)")
    assert [name for place, name in api.objects if place == JOBS] == []


def test_who_may_make_no_jobs_is_told_so(api, play):
    message = 'User "eve" cannot create resource "dasktrainingjobs" in API group "dask-training.io"'
    api.faults.append(("POST", "dasktrainingjobs", 403, {"reason": "Forbidden", "message": message}))
    play(lambda _: None)
    with pytest.raises(ForbiddenError, match="you may not create dasktrainingjobs"):
        workers.launch_workers(1, 1, 1, code="print(1)")


def test_stopping_some_and_then_all(api, play):
    def what(job: Job) -> None:
        job.say(job.members(createdAt=T0))
        members = job.members(state="running", createdAt=T0, runningAt=T1, ip="10.0.0.7")
        for each in job.ids:
            job.api.pod(each, "worker", job.body)
            job.api.logs[each] = log_script_empty()
        job.say(members)
        threading.Thread(target=follow_stops, args=(job, members), daemon=True).start()

    def follow_stops(job: Job, members: list[dict]) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and len(job.stopped) < job.n:
            over = {"state": "stopped", "finishedAt": T2}
            job.say([each | over if each["index"] in job.stopped else each for each in members])
            time.sleep(0.05)
        job.say([each | {"state": "stopped", "finishedAt": T2} for each in members])

    play(what)
    launched = workers.launch_workers(3, 1, 1, code="!sleep 600")
    ready = workers.await_workers(launched, wait_for_completion=False, timeout_seconds=60)
    assert [each["ip_address"] for each in ready["workers"]] == ["10.0.0.7"] * 3
    assert repr(workers.stop_workers(launched[1]["id"])) == "[<Response [204]>]"
    assert [each["status"] for each in workers.list_workers()] == ["running", "stopped", "running"]
    assert len(workers.stop_workers()) == 2
    assert {each["status"] for each in workers.list_workers()} == {"stopped"}
    patches = [each[3]["spec"]["workers"]["stopped"] for each in api.sent("PATCH") if "spec" in (each[3] or {})]
    assert patches == [[1], [0, 1, 2]]


def log_script_empty():
    import sys

    return sys.modules["fake_api"].LogScript()


def test_a_failure_is_shown_with_its_reason(api, play, log_script, capsys):
    def what(job: Job) -> None:
        job.api.pod(job.ids[0], "worker", job.body, phase="Failed")
        job.api.logs[job.ids[0]] = log_script("Traceback ...", "ValueError: no rows left")
        done = {
            "createdAt": T0,
            "runningAt": T1,
            "finishedAt": T2,
            "exitCode": 1,
            "message": "ValueError: no rows left",
        }
        job.say(job.members(state="failed", **done))
        job.end("WorkersFailed", "1 of 1 workers failed")

    play(what)
    (worker,) = workers.await_workers(workers.launch_workers(1, 1, 1, code="fit()"), timeout_seconds=20)["failures"]
    assert (worker["status"], worker["exit_code"], worker["message"]) == ("failed", 1, "ValueError: no rows left")
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("] ")[2] for line in lines][-3:-1] == ["Traceback ...", "ValueError: no rows left"]
    assert lines[-1].endswith("failed (exit code 1): ValueError: no rows left")


def test_why_workers_do_not_start_is_shown_with_the_time_out(api, play, capsys):
    no_gpu = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    play(lambda job: job.say(job.members(createdAt=T0), phase="Starting", reason="Unschedulable", message=no_gpu))
    launched = workers.launch_workers(1, 1, 1, nvidia_gpu=1, code="print('GPU')")
    (worker,) = workers.await_workers(launched, timeout_seconds=0.5)["failures"]
    assert (worker["status"], worker["message"]) == ("scheduling", no_gpu)
    assert f"is still scheduling after 0.5 s: {no_gpu}" in capsys.readouterr().out


def test_a_job_that_somebody_deletes_fails_its_workers(api, play, capsys):
    play(lambda job: job.say(job.members(createdAt=T0)))
    launched = workers.launch_workers(1, 1, 1, code="!sleep 600")
    (name,) = [name for place, name in api.objects if place == JOBS]
    threading.Timer(0.3, api.remove, (JOBS, name)).start()
    (worker,) = workers.await_workers(launched, timeout_seconds=60)["failures"]
    assert (worker["status"], worker["message"]) == ("failed", "its job was deleted")
    assert "failed: its job was deleted" in capsys.readouterr().out


def test_the_end_of_the_session_deletes_its_jobs(api, play):
    session = play(lambda job: job.say(job.members(createdAt=T0)))
    workers.launch_workers(2, 1, 1, code="!sleep 600")
    workers.launch_workers(1, 1, 1, code="!sleep 600")
    assert len([name for place, name in api.objects if place == JOBS]) == 2
    session.close()
    assert [name for place, name in api.objects if place == JOBS] == []
    assert {each["status"] for each in workers.list_workers()} == {"stopped"}
