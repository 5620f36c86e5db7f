"""A job that is followed: its status as events, its runner's output, through broken watches and streams."""

from __future__ import annotations

import threading
import time

import pytest
from machine import slowdown, wait_until

from dask_training.api import Phase, Reason
from dask_training.client import following
from dask_training.client.jobs import WaitTimeoutError
from dask_training.client.podlogs import PodLog
from dask_training.client.status_events import StatusEvents, exit_code_of, phase_of
from dask_training.client.watching import lines
from dask_training.errors import NotFoundError
from dask_training.runner.events import (
    ArtifactsStored,
    DashboardReady,
    Finished,
    MetricsReported,
    Notice,
    Output,
    PhaseChanged,
    Progress,
    Timings,
    WorkersChanged,
)
from dask_training.termination import Advice

JOBS = "/apis/dask-training.io/v1alpha1/namespaces/default/dasktrainingjobs"
STORED = {"url": "s3://b/default/flights/u/1", "files": 3, "bytes": 1024, "manifestSHA256": "0" * 64}
DONE = {
    "phase": "Succeeded",
    "reason": "Completed",
    "message": "the code ran to its end",
    "attempt": 1,
    "attempts": [{"number": 1, "reason": "Completed", "exitCode": 0}],
    "timings": {"starting": 1.5, "running": 8.0, "finalizing": 0.5, "total": 10.0},
    "metrics": {"accuracy": 0.93},
    "workers": {"desired": 2, "ready": 0, "restarts": 1},
    "progress": {"done": 40, "total": 40},
    "artifacts": STORED,
}


def body(**status) -> dict:
    return {"metadata": {"name": "flights", "namespace": "default", "uid": "u"}, "status": status}


# Statuses as events.


def test_each_change_is_told_once_and_in_order():
    told = StatusEvents()
    assert told.of(body() | {"status": None}, 1.0) == [
        PhaseChanged(at=1.0, phase=Phase.PENDING, message="waiting for the operator")
    ]
    assert told.untouched
    starting = {"phase": "Starting", "attempt": 1, "message": "pulling images\nfor long", "workers": {"desired": 2}}
    assert told.of(body(**starting), 2.0) == [
        PhaseChanged(at=2.0, phase=Phase.STARTING, message="pulling images"),
        WorkersChanged(at=2.0, desired=2, ready=0),
    ]
    assert not told.untouched
    assert told.of(body(**starting), 3.0) == []
    running = {
        "phase": "Running",
        "attempt": 1,
        "workers": {"desired": 2, "ready": 2},
        "dashboardURL": "http://d",
        "progress": {"done": 3},
        "metrics": {"a": 1.5},
    }
    assert told.of(body(**running), 4.0) == [
        PhaseChanged(at=4.0, phase=Phase.RUNNING),
        WorkersChanged(at=4.0, desired=2, ready=2),
        DashboardReady(at=4.0, url="http://d"),
        Progress(at=4.0, done=3, total=None, call=1),
        MetricsReported(at=4.0, metrics={"a": 1.5}),
    ]
    assert told.of(body(**running | {"progress": {"done": 1, "total": 9}}), 5.0) == [
        Progress(at=5.0, done=1, total=9, call=2)  # fewer than before: another call
    ]


def test_the_end_has_all_that_the_status_knows():
    *_, stored, finished = StatusEvents().of(body(**DONE), 9.0)
    expected = ArtifactsStored(at=9.0, url=STORED["url"], files=3, bytes=1024, manifest_sha256="0" * 64)
    assert stored == expected
    assert finished == Finished(
        at=9.0,
        phase=Phase.SUCCEEDED,
        reason=Reason.COMPLETED,
        message="the code ran to its end",
        exit_code=0,
        script_exit_code=0,
        timings=Timings(starting=1.5, running=8.0, finalizing=0.5, total=10.0),
        metrics={"accuracy": 0.93},
        worker_restarts=1,
        tasks=40,
        artifacts=expected,
    )


