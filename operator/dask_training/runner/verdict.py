"""How a run ended, decided from what was seen: pure, a table in code."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from dask_training.api import ExitCode, Reason
from dask_training.runner.channel import Exited, Raised


@dataclass(frozen=True)
class Outcome:
    """The reason, a message for people and the code to exit with; `script_exit_code` if the code ran to an end."""

    reason: Reason
    message: str
    exit_code: int
    script_exit_code: int | None = None

    @property
    def succeeded(self) -> bool:
        return self.exit_code == ExitCode.OK


@dataclass(frozen=True)
class ChildEnd:
    """What is known of the child's end: its exit code (negative: a signal's), and what it said of it itself."""

    code: int
    raised: Raised | None = None
    exited: Exited | None = None


@dataclass(frozen=True)
class OutOfMemory:
    """A process that was killed because it went over its memory limit; None: not its own, the node's memory."""

    process: str
    limit_bytes: int | None
    field: str

    def __str__(self) -> str:
        if self.limit_bytes is None:
            return f"{self.process} was killed because its node ran out of memory (it has no {self.field})"
        limit = mebibytes(self.limit_bytes)
        return f"{self.process} was killed when it went over its memory limit of {limit} ({self.field})"


def mebibytes(size: int) -> str:
    """`size` bytes as a Kubernetes quantity, such as 512Mi."""
    return f"{size / 1024**2:.0f}Mi"


def of_child(end: ChildEnd, *, what: str, memory: tuple[OutOfMemory, ...] = ()) -> Outcome:
    """The outcome of a child that ended by itself; `what` names the user's code, such as `spec.runner.script`."""
    if end.raised is not None:
        return _raised(end.raised, end.code, what, memory)
    if end.code < 0:
        return _killed(-end.code, what, memory)
    if end.code == 0:
        return Outcome(Reason.COMPLETED, "the code ran to its end", ExitCode.OK, 0)
    said = f"called sys.exit({end.code})" if end.exited else f"ended with exit code {end.code}"
    return Outcome(Reason.RUNNER_FAILED, f"{what} {said}", end.code, end.code)


def _raised(raised: Raised, end_code: int, what: str, memory: tuple[OutOfMemory, ...]) -> Outcome:
    text = f"{raised.exception}: {raised.message}" if raised.message else raised.exception
    if "ClusterError" in raised.bases:
        oom = [death for death in memory if death.process != "runner"]
        if oom:
            return Outcome(Reason.WORKER_OOM_KILLED, f"{text}\n{_advice_on_memory(oom[-1])}", ExitCode.WORKERS_LOST, 1)
        return Outcome(Reason.WORKERS_UNAVAILABLE, text, ExitCode.WORKERS_LOST, 1)
    if raised.exception == "CommandError":
        return Outcome(Reason.RUNNER_FAILED, raised.message, end_code, end_code)
    place = f", line {raised.line} of {what}" if raised.line else f", raised by {what}"
    return Outcome(Reason.RUNNER_FAILED, f"{_shortened(text)}{place}{_hint(raised)}", end_code, end_code)


def _shortened(text: str, limit: int = 1000) -> str:
    return text if len(text) <= limit else text[:limit] + " …"


def _hint(raised: Raised) -> str:
    if raised.exception in ("ModuleNotFoundError", "ImportError"):
        return "\nAdd the package that has it to spec.packages, or your own module to the ConfigMap of spec.code."
    if raised.exception == "MemoryError" or "MemoryError" in raised.bases:
        return "\nRaise spec.runner.resources.limits.memory, or work on less data at a time."
    if raised.exception == "FileNotFoundError":
        return (
            "\nThe code runs in an empty folder of its own: write to os.environ['ARTIFACTS_DIR'], and read what the"
            " job brings along (spec.code) or an absolute path or URL."
        )
    return ""


