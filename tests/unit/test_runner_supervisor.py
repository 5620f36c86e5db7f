"""What the supervisor makes of what is posted to it; no processes but `sleep`."""

import sys
import threading
import time

import pytest
from machine import slowdown

from dask_training.api import Phase, Reason
from dask_training.runner import verdict
from dask_training.runner.channel import Started
from dask_training.runner.events import MetricsReported, Progress, to_json
from dask_training.runner.lifeline import Lifeline
from dask_training.runner.logs import LogFile
from dask_training.runner.supervisor import (
    ChildCommand,
    ClusterFailed,
    Limits,
    MemoryExceeded,
    StopRequested,
    Supervisor,
    WorkerEnded,
    WorkersSeen,
)
from dask_training.runner.verdict import OutOfMemory

SAY = "import os; os.write(int(os.environ['DASK_TRAINING_EVENTS_FD']), {lines!r}.encode())"


@pytest.fixture
def supervise(tmp_path):
    """Supervises a Python program; returns the outcome, the supervisor and the events."""
    lifeline = Lifeline()

    def run(program, *happenings, active=None, startup=30.0, loss_grace=30.0, min_workers=1):
        events = []
        now = time.monotonic()
        limits = Limits(
            started=now,
            first_started=now,
            active=active,
            startup=startup,
            loss_grace=loss_grace,
            min_workers=min_workers,
            workers=2,
        )
        supervisor = Supervisor(limits, events.append)
        for happening in happenings:
            supervisor.post(happening)
        log = LogFile(tmp_path / "runner.log")
        child = ChildCommand([sys.executable, "-S", "-c", program], {}, tmp_path, "the script", log)
        outcome = supervisor.run(child, lifeline, lambda process: None)
        log.close()
        assert supervisor.child.exit is not None
        return outcome, supervisor, events

    yield run
    lifeline.close()


def say(*messages):
    return SAY.format(lines="".join(to_json(message) + "\n" for message in messages))


def test_a_child_that_runs_to_its_end_succeeds(supervise):
    messages = (
        Started(),
        Progress(done=3, total=3, call=1),
        Progress(done=2, total=2, call=2),
        MetricsReported(metrics={"a": 1}),
    )
    outcome, supervisor, events = supervise(say(*messages) + "; print('hello')")
    assert outcome.reason is Reason.COMPLETED
    assert (supervisor.tasks, supervisor.metrics) == (5, {"a": 1})
    assert [event.phase for event in events if hasattr(event, "phase")] == [Phase.RUNNING]
    assert [event.line for event in events if hasattr(event, "line")] == ["hello"]


def test_what_is_no_message_on_the_pipe_is_ignored(supervise):
    program = SAY.format(
        lines='nonsense\n{"type": "unknown"}\n[1\n' + to_json(MetricsReported(metrics={"a": 1})) + "\n"
    )
    outcome, supervisor, _ = supervise(program)
    assert outcome.succeeded
    assert supervisor.metrics == {"a": 1}


@pytest.mark.parametrize(
    ("limits", "started", "reason"),
    [
        ({"active": 0.3}, False, Reason.DEADLINE_EXCEEDED),
        ({"active": 0.3}, True, Reason.DEADLINE_EXCEEDED),
        ({"startup": 0.3}, False, Reason.STARTUP_DEADLINE_EXCEEDED),
        ({"startup": 0.3, "active": 0.9}, True, Reason.DEADLINE_EXCEEDED),
    ],
)
def test_deadlines_end_the_child(supervise, limits, started, reason):
    begun = time.monotonic()
    outcome, _, _ = supervise("import time; time.sleep(60)", *([Started()] if started else []), **limits)
    assert outcome.reason is reason
    assert time.monotonic() - begun < 5 * slowdown()


def test_too_few_workers_end_the_run_only_after_the_grace_time(supervise):
    outcome, _, _ = supervise("import time; time.sleep(60)", WorkersSeen(1), Started(), WorkersSeen(0), loss_grace=0.3)
    assert outcome.reason is Reason.WORKERS_UNAVAILABLE
    outcome, _, _ = supervise(
        "import time; time.sleep(0.8)", WorkersSeen(1), Started(), WorkersSeen(0), WorkersSeen(1), loss_grace=0.3
    )
    assert outcome.succeeded


def test_a_cluster_that_fails_outranks_the_child_that_it_takes_along(supervise):
    failed = ClusterFailed(verdict.scheduler_lost(["gone"]))
    outcome, _, _ = supervise("raise SystemExit(1)", failed)
    assert outcome.reason is Reason.SCHEDULER_FAILED


def test_memory_deaths_are_told_and_decide_what_a_kill_means(supervise):
    death = OutOfMemory("worker-0", 2**20, "spec.workers.resources.limits.memory")
    own = OutOfMemory("runner", 2**20, "spec.runner.resources.limits.memory")
    program = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    outcome, supervisor, events = supervise(program, WorkerEnded("worker-0", death), MemoryExceeded(own))
    assert outcome.reason is Reason.RUNNER_OOM_KILLED
    assert supervisor.worker_restarts == 1
    assert "worker-0 was killed when it went over its memory limit of 1Mi" in events[0].message


def test_a_signal_ends_the_child(supervise):
    begun = time.monotonic()
    outcome, _, _ = supervise("import time; time.sleep(60)", StopRequested(15))
    assert (outcome.reason, outcome.exit_code) == (Reason.INTERRUPTED, 143)
    assert time.monotonic() - begun < 3 * slowdown()


def test_events_reach_the_listener_in_order_from_many_threads(supervise):
    supervisor = Supervisor(
        Limits(started=0, first_started=0, active=None, startup=1e9, loss_grace=1, min_workers=1, workers=1),
        lambda _: None,
    )
    threads = [threading.Thread(target=supervisor.workers_seen, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    supervisor.post(StopRequested(2))
    assert supervisor._wait("").reason is Reason.INTERRUPTED
