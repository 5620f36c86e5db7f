"""Puts one object in the place of another, everywhere in dask_ml."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


def replace(module: ModuleType, name: str, new: Any) -> Any:
    """Set `module.name` to `new`, also where modules loaded before have taken the old one over; gives the old one."""
    old = getattr(module, name)
    for loaded_name, loaded in list(sys.modules.items()):
        if loaded_name.startswith("dask_ml") and getattr(loaded, name, None) is old:
            setattr(loaded, name, new)
    setattr(module, name, new)
    return old
