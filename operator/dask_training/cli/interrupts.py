"""Signals that end a run: the first asks, a second one does not wait."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from dask_training.runner.events import Notice

if TYPE_CHECKING:
    from dask_training.cli.watch.feed import Feed

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A wrapper that passes on the Ctrl-C which the terminal has sent us already is not a second one.
_ONE_PRESS_SECONDS = 0.5


class Stop(Protocol):
    """What a signal sets."""

    signal_number: int

    def set(self) -> None:
        """Ask for the end."""


class Interrupts:
    """While it is entered, in the main thread, a signal sets *stop*; a second one raises KeyboardInterrupt.

    *says* is what the user is told is done then, *again* what a second Ctrl-C does. `number` is the first signal that
    came, or None. A signal that was ignored before (nohup) stays ignored.
    """

    def __init__(
        self, stop: Stop, feed: Feed, says: str = "stopping the job", again: str = "; once more to stop at once"
    ) -> None:
        self.number: int | None = None
        self._stop = stop
        self._feed = feed
        self._says = says
        self._again = again
        self._at = 0.0
        self._before: dict[int, Any] = {}
        # A handler may interrupt code that holds the very lock it would need: it only writes a byte.
        self._read, self._write = os.pipe()
        self._thread = threading.Thread(target=self._obey, name="interrupts", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._write)
        self._thread.join()
        os.close(self._read)

    @property
    def exit_code(self) -> int | None:
        """128 + the signal that came, as a shell reports it; None if none came."""
        return None if self.number is None else 128 + self.number

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a handler's signature
        now = time.monotonic()
        if self.number is None:
            self.number = number
            self._at = now
            os.write(self._write, b"!")
        elif now - self._at > _ONE_PRESS_SECONDS:
            raise KeyboardInterrupt

    def _obey(self) -> None:
        if not os.read(self._read, 1) or self.number is None:
            return
        self._feed.stop_waiting()
        self._stop.signal_number = self.number
        self._stop.set()
        name = "Ctrl-C" if self.number == signal.SIGINT else signal.Signals(self.number).name
        again = self._again if self.number == signal.SIGINT else ""
        self._feed(Notice(message=f"{name}: {self._says}{again}", level="info"))
