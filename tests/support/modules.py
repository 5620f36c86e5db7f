"""Loads Python files that are in no package: the examples' scripts, what draws the pictures, tests' helpers."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from pathlib import Path
from types import ModuleType


def load_module(path: Path, name: str = "") -> ModuleType:
    """The file as a module, which goes by this name from now on (default: its folder's and its own)."""
    name = name or f"{path.parent.name}_{path.stem}".replace("-", "_")
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # where dataclasses and pickle look it up
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dask_ml's own, when it is imported
        spec.loader.exec_module(module)
    return module
