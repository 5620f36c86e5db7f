"""As `cml`: the name with the API's version."""

from dask_training.cml.names import await_workers, launch_workers, list_workers, missing, stop_workers

__all__ = ["await_workers", "launch_workers", "list_workers", "stop_workers"]

__getattr__ = missing("cml.workers_v1")
