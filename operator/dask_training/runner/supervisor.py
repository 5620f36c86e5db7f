"""Watches the child that runs the user's code, and its cluster, until it is decided how the run ended."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from dask_training.api import Phase
from dask_training.model import TrainingJob
from dask_training.runner import channel, verdict
from dask_training.runner.events import (
    Event,
    Listener,
    MetricsReported,
    MetricValue,
    Notice,
    Output,
    PhaseChanged,
    Progress,
    WorkersChanged,
)
from dask_training.runner.forked import Forked
from dask_training.runner.lifeline import Lifeline
from dask_training.runner.logs import LogFile
from dask_training.runner.processes import Exit, RunProcess, end_all
from dask_training.runner.run_summary import JoblibWork
from dask_training.runner.verdict import Outcome, OutOfMemory

# Enough for `finally` blocks; on one machine SIGINT has to end everything within 3 s.
CHILD_GRACE_SECONDS = 0.7


@dataclass(frozen=True)
class WorkersSeen:
    """So many workers are connected now."""

    ready: int


@dataclass(frozen=True)
class WorkerEnded:
    """A worker process ended without being told to, for lack of memory or otherwise; it will be started again."""

    name: str
    memory: OutOfMemory | None = None


@dataclass(frozen=True)
class MemoryExceeded:
    """The child went over its memory limit and is killed."""

    memory: OutOfMemory


@dataclass(frozen=True)
class ClusterFailed:
    """The cluster can't go on."""

    outcome: Outcome


@dataclass(frozen=True)
class StoreFailed:
    """The store that the artifacts are to go to can't be written to."""

    outcome: Outcome


@dataclass(frozen=True)
class StopRequested:
    """A signal told the run to end."""

    signal_number: int


@dataclass(frozen=True)
class _ChildEnded:
    exit: Exit


@dataclass(frozen=True)
class _StepEnded:
    exit: Exit


Happening = WorkersSeen | WorkerEnded | MemoryExceeded | ClusterFailed | StoreFailed | StopRequested
_Item = Happening | _ChildEnded | _StepEnded | channel.Message


@dataclass(frozen=True)
class Limits:
    """Deadlines in seconds, from `spec`.

    `started` (monotonic) is when this attempt did; `first_started` when the job's first one did, from which `active`
    counts. `about_workers` is a sentence that says where to look when workers are missing.
    """

    started: float
    first_started: float
    active: float | None
    startup: float
    loss_grace: float
    min_workers: int
    workers: int
    about_workers: str = ""

    @classmethod
    def of(cls, job: TrainingJob, *, started: float, first_started: float, about_workers: str = "") -> Limits:
        """Those of a job."""
        spec = job.spec
        return cls(
            started=started,
            first_started=first_started,
            active=spec.active_deadline_seconds,
            startup=spec.startup_deadline_seconds,
            loss_grace=spec.workers.loss_grace_seconds,
            min_workers=spec.workers.min_replicas,
            workers=spec.workers.replicas,
            about_workers=about_workers,
        )


@dataclass(frozen=True)
class ChildCommand:
    """How to start the child; `what` names the user's code in messages, `log` takes what it prints, `echo` too."""

    command: Sequence[str] | Forked
    env: Mapping[str, str]
    cwd: Path
    what: str
    log: LogFile
    echo: bool = False


class Surroundings(Protocol):
    """Who is told when the code has ended, and asked, when the child failed, whether that was its own fault."""

    def code_ended(self) -> None:
        """The code is at its end: what is fetched from the cluster can be fetched while the process ends."""

    def cluster_failure(self) -> Outcome | None:
        """The outcome if the cluster is gone; takes a fraction of a second, or some where it is busy."""

    def out_of_memory(self) -> OutOfMemory | None:
        """Whether the child was killed for lack of memory."""


