"""What a worker of the workers API runs: `python -m dask_training.runner.console [--remove] LAUNCH.json`.

The launch file is removed once it is read, where that is asked for. The code is Python as a CML console takes it: it
may be indented as a whole, and a line that begins with `!` is a shell's. A file `project.zip` beside the launch file is
unpacked below the working directory, and becomes it.
"""

from __future__ import annotations

import builtins
import linecache
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import traceback
import types
import zipfile
from pathlib import Path
from types import CodeType, FrameType
from typing import NoReturn

import msgspec

from dask_training.api import Env
from dask_training.runner import lifeline
from dask_training.runner.dask_environment import thread_variables

PROJECT_ZIP = "project.zip"
LAUNCH_FILE = "launch.json"
COMMANDS = Path(__file__).with_name("commands")
STARTED = b"started\n"
_CODE = "<code>"
_SHELL_LINE = re.compile(r"^(\s*)!(.*)$", re.MULTILINE)
_RUN_LINE = "__run_shell_line__"
_NOT_FOUND = 127  # a shell's code for a command that is not there
NO_R = (
    "kernel='r' needs Rscript, and there is none {where}: R must be in the image, "
    "such as one made FROM the runtime image with `apt-get install r-base-core`"
)


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is to run: `script`, a path in the project, or else `code`; `kernel` is python3 or r."""

    kernel: str = "python3"
    script: str = ""
    code: str = ""
    threads: int = 1


def main() -> NoReturn:
    """Runs the worker's code and exits as it does."""
    lifeline.watch()
    *options, file = sys.argv[1:]
    place = Path(file).resolve()
    launch = msgspec.json.decode(place.read_bytes(), type=Launch)
    if options == ["--remove"]:
        place.unlink()
    signal.signal(signal.SIGTERM, _exit_on_signal)
    _use_project(place.with_name(PROJECT_ZIP))
    _set_environment(launch.threads)
    _say_started()
    code = _run(launch)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    sys.exit(code)


def _exit_on_signal(number: int, _frame: FrameType | None) -> NoReturn:
    """As an exception, so that the code's own `finally` blocks run."""
    raise SystemExit(128 + number)


def _use_project(archive: Path) -> None:
    if not archive.is_file():
        return
    project = Path("project").resolve()
    project.mkdir(exist_ok=True)  # it may have no code
    with zipfile.ZipFile(archive) as file:
        file.extractall(project)
    os.chdir(project)


def cpu_variables(threads: int) -> dict[str, str]:
    """Has what runs in a worker use the CPUs that were asked for, and not all that the machine shows."""
    return thread_variables(threads) | {
        Env.THREADS: str(threads),
        "LOKY_MAX_CPU_COUNT": str(threads),  # joblib's n_jobs=-1
        "PYTHON_CPU_COUNT": str(threads),  # os.cpu_count() from Python 3.13 on
    }


def _set_environment(threads: int) -> None:
    for name, value in cpu_variables(threads).items():
        os.environ.setdefault(name, value)
    first = [str(COMMANDS), str(Path(sys.executable).parent)]
    os.environ["PATH"] = os.pathsep.join([*first, os.environ.get("PATH", os.defpath)])
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path.cwd()), *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ["PYTHONUNBUFFERED"] = "1"


def _say_started() -> None:
    fd = os.environ.pop(Env.EVENTS_FD, "")
    if fd:
        os.write(int(fd), STARTED)
        os.close(int(fd))


def _run(launch: Launch) -> int:
    if launch.kernel == "r":
        return _run_r(launch)
    text = Path(launch.script).read_text(encoding="utf-8") if launch.script else textwrap.dedent(launch.code)
    if not launch.script and (command := _shell_command(text)) is not None:
        return run_shell(command)
    name = str(Path(launch.script).resolve()) if launch.script else _CODE
    try:
        return _run_python(text, name, launch.script)
    except SystemExit as ended:
        return _exit_code(ended)
    except BaseException as error:  # noqa: BLE001 - whatever the code raises is shown
        _show(error, name)
        return 1


def _run_python(text: str, name: str, script: str) -> int:
    compiled = compile_console(text, name)
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    module = types.ModuleType("__main__")
    module.__dict__[_RUN_LINE] = _run_line
    module.__dict__["__builtins__"] = builtins
    if script:
        module.__file__ = name
    sys.modules["__main__"] = module
    sys.argv = [script or ""]
    folder = str(Path(name).parent) if script else str(Path.cwd())
    sys.path[:] = list(dict.fromkeys([folder, str(Path.cwd()), *sys.path]))
    exec(compiled, module.__dict__)  # noqa: S102 - the user's code is what a worker is for
    return 0


def compile_console(text: str, name: str = _CODE) -> CodeType:
    """Python that may have lines for a shell. Raises SyntaxError for what is neither."""
    try:
        return compile(text, name, "exec")
    except SyntaxError:
        changed = _SHELL_LINE.sub(lambda line: f"{line[1]}{_RUN_LINE}({line[2].strip()!r})", text)
        if changed == text:
            raise
        return compile(changed, name, "exec")


def _shell_command(text: str) -> str | None:
    """The command, where all of the code is one shell command, which may go over several lines."""
    stripped = text.strip()
    if not stripped.startswith("!"):
        return None
    if "\n" in stripped:
        try:
            compile_console(text)
        except SyntaxError:
            return stripped[1:]
        return None
    return stripped[1:]


def run_shell(command: str) -> int:
    """Run *command* in bash, or sh where there is no bash; its exit code as a shell gives it."""
    return _wait([shutil.which("bash") or "/bin/sh", "-c", command])


def _run_line(command: str) -> None:
    """One `!` line among Python: as in a console, the code goes on if it fails."""
    code = run_shell(command)
    if code:
        print(f"!{command}: exit code {code}", file=sys.stderr)  # noqa: T201 - the worker's own output


def _run_r(launch: Launch) -> int:
    rscript = shutil.which("Rscript")
    if rscript is None:
        print(NO_R.format(where="here"), file=sys.stderr)  # noqa: T201 - as above
        return _NOT_FOUND
    if launch.script:
        return _wait([rscript, launch.script])
    with tempfile.TemporaryDirectory(prefix="dask-training-r-") as folder:
        file = Path(folder) / "code.R"
        file.write_text(launch.code, encoding="utf-8")
        return _wait([rscript, str(file)])


def _wait(command: list[str]) -> int:
    sys.stdout.flush()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            raise
    return code if code >= 0 else 128 - code


def _exit_code(ended: SystemExit) -> int:
    if ended.code is None or isinstance(ended.code, int):
        return ended.code or 0
    print(ended.code, file=sys.stderr)  # noqa: T201 - as Python does
    return 1


def _show(error: BaseException, name: str) -> None:
    """The traceback from the user's code on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != name:
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace)


if __name__ == "__main__":
    main()
