"""Python scripts in job files: do they parse, and what do they import?"""

from __future__ import annotations

import ast
import warnings

import msgspec

from dask_training.model.problems import plain

# Slow to import, and without effects when imported: nobody notices that they are there already.
_KNOWN = frozenset({"lightgbm", "matplotlib", "numpy", "pandas", "polars", "pyarrow", "scipy", "sklearn", "xgboost"})


class ScriptError(msgspec.Struct, frozen=True):
    """Why a script does not parse: `line` counts from 1 within the script."""

    line: int
    message: str


def check_script(text: str) -> ScriptError | None:
    """Why Python can't parse the script; None if it can."""
    if not text.strip():
        return ScriptError(1, "the script is empty")
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        return ScriptError(line, f"line {line} of the script holds a null character")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a doubtful escape is for the run to warn of
            ast.parse(text, "script")
    except SyntaxError as error:
        line = error.lineno or 1
        shown = text.split("\n")[line - 1].strip() if line <= text.count("\n") + 1 else ""
        return ScriptError(line, f"line {line} of the script is not Python: {error.msg}{_excerpt(shown)}{_hint(shown)}")
    except (ValueError, RecursionError, MemoryError) as error:  # nested too deeply for the parser
        return ScriptError(1, f"the script is not Python: {str(error) or 'nested too deeply'}")
    return None


def _excerpt(line: str) -> str:
    return f": {plain(line if len(line) <= 80 else line[:77] + '...')}" if line else ""


def _hint(line: str) -> str:
    if line.startswith(("%", "!")):
        return " (a notebook's % and ! commands are not Python: leave them out)"
    if line.startswith("print "):
        return " (this is Python 3)"
    return ""


def modules_imported_by(source: str) -> list[str]:
    """The modules of well-known libraries that `source` imports at its top level, in order; [] if it does not parse."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    found: dict[str, None] = {}
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name: None for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found[node.module] = None
    return [name for name in found if name.partition(".")[0] in _KNOWN]
