"""Scripts for Cloudera Machine Learning, unchanged: importing this makes `import cdsw` and `import cml` work.

Where a script can't import anything first: `export PYTHONPATH="$(python -m dask_training.cml)"`.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

MODULES = Path(__file__).with_name("modules")
NAMES = ("cdsw", "cml", "cml.workers_v1")


def register() -> None:
    """Make `cdsw`, `cml` and `cml.workers_v1` importable in this process, where they are not already."""
    missing = [name for name in NAMES[:2] if importlib.util.find_spec(name) is None]
    if not missing:
        return
    sys.path.append(str(MODULES))
    importlib.invalidate_caches()


register()
