"""Runs jobs as a user does, with `dask-training run`, and checks after each that nothing is left."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml
from machine import give_up_at, slowdown

from dask_training import api
from dask_training.artifacts import ArtifactStore


@dataclass
class Run:
    """What a run said and left; `seconds` is the whole command's time, `ending` from the signal on."""

    exit_code: int
    events: list[dict]
    stderr: str
    seconds: float
    ending: float | None

    @property
    def finished(self) -> dict:
        assert self.events, f"no events; stderr: {self.stderr}"
        assert self.events[-1]["type"] == "finished", self.events[-1]
        assert sum(event["type"] == "finished" for event in self.events) == 1
        return self.events[-1]

    @property
    def output(self) -> str:
        return "\n".join(event["line"] for event in self.of("output"))

    @property
    def notices(self) -> str:
        return "\n".join(event["message"] for event in self.of("notice"))

    def of(self, kind: str) -> list[dict]:
        return [event for event in self.events if event["type"] == kind]

    @property
    def folder(self) -> Path:
        """Where the artifacts are; verified."""
        folder = Path(self.finished["artifacts"]["url"].removeprefix("file://"))
        assert ArtifactStore.from_url(str(folder.parent)).verify(folder.name) == []
        return folder

    def kept(self) -> set[str]:
        """The paths that the manifest lists."""
        return {entry["path"] for entry in json.loads((self.folder / "manifest.json").read_text())["files"]}


def job(spec: dict | None = None, *, script: str | None = None, name: str = "test", **workers) -> dict:
    """A small job with one worker; `workers` are fields of spec.workers."""
    body = {"runner": {"script": script}} if script is not None else {}
    body |= spec or {}
    body.setdefault("workers", {}).setdefault("replicas", 1)
    body["workers"] |= workers
    return {"apiVersion": api.API_VERSION, "kind": api.KIND, "metadata": {"name": name}, "spec": body}


@pytest.fixture
def run_job(tmp_path):
    """Runs documents (or text) with `dask-training run - --json`; fails if a process or temporary file is left."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    mark = uuid.uuid4().hex

    def run(*documents, options=(), env=None, timeout=90, send=None, when=None) -> Run:
        text = documents[0] if isinstance(documents[0], str) else yaml.safe_dump_all(documents, sort_keys=False)
        command = [sys.executable, "-m", "dask_training.cli", "run", "-", "--json"]
        command += ["--artifacts", str(tmp_path / "artifacts"), *options]
        environment = {**os.environ, "TMPDIR": str(temporary), "DT_TEST_MARK": mark, **(env or {})}
        started = time.monotonic()
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
        )
        assert process.stdin is not None
        process.stdin.write(text)
        process.stdin.close()
        process.stdin = None
        signalled, seen = None, ""
        if send is not None:
            seen = _read_until(process, when)
            signalled = time.monotonic()
            process.send_signal(send)
        try:
            out, err = process.communicate(timeout=timeout * slowdown())
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=10)
            pytest.fail(f"still running after {timeout} s; it had said:\n{seen}{out[-3000:]}\n{err[-2000:]}")
        ended = time.monotonic()
        events = [json.loads(line) for line in (seen + out).splitlines()]
        return Run(process.returncode, events, err, ended - started, ended - signalled if signalled else None)

    yield run
    assert _left_processes(mark) == []
    assert [path.name for path in temporary.iterdir()] == []


def _read_until(process, text) -> str:
    """To the end of the line with the text, and no further: the rest is for `communicate`."""
    seen = b""
    while byte := os.read(process.stdout.fileno(), 1):
        seen += byte
        if byte == b"\n" and text.encode() in seen.splitlines()[-1]:
            return seen.decode()
    pytest.fail(f"ended before it said {text!r}: {seen.decode()} {process.stderr.read()}")


def _left_processes(mark: str, within: float = 3.0) -> list[str]:
    """Processes that inherited the mark; those that are about to end get a moment."""
    deadline = give_up_at(within)
    while True:
        left = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("DT_TEST_MARK") == mark and process.status() != psutil.STATUS_ZOMBIE:
                    left.append(f"{process.pid} {' '.join(process.cmdline())}")
            except (psutil.Error, OSError):
                continue
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


@pytest.fixture
def make_job():
    """The function `job` of this file."""
    return job


@pytest.fixture(scope="session")
def other_joblib(tmp_path_factory):
    """A folder for PYTHONPATH with another joblib than this environment's."""
    folder = tmp_path_factory.mktemp("joblib")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    subprocess.run([*command, "--target", str(folder), "joblib==1.5.3"], check=True, timeout=120)
    return folder
