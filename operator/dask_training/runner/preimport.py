"""Imports, while a process waits for others, what the user's code will import anyway."""

from __future__ import annotations

import ast
import contextlib
import importlib
import os
import threading

from dask_training.api import Env

# Slow to import, and without effects when imported: nobody notices that they are there already.
_KNOWN = frozenset({"lightgbm", "matplotlib", "numpy", "pandas", "polars", "pyarrow", "scipy", "sklearn", "xgboost"})


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


def start() -> threading.Thread:
    """Starts importing what `DASK_TRAINING_PREIMPORT` lists (separated by commas); returns the thread that does it."""
    names = [name for name in os.environ.get(Env.PREIMPORT, "").split(",") if name]
    thread = threading.Thread(target=_import_all, args=(names,), name="preimport", daemon=True)
    thread.start()
    return thread


def _import_all(names: list[str]) -> None:
    for name in names:
        # What is missing or broken will be reported where the user's code imports it.
        with contextlib.suppress(Exception):
            importlib.import_module(name)
