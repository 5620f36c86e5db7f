"""PID 1 of a job's pod: a small process that forwards signals, reaps orphans, and outlives what the kernel kills.

The pod's own program is its child. What that prints goes to the pod's log and, where asked for, to a file as well, so
that a worker's log can still be had when the worker was killed and started again.
"""

from __future__ import annotations

import ctypes
import io
import os
import selectors
import signal
import sys
import time
from pathlib import Path
from types import FrameType

_CHUNK = 64 * 1024
_LAST_WORDS_SECONDS = 0.2  # for what orphans still hold a pipe open
_PR_SET_CHILD_SUBREAPER = 36
INSIDE = "DASK_TRAINING_INSIDE"  # set for a program that starts itself again, with its packages
LOG_LIMIT_BYTES = 4 * 1024**2  # of the file; the one before it is kept, so a log has at least so many last bytes

_child = -1


def start(log: Path | None, streams: tuple[int, ...] = (1, 2)) -> int | None:
    """Forks; returns None in the child, and in the parent, once the child has ended, its exit code as a shell's.

    What the child prints to `streams` goes to `log` as well, if there is one.
    """
    pipes = [os.pipe() for _ in streams] if log is not None else []
    child = os.fork()
    if child == 0:
        for fd, (read_end, write_end) in zip(streams, pipes, strict=False):
            os.close(read_end)
            os.dup2(write_end, fd)
            os.close(write_end)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(write_through=True)  # what a task prints is to be seen when it prints it
        return None
    for _, write_end in pipes:
        os.close(write_end)
    if os.getpid() != 1:  # in a pod whose containers share their processes
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    outputs = {pipe[0]: fd for fd, pipe in zip(streams, pipes, strict=False)}
    try:
        return _watch(child, outputs, _Log(log) if log is not None else None)
    finally:
        _kill_orphans()


def _watch(child: int, outputs: dict[int, int], log: _Log | None) -> int:
    global _child  # noqa: PLW0603 - one process, one child
    _child = child
    woken, waker = os.pipe()
    for fd in (woken, waker):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, _forward)
    signal.signal(signal.SIGCHLD, _nothing)
    with selectors.DefaultSelector() as selector:
        selector.register(woken, selectors.EVENT_READ)
        for fd in outputs:
            selector.register(fd, selectors.EVENT_READ)
        code = _reap(child)
        while code is None:
            _copy(selector, outputs, log, woken, timeout=None)
            code = _reap(child)
        deadline = time.monotonic() + _LAST_WORDS_SECONDS
        while len(selector.get_map()) > 1 and (left := deadline - time.monotonic()) > 0:
            _copy(selector, outputs, log, woken, timeout=left)
    return code if code >= 0 else 128 - code


def _forward(number: int, _frame: FrameType | None) -> None:
    try:
        os.kill(_child, number)
    except ProcessLookupError:
        return


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Being called at all is what makes the wakeup fd readable."""


def _reap(child: int) -> int | None:
    """Reaps all that has ended; the child's exit code (negative: a signal's) once it is among them."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        if pid == child:
            code = os.waitstatus_to_exitcode(status)


def _kill_orphans() -> None:
    """Ends what the program left behind; where this is not PID 1, with whose end the kernel does that."""
    own = os.getpid()
    while True:
        try:
            children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        except OSError:
            return
        if not children:
            return
        for pid in map(int, children):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _copy(
    selector: selectors.BaseSelector, outputs: dict[int, int], log: _Log | None, woken: int, *, timeout: float | None
) -> None:
    for key, _ in selector.select(timeout):
        try:
            data = os.read(key.fd, _CHUNK)
        except BlockingIOError:
            continue
        if key.fd == woken:
            continue
        if not data:
            selector.unregister(key.fd)
            continue
        _write(outputs[key.fd], data)
        if log is not None:
            log.write(data)


def _write(fd: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        return  # nobody reads it any more


class _Log:
    """The last bytes of what was printed, in a file and the one before it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            print(f"dask-training: {path} can't be written: {error}", file=sys.stderr)  # noqa: T201 - the pod's log
            self._file = Path(os.devnull).open("ab", buffering=0)  # noqa: SIM115 - open as long as this process lives

    def write(self, data: bytes) -> None:
        try:
            self._file.write(data)
            if self._file.tell() > LOG_LIMIT_BYTES:
                self._file.close()
                self._path.replace(before(self._path))
                self._file = self._path.open("ab", buffering=0)
        except OSError:
            return  # a full disk must not end a pod


def before(log: Path) -> Path:
    """The file that holds what was printed before `log`'s first byte."""
    return log.with_name(f"{log.name}.1")


def read_log(log: Path) -> str:
    """What the pod printed, over all its containers' lives; only the end of it if that was much."""
    parts = []
    for path in (before(log), log):
        try:
            parts.append(path.read_bytes())
        except OSError:
            continue
    return b"".join(parts).decode(errors="replace")
