"""Runs jobs on this machine."""

from dask_training.local.run import LocalOptions, StopSignal, run_locally

__all__ = ["LocalOptions", "StopSignal", "run_locally"]
