"""A joblib backend that runs tasks on a Dask cluster and survives the loss of its workers.

`register()` puts it in the place of joblib's own "dask" (and the old "dask.distributed"); plain scikit-learn code in
`joblib.parallel_config("dask")` then uses it. docs/joblib-backend.md says what it guarantees.

The scheduler imports this package to read the names of tasks, so nothing heavy is imported here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dask_training.joblib_backend.registration import register

if TYPE_CHECKING:
    from dask_training.joblib_backend.backend import DaskBackend

__all__ = ["DaskBackend", "register"]


def __getattr__(name: str) -> Any:
    if name == "DaskBackend":
        from dask_training.joblib_backend.backend import DaskBackend  # noqa: PLC0415 - see the module's docstring

        return DaskBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
