"""Ends a process, and all it started, when the supervisor that started it is gone, however that came about.

The supervisor holds the only write end of a pipe; each process that it starts inherits the read end and watches it. The
kernel closes the write end when the supervisor ends, SIGKILL included.
"""

from __future__ import annotations

import os
import signal
import threading

from dask_training.api import Env


class Lifeline:
    """The supervisor's end: as long as it is open, the processes that hold `read_fd` go on."""

    def __init__(self) -> None:
        self.read_fd, self._write_fd = os.pipe()

    def let_go(self) -> None:
        """Closes the supervisor's end in a process that it forked, which would hold it open itself otherwise."""
        os.close(self._write_fd)

    def close(self) -> None:
        for fd in (self.read_fd, self._write_fd):
            os.close(fd)


def watch() -> None:
    """Starts watching the lifeline that this process inherited; does nothing where there is none."""
    text = os.environ.pop(Env.LIFELINE_FD, "")
    if text:
        fd = int(text)
        os.set_inheritable(fd, False)
        threading.Thread(target=_kill_group_when_closed, args=(fd,), name="lifeline", daemon=True).start()


def _kill_group_when_closed(fd: int) -> None:
    os.read(fd, 1)
    # The group, so that what the user's code started goes too: each process of a run leads a session of its own.
    os.killpg(os.getpgrp(), signal.SIGKILL)
