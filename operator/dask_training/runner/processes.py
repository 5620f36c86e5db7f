"""Processes of a run: started in a session of their own, read line by line, ended with all that they started."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from dask_training.api import Env
from dask_training.costs import Amounts
from dask_training.runner.forked import Forked
from dask_training.runner.lifeline import Lifeline

_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes there, KiB here
_CHUNK = 64 * 1024
MAX_LINE_BYTES = 64 * 1024


@dataclass(frozen=True)
class Exit:
    """How a process ended: `code` as in `Popen.returncode`; CPU seconds and peak memory with its own children's.

    `lived_seconds`: from its start to its end.
    """

    code: int
    cpu_seconds: float
    peak_memory_bytes: int
    lived_seconds: float = 0.0

    @property
    def used(self) -> Amounts:
        """Its CPU seconds, and its memory for as long as it lived."""
        return Amounts(cpu=self.cpu_seconds, memory_gib=self.peak_memory_bytes / 1024**3 * self.lived_seconds)


@dataclass(frozen=True)
class _Started:
    """A process that was started, and the ends of its pipes."""

    pid: int
    stdout: IO[bytes]
    stderr: IO[bytes]
    events: IO[bytes] | None
    popen: subprocess.Popen[bytes] | None = None


class RunProcess:
    """A started process of a run.

    Args:
        command: what to execute, or a child that was forked already, to which `env`, `cwd` and `lifeline` do not apply.
        env: its whole environment.
        cwd: its working directory.
        lifeline: the supervisor's; the process ends with it.
        on_line: called with each line of its output and the stream's name, from a thread per stream.
        on_event: if given, the process gets a pipe (`DASK_TRAINING_EVENTS_FD`), and each line of it is passed on.
        on_exit: called once, from a thread, after the process has ended and all its output was passed on.
        echo: whether its output also goes, byte by byte as it comes, to this process's own.
    """

    def __init__(
        self,
        command: Sequence[str] | Forked,
        *,
        env: Mapping[str, str],
        cwd: Path,
        lifeline: Lifeline,
        on_line: Callable[[str, str], None],
        on_event: Callable[[bytes], None] | None = None,
        on_exit: Callable[[Exit], None] | None = None,
        echo: bool = False,
    ) -> None:
        if isinstance(command, Forked):
            started = _adopt(command)
        else:
            started = _execute(command, env, cwd, lifeline, with_events=on_event is not None)
        self._began = time.monotonic()
        self._pid = started.pid
        self._popen = started.popen
        self._on_exit = on_exit
        self._exit: Exit | None = None
        self._died = threading.Event()
        self._ended = threading.Event()
        out, err = (1, 2) if echo else (None, None)
        self._readers = [
            _Reader(_read_lines, started.stdout, lambda line: on_line(line, "stdout"), out),
            _Reader(_read_lines, started.stderr, lambda line: on_line(line, "stderr"), err),
        ]
        if on_event is not None and started.events is not None:
            self._readers.append(_Reader(_read_events, started.events, on_event))
        self._reaper = _start(self._reap)

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def exit(self) -> Exit | None:
        """How the process ended, or None while it runs."""
        return self._exit

    def memory_bytes(self) -> int:
        """Resident memory of the process and all it started; 0 when it is gone."""
        total = 0
        for process in _family(self.pid):
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue
        return total

    def wait(self, timeout: float | None = None) -> bool:
        """Whether the process has ended and its output was passed on, after at most `timeout` seconds."""
        return self._ended.wait(timeout)

    def wait_for_death(self, timeout: float) -> bool:
        """Whether the process has ended, be its output passed on or not, after at most `timeout` seconds."""
        return self._died.wait(timeout)

    def signal(self, number: int) -> None:
        """Sends a signal to the process alone, if it still runs."""
        if self._exit is None:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def kill(self) -> None:
        """Kills the process and all it started, at once."""
        for process in _family(self.pid):
            try:
                process.kill()
            except psutil.Error:
                continue
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return

    def _reap(self) -> None:
        _, status, usage = os.wait4(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if self._popen is not None:
            self._popen.returncode = code  # so that Popen does not wait for it again
        ended = Exit(
            code=code,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            peak_memory_bytes=usage.ru_maxrss * _MAXRSS_UNIT,
            lived_seconds=time.monotonic() - self._began,
        )
        self._exit = ended
        self._died.set()
        self._kill_leftovers()
        for reader in self._readers:
            reader.await_end()
        self._ended.set()
        if self._on_exit is not None:
            self._on_exit(ended)

    def _kill_leftovers(self) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return


class _Reader:
    """A thread that reads one of a process's pipes to its end."""

    SILENCE_SECONDS = 1.0  # what the process started may have moved to another session and hold the pipe for ever
    LATE_SECONDS = 10.0  # a busy machine may keep the thread from reading what is there, to the end

    def __init__(self, read: Callable[..., None], stream: IO[bytes], *args: object) -> None:
        self._stream = stream
        self._thread = _start(read, stream, *args)

    def await_end(self) -> None:
        """Once the process has ended: return when all that it wrote was passed on."""
        self._thread.join(self.SILENCE_SECONDS)
        ended = time.monotonic()
        while self._thread.is_alive() and time.monotonic() - ended < self._patience():
            self._thread.join(0.05)

    def _patience(self) -> float:
        """For how long what is in the pipe now is worth waiting for."""
        ready = select.poll()
        try:
            ready.register(self._stream, select.POLLIN)
        except ValueError:  # closed: the thread is at its end
            return 0.0
        [(_, events)] = ready.poll(0) or [(0, 0)]
        if events & select.POLLHUP:
            return self.LATE_SECONDS
        return self.SILENCE_SECONDS if events else 0.0  # somebody may go on writing for ever


