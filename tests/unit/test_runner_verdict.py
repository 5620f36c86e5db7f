"""How a run ended, as a table."""

import signal

import pytest

from dask_training.api import ExitCode, Reason
from dask_training.runner import verdict
from dask_training.runner.channel import Exited, Raised
from dask_training.runner.verdict import ChildEnd, OutOfMemory

WHAT = "spec.runner.script"
WORKER_OOM = OutOfMemory("worker-1", 512 * 1024**2, "spec.workers.resources.limits.memory")
RUNNER_OOM = OutOfMemory("runner", 1024**3, "spec.runner.resources.limits.memory")
VALUE_ERROR = Raised(exception="ValueError", message="bad", line=3, bases=("ValueError", "Exception", "object"))
KILLED = Raised(exception="TaskKilledWorkersError", message="f(1)", bases=("TaskKilledWorkersError", "ClusterError"))
MISSING = Raised(exception="ModuleNotFoundError", message="No module named 'x'", line=1, bases=("ImportError",))
MEMORY = Raised(exception="_ArrayMemoryError", message="1 TiB", line=1, bases=("_ArrayMemoryError", "MemoryError"))


@pytest.mark.parametrize(
    ("end", "memory", "reason", "exit_code", "script_code", "message"),
    [
        (ChildEnd(0), (), Reason.COMPLETED, 0, 0, "the code ran to its end"),
        (ChildEnd(0, exited=Exited(code=0)), (), Reason.COMPLETED, 0, 0, "the code ran to its end"),
        (ChildEnd(3, exited=Exited(code=3)), (), Reason.RUNNER_FAILED, 3, 3, f"{WHAT} called sys.exit(3)"),
        (ChildEnd(9), (), Reason.RUNNER_FAILED, 9, 9, f"{WHAT} ended with exit code 9"),
        (ChildEnd(1, raised=VALUE_ERROR), (), Reason.RUNNER_FAILED, 1, 1, f"ValueError: bad, line 3 of {WHAT}"),
        (ChildEnd(1, raised=MISSING), (), Reason.RUNNER_FAILED, 1, 1, "Add the package that has it to spec.packages"),
        (ChildEnd(1, raised=MEMORY), (), Reason.RUNNER_FAILED, 1, 1, "Raise spec.runner.resources.limits.memory"),
        (ChildEnd(1, raised=KILLED), (), Reason.WORKERS_UNAVAILABLE, 69, 1, "TaskKilledWorkersError: f(1)"),
        (
            ChildEnd(1, raised=KILLED),
            (WORKER_OOM,),
            Reason.WORKER_OOM_KILLED,
            69,
            1,
            "memory limit of 512Mi (spec.workers",
        ),
        (ChildEnd(1, raised=VALUE_ERROR), (WORKER_OOM,), Reason.RUNNER_FAILED, 1, 1, "ValueError: bad"),
        (ChildEnd(-9), (), Reason.RUNNER_KILLED, 137, 137, "was killed by SIGKILL"),
        (ChildEnd(-9), (WORKER_OOM,), Reason.RUNNER_KILLED, 137, 137, "was killed by SIGKILL"),
        (ChildEnd(-9), (RUNNER_OOM,), Reason.RUNNER_OOM_KILLED, 137, 137, "memory limit of 1024Mi (spec.runner"),
        (ChildEnd(-11), (), Reason.RUNNER_KILLED, 139, 139, "was killed by SIGSEGV. A native library crashed"),
        (ChildEnd(-signal.SIGRTMAX), (), Reason.RUNNER_KILLED, 128 + 64, 128 + 64, "was killed by SIGRTMAX"),
    ],
)
def test_what_a_child_that_ended_by_itself_means(end, memory, reason, exit_code, script_code, message):
    outcome = verdict.of_child(end, what=WHAT, memory=memory)
    assert (outcome.reason, outcome.exit_code, outcome.script_exit_code) == (reason, exit_code, script_code)
    assert message in outcome.message
    assert outcome.succeeded is (exit_code == 0)


def test_a_long_message_is_shortened():
    outcome = verdict.of_child(ChildEnd(1, raised=Raised(exception="E", message="x" * 10_000)), what=WHAT)
    assert len(outcome.message) < 1100


def test_signals_and_deadlines_have_their_own_codes():
    assert verdict.interrupted(signal.SIGINT).exit_code == ExitCode.INTERRUPTED == 130
    assert verdict.interrupted(signal.SIGTERM).exit_code == ExitCode.TERMINATED == 143
    assert verdict.interrupted(signal.SIGHUP).exit_code == 129
    assert verdict.deadline_exceeded(60).exit_code == ExitCode.DEADLINE
    started = verdict.startup_deadline_exceeded(10, ready=1, wanted=2)
    assert started.message == (
        "1 of 2 workers (spec.workers.minReplicas) were connected after 10 s (spec.startupDeadlineSeconds)."
    )
    assert verdict.workers_lost(ready=0, wanted=1, seconds=5, memory=(WORKER_OOM,)).reason is Reason.WORKER_OOM_KILLED
    assert verdict.scheduler_lost(["last words"]).message.endswith("last words")