def test_advice_is_told_with_the_end():
    advice = {"rule": "tiny-tasks", "message": "900 tasks took 2.0 ms each", "fix": "do more in each"}
    *_, finished = StatusEvents().of(body(**DONE, advice=[advice]), 9.0)
    assert finished.advice == (Advice(**advice),)


def test_an_attempt_that_failed_is_told_when_the_next_one_comes_and_the_last_one_by_the_end():
    told = StatusEvents()
    lost = {"number": 1, "reason": "SchedulerFailed", "message": "the scheduler ended"}
    events = told.of(body(phase="Starting", attempt=2, attempts=[lost]), 1.0)
    assert events == [
        Notice(at=1.0, message="attempt 1 failed (SchedulerFailed): the scheduler ended"),
        PhaseChanged(at=1.0, phase=Phase.STARTING, attempt=2),
    ]
    failed = {"number": 2, "reason": "RunnerFailed", "message": "ValueError: no", "exitCode": 3}
    events = told.of(
        body(phase="Failed", reason="RunnerFailed", message="ValueError: no", attempt=2, attempts=[lost, failed]), 2.0
    )
    assert [type(event) for event in events] == [PhaseChanged, Finished]
    assert (events[-1].exit_code, events[-1].script_exit_code, events[-1].attempt) == (3, 3, 2)


def test_versions_that_differ_are_told_once():
    told = StatusEvents()
    differ = {"type": "VersionsMatch", "status": "False", "message": "versions differ: joblib is 1.6.0 here"}
    events = told.of(body(phase="Running", attempt=1, conditions=[differ]), 1.0)
    assert [event for event in events if isinstance(event, Notice)] == [Notice(at=1.0, message=differ["message"])]
    assert told.of(body(phase="Running", attempt=1, conditions=[differ]), 2.0) == []
    same = differ | {"status": "True", "message": "the same"}
    assert not [e for e in StatusEvents().of(body(phase="Running", conditions=[same]), 1.0) if isinstance(e, Notice)]


def test_a_phase_that_began_before_anybody_looked_has_its_own_time():
    condition = {"type": "RunnerStarted", "status": "True", "lastTransitionTime": "2027-01-15T08:00:00Z"}
    (event,) = StatusEvents().of(body(phase="Running", attempt=1, conditions=[condition]), 1_800_000_100.0)
    assert event.at == 1_800_000_000.0


@pytest.mark.parametrize(
    ("reason", "code_s_own", "expected"),
    [
        ("RunnerFailed", 3, 3),
        ("RunnerKilled", 139, 139),
        ("RunnerOOMKilled", None, 137),
        ("WorkersUnavailable", 1, 69),
        ("PackagesFailed", None, 78),
        ("DeadlineExceeded", None, 124),
        ("ArtifactStoreFailed", 0, 74),
        ("SomethingNew", None, 1),
        ("SomethingNew", 0, 1),
    ],
)
def test_the_exit_code_is_the_codes_or_the_reasons(reason, code_s_own, expected):
    attempts = [{"number": 1} | ({} if code_s_own is None else {"exitCode": code_s_own})]
    assert exit_code_of(body(phase="Failed", reason=reason, attempts=attempts)) == expected


def test_a_phase_of_a_later_version_is_not_fatal():
    assert phase_of(body(phase="Hibernating")) is Phase.PENDING
    (_, finished) = StatusEvents().of(body(phase="Failed", reason="Eaten", message="by a grue"), 1.0)
    assert finished.message == "Eaten: by a grue"


# Watches.


def follow(client, name: str = "flights", **options):
    """Follows in a thread: events, and a function that waits for the end."""
    events, result = [], []
    handle = client.get(name)
    stop = threading.Event()

    def run() -> None:
        try:
            result.append(handle.follow(events.append, stop, **options))
        except Exception as error:  # noqa: BLE001 - looked at by the test
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def end(timeout: float = 10):
        thread.join(timeout * slowdown())
        assert not thread.is_alive()
        return result[0]

    return events, end, stop


