"""A pytest plugin, and a preload of Dask workers, that puts our backend in the place of joblib's in its own tests.

The tests know the backend by its class name, which workers report too.
"""

from __future__ import annotations

from typing import Any

import joblib._dask
import joblib.parallel
from distributed.utils_test import cleanup, loop, loop_in_thread  # noqa: F401 - fixtures that joblib's conftest has

from dask_training.joblib_backend import register
from dask_training.joblib_backend.backend import DaskBackend, NestedSequential

DaskBackend.__name__ = NestedSequential.__name__ = "DaskDistributedBackend"
joblib._dask.DaskDistributedBackend = DaskBackend
# As joblib does it: registered with the first use, since collecting its tests makes one of each registered backend.
joblib.parallel.EXTERNAL_BACKENDS["dask"] = lambda: register(wait_for_workers_timeout=10)


def dask_setup(worker: Any) -> None:
    """Run by Dask in each worker; importing this module has done it."""
