"""Warns while the code still runs, so that nobody waits for hours to be told; each thing once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from dask_training.api import Phase
from dask_training.model import TrainingJob
from dask_training.runner import advisor
from dask_training.runner.events import Event, Listener, Notice, PhaseChanged, Progress, WorkersChanged

NOTHING_AFTER_SECONDS: Final = 60.0
TINY_AFTER_SECONDS: Final = 10.0  # of one parallel call; and as much of it must be left


class EarlyAdvice:
    """Passes a supervisor's events on to `listener`, and warns there of what they show.

    `worked` is asked, once, after a minute of the script: whether any task has come to the workers, None where that
    can't be told. Nothing is said where advice is off, or on somebody else's cluster, whose threads are not known.
    """

    def __init__(
        self,
        job: TrainingJob,
        listener: Listener,
        worked: Callable[[], bool | None],
        *,
        after: float = NOTHING_AFTER_SECONDS,
    ) -> None:
        self._job = job
        self._listener = listener
        self._worked = worked
        self._wanted = job.spec.cluster_ref is None and not advisor.is_off(job)
        self._after = after
        self._timer: threading.Timer | None = None
        self._closed = threading.Event()
        self._workers = 0
        self._first: Progress | None = None  # of the call that runs
        self._warned = False

    def __call__(self, event: Event) -> None:
        """Takes an event; from one thread."""
        self._listener(event)
        if not self._wanted:
            return
        match event:
            case PhaseChanged(phase=Phase.RUNNING) if self._timer is None:
                self._timer = threading.Timer(self._after, self._look)
                self._timer.daemon = True
                self._timer.start()
            case WorkersChanged(ready=ready):
                self._workers = max(self._workers, ready)
            case Progress() if not self._warned:
                self._take(event)

    def close(self) -> None:
        """The script is at its end: what is to be said of it is said with that."""
        self._closed.set()
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        if self._worked() is False and not self._closed.is_set():
            fix = advisor.nothing_on_workers(self._job, self._after, self._job.spec.workers.replicas).fix
            self._warn(
                f"no task has come to the workers in the script's first {self._after:.0f} s."
                f" If it is not just reading its data: {fix}."
            )

    def _take(self, event: Progress) -> None:
        first = self._first
        if first is None or event.call != first.call:
            self._first = event
            return
        tasks, seconds = event.done - first.done, event.at - first.at
        if tasks < advisor.FEWEST_TINY_TASKS or seconds < TINY_AFTER_SECONDS:
            return
        # Threads that were never idle would have taken so long for each; of one that was, the tasks are shorter still.
        longest = seconds * self._workers * self._job.spec.workers.nthreads / tasks
        left = TINY_AFTER_SECONDS if event.total is None else (event.total - event.done) * seconds / tasks
        if longest < advisor.TINY_TASK_SECONDS and left >= TINY_AFTER_SECONDS:
            self._warned = True
            advice = advisor.tiny_tasks(tasks, longest)
            self._warn(f"{advice.message}. Better: {advice.fix}.")

    def _warn(self, text: str) -> None:
        self._listener(Notice(message=text))