def test_output_comes_while_it_is_printed_and_before_the_end(client, api, log_script):
    job = api.job(phase="Starting", attempt=1)
    api.logs["flights-runner"] = log = log_script("first")
    log.ended = False
    events, end, _ = follow(client)
    wait_until(lambda: events)
    pod = api.pod("flights-runner", "runner", job)
    api.status(phase="Running")
    wait_until(lambda: any(isinstance(event, Output) for event in events))
    log.add("last")
    api.put("/api/v1/namespaces/default/pods", pod | {"status": {**pod["status"], "phase": "Succeeded"}})
    api.status(**DONE)
    log.ended = True
    finished = end()
    assert events[-1] is finished
    assert [event.line for event in events if isinstance(event, Output)] == ["first", "last"]
    assert [event.phase for event in events if isinstance(event, PhaseChanged)] == [
        Phase.STARTING,
        Phase.RUNNING,
        Phase.SUCCEEDED,
    ]
    assert sum(isinstance(event, Finished) for event in events) == 1


def test_watches_that_break_in_the_middle_of_an_event_lose_nothing(client, api):
    api.job(phase="Starting", attempt=1)
    api.cut_watches_after = 1
    events, end, _ = follow(client, output=False)
    wait_until(lambda: events)
    for number in range(6):
        api.status(phase="Running", progress={"done": number})
        time.sleep(0.15)
    api.status(**DONE)
    assert end().phase is Phase.SUCCEEDED
    assert len(api.sent("GET", "dasktrainingjobs")) > 4
    done = [event.done for event in events if isinstance(event, Progress)]
    assert done == sorted(set(done))


def test_a_server_that_is_down_for_a_while_is_waited_for(client, api):
    api.job(phase="Running", attempt=1)
    api.cut_watches_after = 0
    events, end, _ = follow(client, output=False)
    wait_until(lambda: events)
    api.faults += [("GET", "flights", 503, {"message": "restarting"})] * 6
    api.status(**DONE)
    assert end(20).phase is Phase.SUCCEEDED


def test_a_deleted_job_ends_it(client, api):
    api.job(phase="Running", attempt=1)
    events, end, _ = follow(client, output=False)
    wait_until(lambda: events)
    api.remove(JOBS, "flights")
    assert isinstance(end(), NotFoundError)


def test_a_job_made_anew_under_its_name_is_another_one(client, api):
    api.job(phase="Running", attempt=1)
    handle = client.get("flights")
    api.remove(JOBS, "flights")
    api.job(phase="Starting", attempt=1)
    for action in (handle.status, lambda: handle.wait(timeout=60)):
        with pytest.raises(NotFoundError):
            action()


def test_stopping_leaves_the_job_alone(client, api):
    api.job(phase="Running", attempt=1)
    events, end, stop = follow(client, output=False)
    wait_until(lambda: events)
    stop.set()
    assert end(3) is None
    assert not [request for request in api.requests if request[0] != "GET"]


def test_a_job_that_no_operator_looks_at_is_said_once(client, api, monkeypatch):
    monkeypatch.setattr(following, "OPERATOR_SECONDS", 0.3)
    api.job()
    events, end, stop = follow(client)
    wait_until(lambda: any(isinstance(event, Notice) for event in events))
    time.sleep(0.6)
    stop.set()
    end()
    (notice,) = [event for event in events if isinstance(event, Notice)]
    assert notice.message.startswith("no operator seems to watch namespace default: the job has no status after")


def test_the_output_of_each_attempt_is_shown(client, api, log_script):
    job = api.job(phase="Running", attempt=1)
    for attempt in (1, 2):
        api.pod(f"run-{attempt}", "runner", job, attempt=attempt, phase="Failed")
        api.logs[f"run-{attempt}"] = log_script(f"attempt {attempt}")
    events, end, _ = follow(client)
    wait_until(lambda: any(isinstance(event, Output) for event in events))
    lost = {"number": 1, "reason": "RunnerKilled", "message": "gone"}
    api.status(phase="Running", attempt=2, attempts=[lost])
    wait_until(lambda: sum(isinstance(event, Output) for event in events) == 2)
    api.status(**DONE | {"attempt": 2})
    end()
    assert [event.line for event in events if isinstance(event, Output)] == ["attempt 1", "attempt 2"]


