"""Displays for where there is no terminal: plain lines, JSON lines, or next to nothing."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import TextIO

import msgspec

from dask_training.api import Phase
from dask_training.cli.watch.state import FINAL_PHASES, NextCommands, RunState
from dask_training.cli.watch.summary import Summary, summary_of
from dask_training.cli.watch.text import displayable, duration, plain, plural, rate, time_left
from dask_training.runner.events import (
    DashboardReady,
    Event,
    Finished,
    Notice,
    Output,
    PhaseChanged,
    Progress,
    WorkersChanged,
    to_json,
)

# A line of progress: the first soon, then seldom enough that the log of a long run stays readable.
_PROGRESS_EVERY = ((60.0, 5.0), (600.0, 15.0), (float("inf"), 60.0))
_TAIL_LINES = 40


def write(stream: TextIO, text: str) -> None:
    """Write *text*, with what the stream's encoding lacks written as escapes."""
    try:
        stream.write(text)
    except UnicodeEncodeError:
        encoding = stream.encoding or "utf-8"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))


class JsonLines:
    """Each event as a line of JSON."""

    frame_seconds = 0.0
    tick_seconds: float | None = None
    may_skip = False

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def show(self, events: Sequence[Event], skipped: int) -> None:  # noqa: ARG002 - nothing is skipped
        """Write *events*."""
        self._out.write("".join(to_json(_encodable(event)) + "\n" for event in events))
        self._out.flush()

    def close(self) -> None:
        """Nothing is left to do."""


def _encodable(event: Event) -> Event:
    if isinstance(event, Output) and not event.line.isascii():
        line = event.line.encode("utf-8", "replace").decode()  # lone surrogates have no JSON
        return msgspec.structs.replace(event, line=line)
    return event


class PlainLines:
    """The script's output to *out* and *err* as it is; on *err* also what happens, each line with its time."""

    frame_seconds = 0.0
    tick_seconds: float | None = None
    may_skip = False

    def __init__(self, job: str, out: TextIO, err: TextIO, commands: NextCommands | None = None) -> None:
        self._state = RunState(job, commands=commands)
        self._out = out
        self._err = err
        self._next_progress: float | None = None

    def show(self, events: Sequence[Event], skipped: int) -> None:  # noqa: ARG002 - nothing is skipped
        """Write what *events* say."""
        pending: list[str] = []
        stream = self._out
        for event in events:
            if isinstance(event, Output):
                target, text = (self._err if event.stream == "stderr" else self._out), event.line + "\n"
            else:
                lines = self._lines(event)
                target, text = (self._err if lines else stream), "".join(f"{line}\n" for line in lines)
            if target is not stream:
                self._flush(stream, pending)
                stream = target
            pending.append(text)
        self._flush(stream, pending)

    def close(self) -> None:
        """Nothing is left to do."""

    @staticmethod
    def _flush(stream: TextIO, pending: list[str]) -> None:
        if pending:
            write(stream, "".join(pending))
            stream.flush()
            pending.clear()

    def _lines(self, event: Event) -> list[str]:
        before = self._state.current
        ready = self._state.workers.ready if self._state.workers else None
        self._state.apply(event)
        texts: list[str] = []
        match event:
            case PhaseChanged() if event.phase not in FINAL_PHASES:  # of those, Finished says all that belongs to it
                texts.append(_phase(event, before.phase if before else None, self._took()))
            case WorkersChanged() if event.ready != ready and event.desired:
                texts.append(f"workers: {event.ready} of {event.desired} ready{_restarts(event)}")
            case DashboardReady():
                texts.append(f"dashboard: {event.url}")
            case Notice():
                label = "note" if event.level == "info" else event.level
                texts += [f"{label}: {line}" for line in plain(event.message).splitlines()]
            case Progress() if self._progress_is_due(event):
                texts.append(", ".join(progress_parts(self._state, event.at)))
            case Finished():
                return ["", *summary_of(self._state).lines()]
        return [_stamped(event, text) for text in texts]

    def _took(self) -> str:
        closed = [span for span in self._state.spans if span.end is not None]
        return duration(closed[-1].seconds(0)) if closed else ""

    def _progress_is_due(self, event: Progress) -> bool:
        current = self._state.current
        elapsed = current.seconds(event.at) if current else 0.0
        pause = next(pause for limit, pause in _PROGRESS_EVERY if elapsed < limit)
        if self._next_progress is None:
            self._next_progress = event.at + pause
        if event.at < self._next_progress:
            return False
        self._next_progress = event.at + pause
        return True


class Quiet:
    """The last line of a run; of one that fails also its message and the last lines of its error output."""

    frame_seconds = 0.0
    tick_seconds: float | None = None
    may_skip = False

    def __init__(self, job: str, err: TextIO, commands: NextCommands | None = None) -> None:
        self._state = RunState(job, commands=commands)
        self._err = err
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)

    def show(self, events: Sequence[Event], skipped: int) -> None:  # noqa: ARG002 - nothing is skipped
        """Keep what may be needed; write at the end."""
        for event in events:
            self._state.apply(event)
            if isinstance(event, Output) and event.stream == "stderr":
                self._tail.append(displayable(event.line, colour=False))
            elif isinstance(event, Finished):
                self._finish(summary_of(self._state))

    def close(self) -> None:
        """Nothing is left to do."""

    def _finish(self, summary: Summary) -> None:
        lines = [summary.headline_with_place()] if summary.succeeded else [*self._tail, *summary.lines()]
        write(self._err, "".join(f"{line}\n" for line in lines))
        self._err.flush()


def progress_parts(state: RunState, now: float) -> list[str]:
    """Such as `23 of 60 tasks (fit)`, `12.1/s`, `0:03 left`."""
    event = state.progress
    if event is None:
        return []
    done = plural(event.done, "task") if event.total is None else f"{event.done:,} of {plural(event.total, 'task')}"
    parts = [f"{done} ({plain(event.name).lstrip('_')})" if event.name else done]
    speed, left = state.speed.per_second(), state.speed.seconds_left(event, now)
    if speed is not None:
        parts.append(rate(speed))
    if left is not None and event.done < (event.total or 0):
        parts.append(f"{time_left(left)} left")
    return parts


def _stamped(event: Event, text: str) -> str:
    return f"{time.strftime('%H:%M:%S', time.localtime(event.at))} {text}"


def _phase(event: PhaseChanged, before: Phase | None, took: str) -> str:
    text = event.phase if event.attempt == 1 else f"{event.phase} (attempt {event.attempt})"
    if before is not None and before is not event.phase:
        text += f" ({before} took {took})"
    return f"{text}: {plain(event.message)}" if event.message else text


def _restarts(event: WorkersChanged) -> str:
    return f" ({plural(event.restarts, 'restart')})" if event.restarts else ""
