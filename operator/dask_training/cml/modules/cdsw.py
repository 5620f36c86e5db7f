"""The workers API under the name that CDSW and CML give it."""

from dask_training.cml.names import await_workers, launch_workers, list_workers, missing, stop_workers

__all__ = ["await_workers", "launch_workers", "list_workers", "stop_workers"]

__getattr__ = missing("cdsw")
