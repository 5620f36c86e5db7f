"""Runs a user's Python code in this process as `python script.py` or `python -m module` would."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from types import TracebackType

_OUR_FOLDER = Path(__file__).parent


def run_python(script: str | None, module: str | None, args: tuple[str, ...]) -> None:
    """Runs the script at that path, or else the module, as `__main__`; raises what it raises."""
    if script:
        sys.argv = [script, *args]
        sys.path.insert(0, str(Path(script).parent))
        runpy.run_path(script, run_name="__main__")
        return
    if module is None:
        raise ValueError("neither a script nor a module to run")
    sys.argv = [module, *args]
    sys.path.insert(0, str(Path.cwd()))
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def users_part(trace: TracebackType | None, script: str | None, module: str | None) -> TracebackType | None:
    """A traceback from the user's first line on, as `python script.py` prints it."""
    inner = trace
    while inner is not None:
        file = inner.tb_frame.f_code.co_filename
        if file == script or (module and not _is_ours(file)):
            return inner
        inner = inner.tb_next
    return trace


def _is_ours(file: str) -> bool:
    return "runpy" in file or _OUR_FOLDER in Path(file).parents
