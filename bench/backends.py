"""joblib's backends that are compared, under names that joblib knows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import joblib
from distributed import Client
from joblib._dask import DaskDistributedBackend

from dask_training.joblib_backend import register

OURS, UPSTREAM, LOKY, THREADING = "ours", "upstream", "loky", "threading"
JOBLIB_NAMES = {OURS: "dask", UPSTREAM: "dask-upstream", LOKY: "loky", THREADING: "threading"}


@contextlib.contextmanager
def connected(address: str, workers: int) -> Iterator[Client]:
    """A client of a cluster with so many workers, and all backends under joblib's names."""
    with Client(address) as client:
        client.wait_for_workers(workers, timeout=60)
        register()
        joblib.register_parallel_backend(JOBLIB_NAMES[UPSTREAM], DaskDistributedBackend)
        yield client
