"""The guard in tests/conftest.py lets nothing outlive a test session."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

CONFTEST = Path(__file__).parent.parent / "conftest.py"
# Of the tests that run this test.
OURS = {"PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"}


@pytest.fixture
def session(tmp_path):
    """Runs a test module under the guard: exit code, output, and what the test wrote into the file `note`."""

    def run(source: str) -> tuple[int, str, str]:
        (tmp_path / "conftest.py").write_text(
            CONFTEST.read_text().replace("GRACE_SECONDS = 5.0", "GRACE_SECONDS = 0.5")
        )
        (tmp_path / "test_it.py").write_text(source)
        environment = {name: value for name, value in os.environ.items() if name not in OURS}
        environment["PYTHONPATH"] = str(CONFTEST.parent / "support")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir=.", "."],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        note = tmp_path / "note"
        return done.returncode, done.stdout + done.stderr, note.read_text() if note.exists() else ""

    return run


def test_a_session_that_cleans_up_passes(session):
    code, output, _ = session(
        "import subprocess, sys, tempfile\n"
        "def test_it(tmp_path):\n"
        "    with tempfile.TemporaryDirectory():\n"
        "        subprocess.run([sys.executable, '-c', ''], check=True)\n"
    )
    assert code == 0, output
    assert output.strip().endswith("s")
    assert "1 passed" in output.splitlines()[-1]


@pytest.mark.parametrize("environment", [None, {}], ids=["marked", "child without the mark"])
def test_a_process_that_is_left_fails_the_session_and_is_killed(session, environment):
    code, output, pid = session(
        "import pathlib, subprocess, sys\n"
        "def test_it():\n"
        "    command = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        f"    process = subprocess.Popen(command, env={environment!r})\n"
        "    pathlib.Path('note').write_text(str(process.pid))\n"
    )
    assert code == 1, output
    assert re.search(rf"process {pid} \([\w-]+\): .*time\.sleep\(60\)", output)
    assert "1 passed, 1 error" in output.splitlines()[-1]
    assert not psutil.pid_exists(int(pid))


def test_an_orphan_in_a_session_of_its_own_is_found_by_its_mark(session):
    code, output, pid = session(
        "import pathlib, subprocess, sys\n"
        "SLEEP = 'import time; time.sleep(60)'\n"
        "START = f'import subprocess, sys; p = subprocess.Popen([sys.executable, \"-c\", {SLEEP!r}], '\\\n"
        "        'start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL); print(p.pid)'\n"
        "def test_it():\n"
        "    out = subprocess.run([sys.executable, '-c', START], capture_output=True, text=True, check=True).stdout\n"
        "    pathlib.Path('note').write_text(out.strip())\n"
    )
    assert code == 1, output
    assert f"process {pid} (" in output
    assert not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE


def test_a_temporary_folder_that_is_left_fails_the_session_and_is_removed(session):
    code, output, path = session(
        "import pathlib, tempfile\n"
        "def test_it():\n"
        "    path = tempfile.mkdtemp(prefix='dask-training-')\n"
        "    pathlib.Path('note').write_text(path)\n"
    )
    assert code == 1, output
    assert f"file {path} (folder)" in output
    assert not Path(path).exists()


def test_temporary_files_of_child_processes_are_seen_too(session):
    code, output, _ = session(
        "import subprocess, sys\n"
        "def test_it():\n"
        "    source = 'import tempfile; tempfile.mkstemp(suffix=\"-child\")'\n"
        "    subprocess.run([sys.executable, '-c', source], check=True)\n"
    )
    assert code == 1, output
    assert "-child (file)" in output


def test_joblibs_own_pool_is_ended_and_not_blamed(session):
    code, output, _ = session(
        "import joblib\n"
        "def test_it():\n"
        "    assert joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(-n) for n in range(4)) == [0, 1, 2, 3]\n"
    )
    assert code == 0, output