class Supervisor:
    """One attempt's decisions, on one thread: everything that happens elsewhere is posted to it.

    `on_versions` gets the versions of packages that the child has, when the code starts. `child_grace`: seconds that
    the child has to end by itself once it is told to.
    """

    def __init__(
        self,
        limits: Limits,
        listener: Listener,
        *,
        attempt: int = 1,
        surroundings: Surroundings | None = None,
        on_versions: Callable[[Mapping[str, str]], None] | None = None,
        child_grace: float = CHILD_GRACE_SECONDS,
    ) -> None:
        self._limits = limits
        self._child_grace = child_grace
        self._surroundings = surroundings
        self._on_versions = on_versions or (lambda _: None)
        self._listener = listener
        self._attempt = attempt
        self._queue: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._raised: channel.Raised | None = None
        self._exited: channel.Exited | None = None
        self._memory: list[OutOfMemory] = []
        self._ready = 0
        self._below_since: float | None = None
        self._calls: dict[int, int] = {}
        self.running_since: float | None = None
        self.metrics: dict[str, MetricValue] = {}
        self.joblib = JoblibWork()
        self.worker_restarts = 0
        self.child: RunProcess | None = None

    @property
    def tasks(self) -> int:
        """The joblib tasks that were done."""
        return sum(self._calls.values())

    @property
    def killed_for_memory(self) -> int:
        """The workers that were killed when they went over their memory limit, as far as is known here."""
        return sum(death.process != "runner" for death in self._memory)

    def post(self, happening: Happening) -> None:
        """Tells the supervisor what happened; from any thread."""
        self._queue.put(happening)

    def run(self, child: ChildCommand, lifeline: Lifeline, started: Callable[[RunProcess], None]) -> Outcome:
        """Starts the child (then calls `started` with it) and returns the outcome, with the child ended."""

        def on_line(line: str, stream: str) -> None:
            child.log.write(line)
            self._listener(Output(line=line, stream=stream))

        self.child = RunProcess(
            child.command,
            env=child.env,
            cwd=child.cwd,
            lifeline=lifeline,
            on_line=on_line,
            on_event=self._on_message,
            on_exit=lambda ended: self._queue.put(_ChildEnded(ended)),
            echo=child.echo,
        )
        started(self.child)
        outcome = self._wait(child.what)
        assert isinstance(outcome, Outcome)  # noqa: S101 - no step runs beside the child
        end_all([self.child], grace=self._child_grace)
        self._drain()
        return outcome

    def workers_seen(self, ready: int) -> None:
        """Tells the supervisor how many workers are connected; from any thread."""
        self.post(WorkersSeen(ready))

    def run_step(self, start: Callable[[Callable[[Exit], None]], RunProcess]) -> Exit | Outcome:
        """Runs a process that comes before the child, such as pip: its exit, or the outcome if the run ended first.

        `start` starts it and hands it the callable that it must call when it has ended.
        """
        process = start(lambda ended: self._queue.put(_StepEnded(ended)))
        outcome = self._wait("")
        if isinstance(outcome, Outcome):
            end_all([process], grace=self._child_grace)
        return outcome

    def _wait(self, what: str) -> Outcome | Exit:
        """Handles what is posted until the run, or the step, is at its end."""
        while True:
            try:
                item = self._queue.get(timeout=self._seconds_to_deadline())
            except queue.Empty:
                outcome = self._deadline_passed()
            else:
                if isinstance(item, _StepEnded):
                    return item.exit
                outcome = self._handle(item, what)
            if outcome is not None:
                return outcome

    def _on_message(self, line: bytes) -> None:
        try:
            self._queue.put(channel.parse(line))
        except msgspec.DecodeError:
            return  # the pipe is the user's code's too: what is not a message of ours is not for us

    def _drain(self) -> None:
        """Takes note of what the child said in its last moments, such as metrics; the outcome stands already."""
        while not self._queue.empty():
            item = self._queue.get()
            if isinstance(item, MetricsReported | Progress | channel.JoblibCall):
                self._note(item)

    def _handle(self, item: _Item, what: str) -> Outcome | None:  # noqa: PLR0912 - a table, one line for each
        match item:
            case _ChildEnded(exit=ended):
                return self._child_ended(ended, what)
            case ClusterFailed(outcome=outcome) | StoreFailed(outcome=outcome):
                return outcome
            case StopRequested(signal_number=number):
                return verdict.interrupted(number)
            case channel.Raised():
                self._raised = item
            case channel.Exited():
                self._exited = item
            case channel.Started(versions=versions):
                self.running_since = time.monotonic()
                self._listener(PhaseChanged(phase=Phase.RUNNING, attempt=self._attempt))
                self._on_versions(versions)
            case channel.Ended():
                if self._surroundings is not None:
                    self._surroundings.code_ended()
            case WorkersSeen(ready=ready):
                self._workers_changed(ready)
            case WorkersChanged(ready=ready):
                self._workers_changed(ready)
            case WorkerEnded():
                self._worker_ended(item)
            case MemoryExceeded(memory=memory):
                self._memory.append(memory)
            case MetricsReported() | Progress() | Notice() | channel.JoblibCall():
                self._note(item)
        return None

    def _note(self, event: Event) -> None:
        if isinstance(event, channel.JoblibCall):
            self.joblib = self.joblib.plus(event.tasks, event.batches, event.seconds)
            return
        if isinstance(event, MetricsReported):
            self.metrics = event.metrics
        if isinstance(event, Progress):
            self._calls[event.call] = event.done
        self._listener(event)

    def _child_ended(self, ended: Exit, what: str) -> Outcome:
        end = verdict.ChildEnd(ended.code, raised=self._raised, exited=self._exited)
        if ended.code != 0:
            # A scheduler that dies takes the child with it, and which of the two is noticed first is chance.
            failed = self._surroundings.cluster_failure() if self._surroundings else self._cluster_failure(within=0.3)
            if failed is not None:
                return failed
            death = self._surroundings.out_of_memory() if self._surroundings and ended.code < 0 else None
            if death is not None:
                self._memory.append(death)
        return verdict.of_child(end, what=what, memory=tuple(self._memory))

    def _cluster_failure(self, *, within: float) -> Outcome | None:
        deadline = time.monotonic() + within
        while (left := deadline - time.monotonic()) > 0:
            try:
                item = self._queue.get(timeout=left)
            except queue.Empty:
                return None
            if isinstance(item, ClusterFailed):
                return item.outcome
            if isinstance(item, MemoryExceeded):
                self._memory.append(item.memory)
            elif isinstance(item, WorkerEnded):
                self._worker_ended(item)
        return None

    def _worker_ended(self, item: WorkerEnded) -> None:
        self.worker_restarts += 1
        if item.memory is not None:
            self._memory.append(item.memory)
            self._listener(Notice(message=f"{item.memory}; it is started again."))
        else:
            self._listener(Notice(message=f"{item.name} ended unexpectedly; it is started again."))

    def _workers_changed(self, ready: int) -> None:
        if ready == self._ready:
            return
        self._ready = ready
        if ready >= self._limits.min_workers:
            self._below_since = None
        elif self._below_since is None and self.running_since is not None:
            self._below_since = time.monotonic()
        self._listener(WorkersChanged(desired=self._limits.workers, ready=ready, restarts=self.worker_restarts))

    def _seconds_to_deadline(self) -> float | None:
        deadlines = [self._limits.first_started + self._limits.active] if self._limits.active is not None else []
        if self.running_since is None:
            deadlines.append(self._limits.started + self._limits.startup)
        if self._below_since is not None:
            deadlines.append(self._below_since + self._limits.loss_grace)
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _deadline_passed(self) -> Outcome | None:
        now = time.monotonic()
        limits = self._limits
        if limits.active is not None and now >= limits.first_started + limits.active:
            return verdict.deadline_exceeded(limits.active)
        if self.running_since is None and now >= limits.started + limits.startup:
            return verdict.startup_deadline_exceeded(
                limits.startup, ready=self._ready, wanted=limits.min_workers, detail=limits.about_workers
            )
        if self._below_since is not None and now >= self._below_since + limits.loss_grace:
            return verdict.workers_lost(
                ready=self._ready,
                wanted=limits.min_workers,
                seconds=limits.loss_grace,
                memory=tuple(death for death in self._memory if death.process != "runner"),
                about_workers=limits.about_workers,
            )
        return None