def _execute(
    command: Sequence[str], env: Mapping[str, str], cwd: Path, lifeline: Lifeline, *, with_events: bool
) -> _Started:
    environment = {**env, Env.LIFELINE_FD: str(lifeline.read_fd)}
    keep_open = [lifeline.read_fd]
    events_read = events_write = -1
    if with_events:
        events_read, events_write = os.pipe()
        environment[Env.EVENTS_FD] = str(events_write)
        keep_open.append(events_write)
    try:
        popen = subprocess.Popen(
            list(command),
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            pass_fds=keep_open,
        )
    finally:
        if with_events:
            os.close(events_write)
    assert popen.stdout is not None  # noqa: S101 - for the type checker: PIPE was asked for
    assert popen.stderr is not None  # noqa: S101
    events = os.fdopen(events_read, "rb") if with_events else None
    return _Started(popen.pid, popen.stdout, popen.stderr, events, popen)


def _adopt(forked: Forked) -> _Started:
    stdout, stderr, events = (os.fdopen(fd, "rb") for fd in (forked.stdout, forked.stderr, forked.events))
    return _Started(forked.pid, stdout, stderr, events)


def end_all(processes: Iterable[RunProcess], *, grace: float) -> None:
    """Ends the processes: SIGTERM to each, then SIGKILL to each family that is left after `grace` seconds."""
    running = [process for process in processes if process.exit is None]
    for process in running:
        process.signal(signal.SIGTERM)
    deadline = time.monotonic() + grace
    for process in running:
        if not process.wait(max(0.0, deadline - time.monotonic())):
            process.kill()
    for process in running:
        process.wait_for_death(10.0)  # nothing can refuse a SIGKILL; a busy kernel may be late with it
        process.wait(2.0)


def kill_marked(variable: str, value: str) -> int:
    """Kills every process of this user whose environment has `variable` set to `value`; returns how many there were.

    Finds what left its session or was orphaned, which no walk over children does.
    """
    killed = 0
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(variable) == value:
                process.kill()
                killed += 1
        except (psutil.Error, OSError):
            continue
    return killed


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _start(target: Callable[..., None], *args: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=args, daemon=True)
    thread.start()
    return thread


def _read_lines(stream: IO[bytes], on_line: Callable[[str], None], echo: int | None) -> None:
    """Passes each line on; one that is longer than MAX_LINE_BYTES comes in pieces, so that memory stays bounded."""
    with stream:
        pending = b""
        while chunk := os.read(stream.fileno(), _CHUNK):
            if echo is not None:
                _write(echo, chunk)
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                on_line(line.decode(errors="replace").rstrip("\r"))
            if len(pending) > MAX_LINE_BYTES:
                on_line(pending.decode(errors="replace"))
                pending = b""
        if pending:
            on_line(pending.decode(errors="replace"))


def _write(fd: int, data: bytes) -> None:
    with contextlib.suppress(OSError):  # nobody reads it any more
        while data:
            data = data[os.write(fd, data) :]


def _read_events(stream: IO[bytes], on_event: Callable[[bytes], None]) -> None:
    with stream:
        for line in stream:
            on_event(line)
