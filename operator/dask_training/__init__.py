"""Train scikit-learn models on Dask clusters of their own."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dask_training.runner.script_api import artifacts_dir, client, report

if TYPE_CHECKING:
    from dask_training.session import TrainingCluster, launch_cluster, list_clusters

__all__ = [
    "TrainingCluster",
    "__version__",
    "artifacts_dir",
    "client",
    "launch_cluster",
    "list_clusters",
    "report",
]
__version__ = "0.1.0"

# Imported when they are asked for: they bring Dask and the Kubernetes client along.
_LAZY = {
    "TrainingCluster": "dask_training.session",
    "launch_cluster": "dask_training.session",
    "list_clusters": "dask_training.session",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
