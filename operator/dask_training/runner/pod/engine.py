"""The program of a pod in mode Workers: it runs the user's code, without Dask, and says how that ended.

Standard output goes straight to the pod's log. The end of what is written to standard error is kept besides, for it is
where a command says why it failed.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

import msgspec

from dask_training.api import Env, ExitCode, Reason
from dask_training.runner import execution
from dask_training.runner.dask_environment import thread_variables
from dask_training.runner.pod import init, last_word, setup
from dask_training.runner.pod.paths import PodPaths
from dask_training.termination import Termination, tail

_NOT_FOUND = 127  # a shell's code for a command that is not there
_SCRIPT_NAME = "script.py"


class Code(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is to be run: one of `script`, `script_file` (below /script), `module` and `command`."""

    script: str | None = None
    script_file: str | None = None
    module: str | None = None
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What messages call it."""
        if self.script_file is not None:
            return self.script_file
        if self.script is not None:
            return "spec.runner.script"
        return f"module {self.module}" if self.module else f"command {self.command[0]}"


def main(paths: PodPaths) -> int:
    """Installs the job's packages, then runs its code; returns the code's exit code."""
    failed = setup.install_packages(paths, "engine")
    if failed is not None:
        return failed
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(write_through=True)  # as init does; here again for a program that was started again
    code = _code(paths)
    _set_environment()
    setup.use_code(paths)
    folder = paths.job / "work"
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    if code.command:
        return _become_command(code, paths)
    signal.signal(signal.SIGTERM, _raise_exit)
    return _run_python(code, paths)


def say_how_it_ended(exit_code: int, paths: PodPaths) -> None:
    """Writes the termination message, unless the code's own process has written it: a command can't."""
    if paths.termination.exists() and paths.termination.stat().st_size:
        return
    if exit_code == 0:
        _say(paths, Reason.COMPLETED, 0, "the code ran to its end")
        return
    words = tail(init.read_log(paths.log)).splitlines()[-1:]
    said = f"{_code(paths).name} ended with exit code {exit_code}{_signal(exit_code)}"
    _say(paths, Reason.RUNNER_FAILED, exit_code, ": ".join([said, *words]))


def _code(paths: PodPaths) -> Code:
    return msgspec.json.decode(paths.engine.read_bytes(), type=Code)


def _set_environment() -> None:
    """Native libraries and joblib follow the CPU request, where they would take the whole machine for theirs."""
    threads = int(os.environ.get(Env.THREADS, "1"))
    for name, value in {**thread_variables(threads), "LOKY_MAX_CPU_COUNT": str(threads)}.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("PYTHONUNBUFFERED", "1")  # for a command that is Python, too


def _raise_exit(number: int, _frame: FrameType | None) -> NoReturn:
    """SIGTERM ends the user's code as an exception does, so that its own `finally` blocks run."""
    raise SystemExit(128 + number)


def _become_command(code: Code, paths: PodPaths) -> int:
    command = [*code.command, *code.args]
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.stdout.flush()
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell
    except OSError as error:
        text = f"spec.runner.command: can't start {command[0]}: {error.strerror}"
        sys.stderr.write(f"{text}\n")
        _say(paths, Reason.RUNNER_FAILED, _NOT_FOUND, text)
        return _NOT_FOUND


def _run_python(code: Code, paths: PodPaths) -> int:
    script = _script(code, paths)
    try:
        execution.run_python(script, code.module, code.args)
    except SystemExit as ended:
        exit_code = _exit_code(ended)
        said = f"{code.name} called sys.exit({exit_code})"
        if isinstance(ended.code, str):
            said = f"{said}: {ended.code}"
        _say(paths, Reason.RUNNER_FAILED if exit_code else Reason.COMPLETED, exit_code, said)
        return exit_code
    except BaseException as error:  # noqa: BLE001 - whatever the user's code raises is reported
        trace = execution.users_part(error.__traceback__, script, code.module)
        traceback.print_exception(type(error), error, trace)
        exit_code = ExitCode.INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
        lines = [frame.lineno for frame in traceback.extract_tb(trace) if frame.filename == script]
        where = f", line {lines[-1]} of {code.name}" if lines else f", raised by {code.name}"
        _say(paths, Reason.RUNNER_FAILED, exit_code, "".join([_last_line(error), where, *_hint(error)]))
        return exit_code
    _say(paths, Reason.COMPLETED, 0, "the code ran to its end")
    return 0


def _script(code: Code, paths: PodPaths) -> str | None:
    """Where the script is, if there is one."""
    if code.script_file is not None:
        return str(paths.script / code.script_file)
    if code.script is None:
        return None
    path = paths.job / "script" / _SCRIPT_NAME
    path.parent.mkdir(exist_ok=True)
    path.write_text(code.script, newline="")
    return str(path)


def _exit_code(ended: SystemExit) -> int:
    if ended.code is None:
        return 0
    if isinstance(ended.code, int):
        return ended.code & 0xFF
    sys.stderr.write(f"{ended.code}\n")  # as Python itself does with sys.exit("message")
    return 1


def _last_line(error: BaseException, limit: int = 500) -> str:
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    return text if len(text) <= limit else f"{text[:limit]} …"


def _hint(error: BaseException) -> Iterator[str]:
    if isinstance(error, ImportError):
        yield "\nAdd the package that has it to spec.packages, or your own module to the ConfigMap of spec.code."
    elif isinstance(error, MemoryError):
        yield "\nRaise spec.workers.resources.limits.memory, or work on less data at a time."


def _signal(exit_code: int) -> str:
    number = exit_code - 128
    return f" ({signal.Signals(number).name})" if number in set(signal.Signals) else ""


def _say(paths: PodPaths, reason: Reason, exit_code: int, message: str) -> None:
    termination = Termination(
        reason=reason, message=message, succeeded=exit_code == 0, exit_code=exit_code, script_exit_code=exit_code
    )
    last_word.write(paths, termination)
