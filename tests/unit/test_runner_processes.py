"""A process of a run: when its end is told."""

from __future__ import annotations

import os
import sys
import threading
import time

import pytest

from dask_training.runner.lifeline import Lifeline
from dask_training.runner.processes import RunProcess


@pytest.fixture
def start(tmp_path):
    """Start a Python program, `start(program, on_line)`; gives an Event for when its end was told."""
    lifeline = Lifeline()
    processes = []

    def start(program, on_line):
        told = threading.Event()
        command = [sys.executable, "-S", "-c", program]
        processes.append(
            RunProcess(
                command,
                env=dict(os.environ),
                cwd=tmp_path,
                lifeline=lifeline,
                on_line=on_line,
                on_exit=lambda _: told.set(),
            )
        )
        return told

    yield start
    for process in processes:
        process.kill()
        process.wait(30)
    lifeline.close()


def test_the_end_is_told_after_all_lines_though_who_reads_them_is_late(start):
    lines = []

    def late(line, stream):
        time.sleep(1.5)  # longer than a silent pipe is waited for
        lines.append((stream, line))

    program = "print('first', flush=True); print('second'); import time; time.sleep(0.2); print('last')"
    assert start(program, late).wait(30)
    assert lines == [("stdout", "first"), ("stdout", "second"), ("stdout", "last")]


def test_who_left_the_session_and_holds_the_pipe_does_not_keep_the_end_from_being_told(start, tmp_path):
    lines = []
    escapee = "import subprocess; p = subprocess.Popen(['sleep', '60'], start_new_session=True); print(p.pid)"
    begun = time.monotonic()
    try:
        assert start(escapee, lambda line, _: lines.append(line)).wait(30)
        assert time.monotonic() - begun < 10
    finally:
        os.kill(int(lines[0]), 9)
