"""What is known of a run, folded from its events; the displays only read it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from dask_training.api import Phase, Reason
from dask_training.runner.events import (
    ArtifactsStored,
    DashboardReady,
    Event,
    Finished,
    MetricsReported,
    MetricValue,
    PhaseChanged,
    Progress,
    WorkersChanged,
)

RATE_WINDOW_SECONDS = 15.0
NextCommands: TypeAlias = Callable[[Finished], Sequence[str]]
FINAL_PHASES = frozenset({Phase.SUCCEEDED, Phase.FAILED})


@dataclass(frozen=True)
class Span:
    """A phase that the job was in, from *start* to *end* (seconds since the epoch; None while it lasts)."""

    phase: Phase
    attempt: int
    message: str
    start: float
    end: float | None = None

    def seconds(self, now: float) -> float:
        """How long it took, or has taken by *now*."""
        return max(0.0, (now if self.end is None else self.end) - self.start)


class Speed:
    """Tasks per second over the last few seconds of one parallel call."""

    def __init__(self) -> None:
        self._call = 0
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, event: Progress) -> None:
        """Count *event* in."""
        if event.call != self._call or (self._samples and event.done < self._samples[-1][1]):
            self._samples.clear()
            self._call = event.call
        self._samples.append((event.at, event.done))
        # One sample from before the window stays: a task that takes longer than the window still has a rate.
        while len(self._samples) > 2 and self._samples[1][0] < event.at - RATE_WINDOW_SECONDS:
            self._samples.popleft()

    def per_second(self) -> float | None:
        """None until it can be told."""
        if len(self._samples) < 2:
            return None
        (start, first), (end, last) = self._samples[0], self._samples[-1]
        return (last - first) / (end - start) if last > first and end - start >= 0.2 else None

    def seconds_left(self, event: Progress, now: float) -> float | None:
        """Until *event*'s call has all its tasks done; None if it can't be told."""
        speed = self.per_second()
        if speed is None or event.total is None:
            return None
        return max(0.0, (event.total - event.done) / speed - (now - event.at))


@dataclass
class RunState:
    """Everything that a display draws from, as of the last event."""

    job: str
    spans: list[Span] = field(default_factory=list)
    workers: WorkersChanged | None = None
    dashboard: str = ""
    progress: Progress | None = None
    speed: Speed = field(default_factory=Speed)
    metrics: dict[str, MetricValue] = field(default_factory=dict)
    artifacts: ArtifactsStored | None = None
    finished: Finished | None = None
    commands: NextCommands | None = None
    """What to do next with a run that is not on this machine; None: as its artifacts' place suggests."""

    def apply(self, event: Event) -> None:
        """Take *event* in."""
        match event:
            case PhaseChanged():
                self._enter(event)
            case WorkersChanged():
                self.workers = event
            case DashboardReady():
                self.dashboard = event.url
            case Progress():
                self.progress = event
                self.speed.add(event)
            case MetricsReported():
                self.metrics = event.metrics
            case ArtifactsStored():
                self.artifacts = event
            case Finished():
                self._close(event.at)
                self.finished = event
                self.metrics = event.metrics or self.metrics
                self.artifacts = event.artifacts or self.artifacts

    @property
    def current(self) -> Span | None:
        """The phase that the job is in; None before the first and after the last."""
        return self.spans[-1] if self.spans and self.spans[-1].end is None else None

    def failed_span(self) -> Span | None:
        """The phase in which a failed run went wrong; None if it did not."""
        if self.finished is None or self.finished.phase is not Phase.FAILED or not self.spans:
            return None
        if self.finished.reason is Reason.ARTIFACT_STORE_FAILED:
            return self.spans[-1]
        working = [span for span in self.spans if span.phase is not Phase.FINALIZING]
        return working[-1] if working else self.spans[-1]

    def _enter(self, event: PhaseChanged) -> None:
        last = self.current
        if last is not None and (last.phase, last.attempt) == (event.phase, event.attempt):
            self.spans[-1] = Span(last.phase, last.attempt, event.message, last.start)
            return
        self._close(event.at)
        if event.phase not in FINAL_PHASES:
            self.spans.append(Span(event.phase, event.attempt, event.message, event.at))
        if event.phase is not Phase.RUNNING:
            self.progress = None

    def _close(self, at: float) -> None:
        last = self.current
        if last is not None:
            self.spans[-1] = Span(last.phase, last.attempt, last.message, last.start, at)
