"""A child that is forked rather than started anew, so that it need not import again what its parent has."""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TextIO

from dask_training.api import Env
from dask_training.runner.lifeline import Lifeline


@dataclass(frozen=True)
class Forked:
    """The parent's ends: the child's pid, and where its output and its events can be read."""

    pid: int
    stdout: int
    stderr: int
    events: int


def fork(env: Mapping[str, str], *, cwd: Path, lifeline: Lifeline) -> Forked | None:
    """Forks this process, which must have no other threads: the parent gets the child's ends, the child None.

    The child leads a session of its own, with `env` added to its environment.
    """
    pipes = [os.pipe() for _ in range(3)]
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid != 0:
        for _, write_end in pipes:
            os.close(write_end)
        return Forked(pid, *(read_end for read_end, _ in pipes))
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    lifeline.let_go()
    for read_end, _ in pipes:
        os.close(read_end)
    (_, stdout), (_, stderr), (_, events) = pipes
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    for fd in (stdout, stderr):
        os.close(fd)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    _write_through(sys.stdout)
    _write_through(sys.stderr)
    os.chdir(cwd)
    os.environ.update({**env, Env.EVENTS_FD: str(events), Env.LIFELINE_FD: str(lifeline.read_fd)})
    return None


def leave(code: int) -> NoReturn:
    """Ends a forked child as Python ends a program, but for taking the interpreter apart, which takes half a second."""
    with contextlib.suppress(Exception):
        threading._shutdown()  # type: ignore[attr-defined] # noqa: SLF001 - waits for the code's own threads
    atexit._run_exitfuncs()  # noqa: SLF001 - as multiprocessing's children do not, but programs do
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _write_through(stream: TextIO) -> None:
    """As PYTHONUNBUFFERED does: what the code prints is seen when it prints it."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(write_through=True)
