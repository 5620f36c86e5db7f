"""Installs the repairs on the workers of a client."""

from __future__ import annotations

from typing import Any

from distributed import WorkerPlugin

from dask_training.dask_ml_compat.hook import install


class Install(WorkerPlugin):
    """Calls `install` on each worker, those that come later too."""

    name = "dask-training-dask-ml"

    def setup(self, worker: Any) -> None:  # noqa: ARG002 - distributed's signature
        install()
