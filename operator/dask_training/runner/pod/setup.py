"""What each pod does before its own part: Dask's configuration, its user's packages and code."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from typing import NoReturn

from dask_training.api import Env, ExitCode, Reason
from dask_training.runner import packages
from dask_training.runner.dask_environment import thread_variables, tls_variables
from dask_training.runner.pod import init, last_word
from dask_training.runner.pod.paths import PodPaths
from dask_training.termination import Termination

_M_TRIM_THRESHOLD = -1
_TRIM_BYTES = 65536
# How much work a further worker has to find. Dask's own 5 s suits graphs that the scheduler knows whole; of a joblib
# call it knows two tasks for each thread at a time, so fits of a second would never ask for many workers.
_TARGET_DURATION = "DASK_DISTRIBUTED__ADAPTIVE__TARGET_DURATION"
_TARGET = "500ms"
_COMPLETE = "complete"  # in the layer once all of it is there: a container that is started again need not install it


def packages_to_install(paths: PodPaths) -> list[str] | None:
    """The packages that have yet to be installed: [] if the layer only has to be used, None if there is none to use."""
    if not os.environ.get(Env.PACKAGES) or str(packages.layer_site(paths.layer)) in _python_path():
        return None
    return [] if (paths.layer / _COMPLETE).exists() else list(json.loads(os.environ[Env.PACKAGES]))


def install_packages(paths: PodPaths, role: str) -> int | None:
    """Installs `packages` if there are any, then starts this program again with them; the exit code if that failed."""
    wanted = packages_to_install(paths)
    if wanted is None:
        return None
    if wanted:
        code, lines = _run(packages.pip_command(wanted, paths.layer))
        if code != 0:
            error = packages.failure(wanted, code, lines)
            last_word.write(
                paths, Termination(reason=Reason.PACKAGES_FAILED, message=str(error), exit_code=ExitCode.PACKAGES)
            )
            return ExitCode.PACKAGES
    return start_again(paths, role)


def start_again(paths: PodPaths, role: str) -> NoReturn:
    """Becomes a new process of this program, with the layer of packages in front."""
    (paths.layer / _COMPLETE).touch()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(packages.layer_site(paths.layer)), *_python_path()])
    os.environ["PATH"] = os.pathsep.join([str(paths.layer / "bin"), os.environ.get("PATH", os.defpath)])
    os.environ[init.INSIDE] = "1"
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "dask_training.runner.pod", role])  # noqa: S606 - no shell


def _python_path() -> list[str]:
    return [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]


def _run(command: Sequence[str]) -> tuple[int, list[str]]:
    """Runs pip with its output in the pod's log; its exit code and last lines."""
    lines: deque[str] = deque(maxlen=50)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        assert pip.stdout is not None  # noqa: S101 - for the type checker: PIPE was asked for
        for line in pip.stdout:
            lines.append(line.rstrip("\n"))
            sys.stdout.write(line)
    return pip.returncode, list(lines)


def configure_dask(paths: PodPaths, role: str, *, threads: int | None, tls: bool = True) -> None:
    """Sets what distributed and native libraries read when they are imported; `threads` None: as the machine has.

    `tls`: with the certificates of the attempt, and nothing without them.
    """
    if tls:
        os.environ.update(tls_variables("client" if role == "runner" else role, paths.secret))
    os.environ.setdefault("DASK_TEMPORARY_DIRECTORY", str(paths.work))
    os.environ[Env.ROLE] = role
    if role == "scheduler":
        os.environ.setdefault(_TARGET_DURATION, _TARGET)
    if threads is not None:
        for name, value in thread_variables(threads).items():
            os.environ.setdefault(name, value)


def trim_memory() -> None:
    """Gives freed memory back to the system early, as a nanny's worker does.

    By a call, since glibc reads MALLOC_TRIM_THRESHOLD_ before Python starts.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)


def use_code(paths: PodPaths) -> None:
    """Makes the job's own modules importable; last, so that none of them hides a module that we need ourselves."""
    code = str(paths.code)
    sys.path.insert(0, code)
    os.environ["PYTHONPATH"] = os.pathsep.join([code, *_python_path()])
