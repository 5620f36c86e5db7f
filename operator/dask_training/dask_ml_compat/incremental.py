"""HyperbandSearchCV, IncrementalSearchCV, SuccessiveHalvingSearchCV and InverseDecaySearchCV.

They call `dask.persist` inside the client's event loop, which dask refuses since 2025.3.0 ("Attempting to use an
asynchronous Client in a synchronous context"): https://github.com/dask/dask-ml/issues/1016.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import dask
from dask.base import unpack_collections
from distributed import default_client

from dask_training.dask_ml_compat.versions import needs_repair


class _Dask:
    """The module `dask`, with a `persist` that asks the client, which works inside its loop too."""

    def __getattr__(self, name: str) -> Any:
        return getattr(dask, name)

    @staticmethod
    def persist(*args: Any, **kwargs: Any) -> Any:
        collections, repack = unpack_collections(*args)
        return repack(default_client().persist(collections, **kwargs)) if collections else args


def repair(module: ModuleType) -> None:
    """Give dask_ml.model_selection._incremental a `dask.persist` of its own."""
    if needs_repair(dask="2025.3") and not isinstance(module.dask, _Dask):
        module.dask = _Dask()  # type: ignore[attr-defined]
