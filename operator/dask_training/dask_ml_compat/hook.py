"""Repairs modules of dask_ml as they are imported, and finds what old tutorials import."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# The modules of dask_ml with something to repair, and the modules of this package whose `repair(module)` does it.
REPAIRS = {
    "dask_ml.compose._column_transformer": ("columns",),
    "dask_ml.metrics.classification": ("metrics",),
    "dask_ml.metrics.regression": ("metrics",),
    "dask_ml.metrics.scorer": ("metrics",),
    "dask_ml.model_selection._incremental": ("incremental",),
    "dask_ml.model_selection._search": ("failures", "tags"),
    "dask_ml.model_selection.methods": ("failures",),
    "dask_ml.wrappers": ("tags",),
}
# Names that are gone; old_names.py says what stands for them. All start with one of these.
OLD_NAMES = (
    "dask_ml.joblib",
    "dask_searchcv",
    "dask_xgboost",
    "dklearn",
    "distributed.joblib",
    "sklearn.externals.joblib",
)


def install(client: Any = None) -> None:
    """Make dask_ml work in this process, whether it has been imported or not; a second call changes nothing.

    client: a `distributed.Client`; its workers, those that come later too, then get the same. They need this package.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
        for name in REPAIRS:
            module = sys.modules.get(name)
            if module is not None:
                _repair(module)
    if client is not None:
        from dask_training.dask_ml_compat.plugin import Install  # noqa: PLC0415 - imports distributed

        client.register_plugin(Install())


class _Finder:  # no importlib.abc: that import takes as long as all else here
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in REPAIRS:
            spec = _spec_of_others(fullname, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _RepairingLoader(spec.loader)  # type: ignore[assignment]
            return spec
        if fullname.startswith(OLD_NAMES) and (_is_ours(fullname) or _spec_of_others(fullname, path, target) is None):
            from dask_training.dask_ml_compat import old_names  # noqa: PLC0415 - few jobs need it

            return old_names.find_spec(fullname)
        return None


def _is_ours(fullname: str) -> bool:
    """Whether it is in a package for which another one stands, whose files must not be loaded a second time."""
    return any(
        fullname.startswith(f"{old}.") and old in sys.modules and sys.modules[old].__name__ != old for old in OLD_NAMES
    )


def _spec_of_others(fullname: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
    """What Python would find without us."""
    for finder in sys.meta_path:
        if not isinstance(finder, _Finder) and hasattr(finder, "find_spec"):
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                return spec
    return None


class _RepairingLoader:
    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _repair(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)  # get_source and the like, for tracebacks and `inspect`


def _repair(module: ModuleType) -> None:
    for name in REPAIRS[module.__name__]:
        importlib.import_module(f"dask_training.dask_ml_compat.{name}").repair(module)
