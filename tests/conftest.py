"""What all tests share: a guard that nothing outlives the test session.

All temporary files of a session go into a folder of its own, and all its processes carry a mark in their environment.
When the last test and its fixtures are done, both must be gone: what is left is named, removed, and fails the session.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import hypothesis
import psutil
import pytest
from machine import give_up_at
from streams import (  # noqa: F401 - hooks
    pytest_collection_modifyitems,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
    pytest_xdist_make_scheduler,
)

MARK = "PYTEST_SESSION_MARK"  # not DASK_*: a run keeps that from its processes
GRACE_SECONDS = 5.0  # for what is about to end by itself
# multiprocessing's and loky's own helper ends with the process that uses it.
HELPERS = ("multiprocessing.resource_tracker", "loky.backend.resource_tracker")

# The machine may be busy with other things: how long an example takes says nothing. In CI the examples are the same
# each time, so that a change is judged by itself; elsewhere new ones are looked for.
hypothesis.settings.register_profile(
    "unhurried",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=bool({"CI", "DASK_TRAINING_REQUIRE_E2E"} & os.environ.keys()),
)
hypothesis.settings.load_profile("unhurried")

ROOT = Path(__file__).parents[1]
# What git would not list, for a tree that came without git.
NOT_OURS = {".git", ".hypothesis", ".venv", "__pycache__", "build", "dist"}


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def project_files() -> list[Path]:
    """The files that are the project's, tracked or about to be: no caches, environments or results."""
    try:
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        files = [ROOT / name for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        top = [path for path in ROOT.iterdir() if path.name not in {"artifacts", *NOT_OURS}]
        files = [path for each in top for path in (each, *each.rglob("*"))]
        files = [path for path in files if not any(n in NOT_OURS or n.endswith("_cache") for n in path.parts)]
    return sorted(path for path in files if path.is_file())


@pytest.fixture
def checkout(project_files, tmp_path) -> Path:
    """A copy of the project as a clone would have it, in a folder whose name has a blank."""
    folder = tmp_path / "a clone"
    for path in project_files:
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target, follow_symlinks=False)
    return folder


@pytest.fixture(scope="session", autouse=True)
def nothing_outlives_the_session():
    """Fails the session when it leaves a process or a temporary file behind."""
    token = uuid.uuid4().hex
    # Short: the paths of Unix sockets are limited to 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="dtt-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MARK, token)
        # pytest's own folders stay where they can be looked at after the session.
        patch.setenv("PYTEST_DEBUG_TEMPROOT", os.environ.get("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir()))
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", str(folder))
        yield
        _end_loky()
        processes = _left_processes(token)
        described = [_describe(process) for process in processes]
        files = _left_files(folder)
        _kill(processes)
    shutil.rmtree(folder, ignore_errors=True)
    problems = [f"process {line}" for line in described] + [f"file {line}" for line in files]
    if problems:
        pytest.fail("the tests left behind (now removed):\n  " + "\n  ".join(problems), pytrace=False)


def _end_loky() -> None:
    """Ends joblib's process pool, which is made to outlive its user, where a test in this process has used it."""
    executors = sys.modules.get("joblib.externals.loky.reusable_executor")
    if executors is not None and executors._executor is not None:
        executors._executor.shutdown(wait=True, kill_workers=True)


def _left_processes(token: str) -> list[psutil.Process]:
    deadline = give_up_at(GRACE_SECONDS)
    while (left := _marked(token)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def _marked(token: str) -> list[psutil.Process]:
    """This session's processes: our descendants, and whatever carries our mark though its parent is gone."""
    own = psutil.Process()
    found = {process.pid: process for process in own.children(recursive=True)}
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == token:
                found[process.pid] = process
        except (psutil.Error, OSError):  # ended meanwhile, or another user's
            continue
    found.pop(own.pid, None)
    return [process for process in found.values() if _matters(process)]


def _matters(process: psutil.Process) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE and process.ppid() != os.getpid():
            return False  # ended; whoever adopted it is slow to collect it
        return not any(helper in part for part in process.cmdline() for helper in HELPERS)
    except psutil.Error:
        return False


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} ({process.status()}): {' '.join(process.cmdline())[:200] or process.name()}"
    except psutil.Error:
        return f"{process.pid}: ended while it was looked at"


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.Error:
            continue
    psutil.wait_procs(processes, timeout=GRACE_SECONDS)


def _left_files(folder: Path) -> list[str]:
    left = [path for path in folder.iterdir() if not _is_dasks_own(path)]
    return sorted(f"{path} ({'folder' if path.is_dir() else 'file'})" for path in left)


def _is_dasks_own(path: Path) -> bool:
    """The folder that distributed keeps its processes' folders in: it never removes that, and two lock files."""
    return path.name == "dask-scratch-space" and {each.name for each in path.iterdir()} <= {"global.lock", "purge.lock"}
