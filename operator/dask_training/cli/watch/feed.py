"""Between the run and what is shown of it: a queue and a thread, so that a slow terminal does not slow the script."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol, Self

from dask_training.runner.events import Event, Output

QUEUE_CHARACTERS = 32 * 2**20
# What one `show` gets at most: the display stays alive while megabytes are waiting.
BATCH_EVENTS = 5000
_EVENT_CHARACTERS = 100  # what an event costs in memory beside its text, roughly


class Display(Protocol):
    """Shows events to a person or a program."""

    frame_seconds: float
    """At least so long between two `show`; 0: as they come."""
    tick_seconds: float | None
    """`show` is called at least so often, with no events if need be; None: only with events."""
    may_skip: bool
    """True: output lines may be dropped when the reader is far behind; False: the script waits for its reader."""

    def show(self, events: Sequence[Event], skipped: int) -> None:
        """Show *events*; before them *skipped* lines of output were dropped."""

    def close(self) -> None:
        """Show what is still to be shown, and leave the terminal as it was."""


class Feed:
    """A listener for `run_locally` that hands events to *display* in a thread of its own.

    *on_gone* is called, once, when the reader has gone away (a closed pipe or terminal); nothing is shown from then on.
    """

    def __init__(self, display: Display, on_gone: Callable[[], None] = lambda: None) -> None:
        self.reader_gone = False
        self.failure: Exception | None = None
        self._display = display
        self._on_gone = on_gone
        self._changed = threading.Condition()
        self._events: list[Event] = []
        self._characters = 0
        self._skipped = 0
        self._closing = False
        self._patient = True
        self._thread = threading.Thread(target=self._run, name="display", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def __call__(self, event: Event) -> None:
        """Take *event*; waits only if the reader is 32 MiB behind and may not miss anything."""
        weight = _EVENT_CHARACTERS + (len(event.line) if isinstance(event, Output) else 0)
        with self._changed:
            if self._dead:
                return
            if self._characters > QUEUE_CHARACTERS and isinstance(event, Output):
                if self._display.may_skip:
                    self._skipped += 1
                    return
                while self._patient and self._characters > QUEUE_CHARACTERS and not self._dead:
                    self._changed.wait(0.2)
            self._events.append(event)
            self._characters += weight
            if len(self._events) == 1:
                self._changed.notify_all()

    def stop_waiting(self) -> None:
        """From now on the run does not wait for the reader: it is being stopped. Safe in a signal handler."""
        # No lock: the handler may have interrupted the thread that holds it. A waiting listener looks every 0.2 s.
        self._patient = False

    @property
    def _dead(self) -> bool:
        return self.reader_gone or self.failure is not None

    def _run(self) -> None:
        try:
            while self._step():
                pass
            self._display.close()
        except OSError as error:
            if error.errno not in {errno.EPIPE, errno.EIO, errno.ENXIO, errno.ENOTCONN, errno.ECONNRESET}:
                self._end(error)
            else:
                self._end(None)
        except Exception as error:  # noqa: BLE001 - a fault of the display must not end hours of training
            self._end(error)

    def _end(self, failure: Exception | None) -> None:
        with self._changed:
            self.failure = failure
            self.reader_gone = failure is None
            self._events.clear()
            self._characters = 0
            self._changed.notify_all()
        if self.reader_gone:
            self._on_gone()

    def _step(self) -> bool:
        """Show what is there, or wait for it; False when all is shown and no more will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._events or self._closing, timeout=self._display.tick_seconds)
            events, self._events = self._events[:BATCH_EVENTS], self._events[BATCH_EVENTS:]
            skipped, self._skipped = self._skipped, 0
            self._characters -= sum(
                _EVENT_CHARACTERS + (len(event.line) if isinstance(event, Output) else 0) for event in events
            )
            more, closing = bool(self._events), self._closing
            self._changed.notify_all()
        started = time.monotonic()
        if events or skipped or not closing:
            self._display.show(events, skipped)
        rest = self._display.frame_seconds - (time.monotonic() - started)
        if rest > 0 and not closing and not more:
            time.sleep(rest)
        return more or not closing
