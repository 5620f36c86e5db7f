"""Cloudera's workers API: `launch_workers`, `list_workers`, `await_workers`, `stop_workers`, `run_dask_cluster`.

Importing it sets the `CDSW_*` variables of a session that this process lacks.
"""

from dask_training.workers.dask_cluster import run_dask_cluster
from dask_training.workers.functions import await_workers, configure, launch_workers, list_workers, stop_workers
from dask_training.workers.state import session as _session

__all__ = ["await_workers", "configure", "launch_workers", "list_workers", "run_dask_cluster", "stop_workers"]

_session.introduce()