def _killed(number: int, what: str, memory: tuple[OutOfMemory, ...]) -> Outcome:
    code = 128 + number
    own = [death for death in memory if death.process == "runner"]
    if own:
        return Outcome(Reason.RUNNER_OOM_KILLED, _advice_on_memory(own[-1]), code, code)
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    hint = {
        signal.SIGKILL: "If nobody did that on purpose, the machine ran out of memory.",
        signal.SIGSEGV: "A native library crashed; logs/runner.log has its last words.",
        signal.SIGABRT: "A native library gave up; logs/runner.log has its last words.",
    }.get(signal.Signals(number) if number in set(signal.Signals) else signal.SIGTERM, "")
    return Outcome(Reason.RUNNER_KILLED, f"{what} was killed by {name}. {hint}".rstrip(), code, code)


def _advice_on_memory(death: OutOfMemory) -> str:
    return f"{death}.\nRaise that limit, or give each task less to hold: fewer threads, smaller pieces of data."


def deadline_exceeded(seconds: float) -> Outcome:
    """`activeDeadlineSeconds` has passed."""
    return Outcome(
        Reason.DEADLINE_EXCEEDED,
        f"the job was still running after {seconds:g} s (spec.activeDeadlineSeconds) and was stopped.\n"
        "Raise the deadline, add workers, or give the job less to do.",
        ExitCode.DEADLINE,
    )


def startup_deadline_exceeded(seconds: float, *, ready: int, wanted: int, detail: str = "") -> Outcome:
    """`startupDeadlineSeconds` has passed without enough workers."""
    more = f"\n{detail}" if detail else ""
    return Outcome(
        Reason.STARTUP_DEADLINE_EXCEEDED,
        f"{ready} of {wanted} workers (spec.workers.minReplicas) were connected after {seconds:g} s"
        f" (spec.startupDeadlineSeconds).{more}",
        ExitCode.DEADLINE,
    )


def workers_lost(
    *, ready: int, wanted: int, seconds: float, memory: tuple[OutOfMemory, ...] = (), about_workers: str = ""
) -> Outcome:
    """Fewer than `minReplicas` workers for longer than `lossGraceSeconds`; `about_workers` says where to look."""
    text = (
        f"{ready} of {wanted} workers (spec.workers.minReplicas) were connected for {seconds:g} s"
        " (spec.workers.lossGraceSeconds)."
    )
    if memory:
        return Outcome(Reason.WORKER_OOM_KILLED, f"{text}\n{_advice_on_memory(memory[-1])}", ExitCode.WORKERS_LOST)
    advice = about_workers or "logs/worker-*.log say why they ended."
    return Outcome(Reason.WORKERS_UNAVAILABLE, f"{text}\n{advice}", ExitCode.WORKERS_LOST)


def worker_cannot_start(name: str, *, tries: int, memory: OutOfMemory | None, last_lines: list[str]) -> Outcome:
    """A worker ended `tries` times in a row before it was connected."""
    if memory is not None:
        text = (
            f"{memory}, {tries} times, before it had connected.\nA worker with scikit-learn needs 256Mi and its data."
        )
        return Outcome(Reason.WORKER_OOM_KILLED, text, ExitCode.WORKERS_LOST)
    said = "\n  ".join(last_lines)
    text = f"{name} ended {tries} times before it had connected. Its last lines:\n  {said}"
    return Outcome(Reason.WORKERS_UNAVAILABLE, text, ExitCode.WORKERS_LOST)


def scheduler_lost(last_lines: list[str] | None) -> Outcome:
    """The scheduler ended while it was needed; `last_lines` None: nobody here saw what it printed."""
    text = "the scheduler ended, and what it knew of the computation with it."
    if last_lines is not None:
        said = "\n  ".join(last_lines) or "it printed nothing"
        text = f"{text} Its last lines:\n  {said}"
    return Outcome(Reason.SCHEDULER_FAILED, text, ExitCode.WORKERS_LOST)


def host_lost(what: str) -> Outcome:
    """A scheduler that is not the job's own does not answer any more; `what` says whose and where."""
    text = f"{what} does not answer any more: what it knew of the job's computation is lost."
    return Outcome(
        Reason.SCHEDULER_FAILED, f"{text}\nspec.backoffLimit gives the job more attempts.", ExitCode.WORKERS_LOST
    )


def interrupted(number: int) -> Outcome:
    """The run was told to end by a signal."""
    return Outcome(Reason.INTERRUPTED, f"stopped by {signal.Signals(number).name}", 128 + number)