def test_waiting(client, api):
    api.job(phase="Starting", attempt=1)
    handle = client.get("flights")
    with pytest.raises(WaitTimeoutError, match=r"flights is Starting, not Running, after 0\.3 s"):
        handle.wait({"Running"}, timeout=0.3)
    threading.Timer(0.2, lambda: api.status(phase="Running")).start()
    assert handle.wait({"Running"}, timeout=60) is Phase.RUNNING
    threading.Timer(0.2, lambda: api.status(phase="Failed")).start()
    assert handle.wait({"Suspended"}, timeout=60) is Phase.FAILED  # it will never be
    threading.Timer(0.2, lambda: api.remove(JOBS, "flights")).start()
    handle.wait_deleted(timeout=60)


# Logs.


@pytest.mark.parametrize("cuts", [(1,), (40, 41, 300), (700, 5, 5, 90), (33,) * 8])
def test_streams_that_break_anywhere_repeat_and_lose_no_line(client, api, log_script, cuts):
    lines = [f"line {number} {'x' * (number % 7)}" for number in range(60)] + ["same", "same", "", "ümlaut"]
    api.pod("p", "runner", api.job(), phase="Succeeded")
    api.logs["p"] = log_script(*lines, cuts=cuts)
    assert list(PodLog(client.connection, "default", "p").lines(follow=True)) == lines
    assert api.logs["p"].streams == len(cuts) + 1


class CutOff:
    """A stream over TLS that is shut down while it is read: what comes then has not been decrypted."""

    def __init__(self, stop):
        self._stop = stop

    def stream(self, _):
        yield b'2026-11-21T12:00:00Z {"whole": 1}\n2026-11-21T12:00:00Z {"ha'
        self._stop()
        yield b'lf": \x17\x03\x03\x98\xd2t\n'


def test_nothing_of_what_comes_after_the_end_of_tls_is_taken_for_a_line(client):
    stopped = threading.Event()
    assert list(lines(CutOff(stopped.set), stopped)) == [b'2026-11-21T12:00:00Z {"whole": 1}']
    log = PodLog(client.connection, "default", "p")
    assert list(log._new(CutOff(log.stop), last_counts=False)) == ['{"whole": 1}']


def test_a_container_that_starts_again_goes_on_in_the_same_log(client, api, log_script):
    pod = api.pod("p", "worker", api.job(), index=0)
    api.logs["p"] = log = log_script("before")
    found = []
    reader = PodLog(client.connection, "default", "p")
    thread = threading.Thread(target=lambda: found.extend(reader.lines(follow=True)))
    thread.start()
    wait_until(lambda: log.streams >= 2)  # it looks again while the pod runs
    log.lines.clear()
    log.add("after")
    wait_until(lambda: log.streams >= 4)
    api.put("/api/v1/namespaces/default/pods", pod | {"status": {**pod["status"], "phase": "Succeeded"}})
    thread.join(5)
    assert found == ["before", "after"]


def test_a_pod_that_waits_has_no_lines_yet(client, api):
    api.pod("p", "runner", api.job(), phase="Pending", containerStatuses=[])
    assert list(PodLog(client.connection, "default", "p").lines(follow=False)) == []
    reader = PodLog(client.connection, "default", "p")
    thread = threading.Thread(target=lambda: list(reader.lines(follow=True)))
    thread.start()
    reader.stop()
    thread.join(3 * slowdown())
    assert not thread.is_alive()


def test_a_pod_that_is_not_there_is_said(client, api):
    with pytest.raises(NotFoundError):
        list(PodLog(client.connection, "default", "p").lines(follow=True))


def test_the_tail_is_asked_of_the_server(client, api, log_script):
    api.pod("p", "runner", api.job(), phase="Succeeded")
    api.logs["p"] = log_script("a", "b", "c")
    assert list(PodLog(client.connection, "default", "p", tail=2).lines(follow=False)) == ["b", "c"]
