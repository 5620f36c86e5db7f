"""Imports, while a process waits for others, what the user's code will import anyway."""

from __future__ import annotations

import contextlib
import importlib
import os
import threading

from dask_training.api import Env


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
