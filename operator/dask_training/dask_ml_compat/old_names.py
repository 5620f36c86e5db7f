"""What tutorials of 2017 to 2020 import: joblib under its old names, dask-searchcv, dask-xgboost, dask-learn."""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType

# Old name -> the module that stands for it now; of the first two the import alone made joblib's backend known.
_MOVED = {
    "dask_ml.joblib": "joblib",
    "distributed.joblib": "joblib",
    "sklearn.externals.joblib": "joblib",
    "dask_searchcv": "dask_ml.model_selection",
}
_REGISTERING = ("dask_ml.joblib", "distributed.joblib")
_WRITE = {
    "dask_xgboost": "dask-xgboost is part of XGBoost now: write `from xgboost import dask as dxgb`",
    "dklearn": "dask-learn is dask-ml now: write `from dask_ml.model_selection import GridSearchCV`",
}


def find_spec(name: str) -> ModuleSpec | None:
    """A spec that gives the module of today. Raises ModuleNotFoundError with what to write where there is none."""
    for old, advice in _WRITE.items():
        if name == old or name.startswith(f"{old}."):
            raise ModuleNotFoundError(f"No module named {name!r}: {advice}", name=name)
    for old, new in _MOVED.items():
        if name == old or name.startswith(f"{old}."):
            return ModuleSpec(name, _Alias(old, new + name.removeprefix(old)), is_package=True)
    return None


class _Alias(Loader):
    def __init__(self, old: str, new: str) -> None:
        self._old = old
        self._new = new

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:  # noqa: ARG002 - importlib's signature
        return None

    def exec_module(self, module: ModuleType) -> None:
        warnings.warn(
            f"{module.__name__} is gone: write `import {self._new}`"
            + (" and `joblib.parallel_config('dask')`" if self._old in _REGISTERING else ""),
            FutureWarning,
            stacklevel=2,
        )
        current = importlib.import_module(self._new)
        if self._old in _REGISTERING:
            from joblib.parallel import BACKENDS  # noqa: PLC0415 - joblib may not be wanted at all

            from dask_training import joblib_backend  # noqa: PLC0415 - as above

            if "dask.distributed" not in BACKENDS:
                joblib_backend.register()
        sys.modules[module.__name__] = current
