"""Runs scripts as sessions of their own, with workers as processes of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from machine import give_up_at, slowdown

MARK = "DT_TEST_MARK"
RESULT = "RESULT "


@dataclass
class Ended:
    """A session that has ended; `result` is what its script printed last with `result(...)`."""

    code: int
    out: str
    err: str

    @property
    def result(self):
        lines = [line for line in self.out.splitlines() if line.startswith(RESULT)]
        assert lines, f"no result; it said:\n{self.out}\n{self.err}"
        return json.loads(lines[-1].removeprefix(RESULT))

    def lines(self, worker: str) -> list[str]:
        """What a worker printed, as the session showed it."""
        mark = f"[{worker}] "
        return [line.removeprefix(mark) for line in self.out.splitlines() if line.startswith(mark)]


PRELUDE = f"""
import json, os, sys, time
from dask_training.workers import *
def result(value):
    print({RESULT!r} + json.dumps(value), flush=True)
"""


class Project:
    """A folder with a project's files, where sessions start."""

    def __init__(self, folder: Path, mark: str, temporary: Path) -> None:
        self.folder = folder
        self.temporary = temporary
        self._mark = mark

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def start(self, text: str, *, prelude: str = PRELUDE, **env: str) -> subprocess.Popen:
        path = self.write("session.py", prelude + textwrap.dedent(text))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CDSW_", "CML_"))}
        environment = kept | {
            "DASK_TRAINING_WORKERS_LOCAL": "true",
            "TMPDIR": str(self.temporary),
            MARK: self._mark,
            **env,
        }
        return subprocess.Popen(
            [sys.executable, str(path)],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, text: str, *, timeout: float = 60, **options) -> Ended:
        process = self.start(text, **options)
        try:
            out, err = process.communicate(timeout=timeout * slowdown())
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            pytest.fail(f"still running after {timeout} s; it had said:\n{out}\n{err}")
        return Ended(process.returncode, out, err)

    def left(self, within: float = 5.0, but: int | None = None) -> list[str]:
        """Processes of the sessions that are still there, *but* one of them."""
        deadline = give_up_at(within)
        while left := _marked(self._mark, but):
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        return left


def _marked(mark: str, but: int | None) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != but and process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {' '.join(process.cmdline())}")
        except (psutil.Error, OSError):
            continue
    return found


@pytest.fixture
def project(tmp_path):
    """A project's folder; fails if a session leaves a process or a temporary file."""
    folder, temporary = tmp_path / "churn", tmp_path / "tmp"
    folder.mkdir()
    temporary.mkdir()
    project = Project(folder, uuid.uuid4().hex, temporary)
    yield project
    assert project.left() == []
    # Dask never removes the folder that its processes have theirs in.
    assert {path.name for path in temporary.iterdir()} <= {"dask-scratch-space"}
