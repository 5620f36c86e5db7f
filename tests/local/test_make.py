"""make sets a fresh machine up, does nothing twice, and says what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from machine import slowdown

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(folder: Path, *arguments: str, timeout: float = 60, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs make as from a user's shell: without what an outer make or this environment has set."""
    ours = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHONPATH", "VIRTUAL_ENV"}
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    done = subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def base_python() -> str:
    """The Python that this environment was made from."""
    return getattr(sys, "_base_executable", sys.executable)


@pytest.mark.timeout(600)
def test_make_run_sets_everything_up_and_trains(checkout):
    """On a machine that has Python alone: the environment is made from the runtime's lock, and that suffices."""
    arguments = ["run", "JOB=examples/quickstart/job.yaml", f"PYTHON={base_python()}"]
    first = make(checkout, *arguments, timeout=500)
    assert "Installing" in first.stdout
    assert not (checkout / ".venv" / "bin" / "pytest").exists(), "run needs no development tools"
    assert list((checkout / "artifacts").rglob("manifest.json"))

    again = make(checkout, *arguments, timeout=120)
    assert "Installing" not in again.stdout
    started = time.monotonic()
    make(checkout, "--no-print-directory", ".venv/.runtime-installed")
    assert time.monotonic() - started < 1.0 * slowdown()
    assert len(list((checkout / "artifacts").rglob("manifest.json"))) == 2


def test_make_run_trains_the_flights_example(checkout):
    installed(checkout)
    assert make(checkout, "--dry-run", "run").stdout.split() == [".venv/bin/dask-training", "run", FLIGHTS]
    full = make(checkout, "--dry-run", "run", "FULL=1").stdout.split()
    assert full == [".venv/bin/dask-training", "run", FLIGHTS, "--", "--full"]


LOCKS = ("dev", "runtime", "install")
FLIGHTS = '"examples/flights/job.yaml"'


def installed(checkout: Path) -> None:
    """Lets make think that the environment is there and as new as can be."""
    binaries = checkout / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "python").touch()
    for stamp in (".runtime-installed", ".dev-installed"):
        (checkout / ".venv" / stamp).touch()


@pytest.mark.parametrize("target", ["run", "setup", "unit", "lint"])
@pytest.mark.parametrize("changed", ["pyproject.toml", *(f"locks/{name}.txt" for name in LOCKS), ".venv/bin/python"])
def test_only_a_change_that_matters_installs_again(checkout, target, changed):
    installed(checkout)
    assert "install" not in make(checkout, "--dry-run", target).stdout.replace("runtime-installed", "")
    later = time.time() + 10
    os.utime(checkout / changed, (later, later))
    matters = changed in {
        "pyproject.toml",
        ".venv/bin/python",
        "locks/install.txt",
        "locks/runtime.txt" if target == "run" else "locks/dev.txt",
    }
    assert ("scripts/install.py" in make(checkout, "--dry-run", target).stdout) is matters


def fake_python(folder: Path, body: str) -> str:
    path = folder / "python"
    path.write_text(f'#!/bin/sh\ncase "$*" in\n{body}\n*) exec "{sys.executable}" "$@" ;;\nesac\n')
    path.chmod(0o755)
    return f"PYTHON={path}"


def test_a_python_that_does_not_fit_is_named_with_those_that_do(checkout, tmp_path):
    python = fake_python(tmp_path, "*version_info*) exit 1 ;;")
    done = make(checkout, "setup", python, check=False)
    assert done.returncode == 2
    assert "needs Python 3.11, 3.12 or 3.13" in done.stderr
    assert "make setup PYTHON=python3.12" in done.stderr
    assert not (checkout / ".venv").exists()


def test_a_python_that_is_not_there_is_named(checkout):
    done = make(checkout, "setup", "PYTHON=python-of-mine", check=False)
    assert done.returncode == 2
    assert "'python-of-mine' is not that" in done.stderr


def test_a_python_without_venv_says_which_package_has_it(checkout, tmp_path):
    """As on Debian, where ensurepip is in a package of its own, and a half-made .venv would be in the way later."""
    python = fake_python(tmp_path, "*ensurepip*) echo \"No module named 'ensurepip'\" >&2; exit 1 ;;")
    done = make(checkout, "setup", python, check=False)
    assert done.returncode == 2
    assert "apt-get install python3-venv" in done.stderr
    assert not (checkout / ".venv").exists()


def test_an_environment_whose_python_is_gone_is_made_anew(checkout):
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to("/nowhere/python3")
    (checkout / ".venv" / "old").touch()
    make(checkout, ".venv/bin/python", f"PYTHON={base_python()}")
    assert not (checkout / ".venv" / "old").exists()
    assert (checkout / ".venv" / "bin" / "python").exists()


def test_make_alone_lists_the_targets(checkout):
    shown = make(checkout).stdout
    assert [line.split()[1] for line in shown.splitlines()][:4] == ["help", "run", "setup", "test"]
    assert all(len(line) <= 120 for line in shown.splitlines())


def test_make_clean_leaves_the_artifacts(checkout):
    installed(checkout)
    (checkout / "artifacts").mkdir()
    make(checkout, "clean")
    assert not (checkout / ".venv").exists()
    assert (checkout / "artifacts").exists()
