"""compose.ColumnTransformer.

Its `_hstack` lacks the argument `n_samples` that scikit-learn passes since 1.6
(https://github.com/dask/dask-ml/issues/1019), and scikit-learn doesn't take a dask DataFrame for a frame since 1.0
(https://github.com/dask/dask-ml/issues/887 and 993).
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import dask.array as da
import dask.dataframe as dd
import pandas as pd
from sklearn.base import clone
from sklearn.preprocessing import FunctionTransformer

from dask_training.dask_ml_compat.versions import needs_repair


def repair(module: ModuleType) -> None:
    """Repair dask_ml.compose._column_transformer."""
    owner = module.ColumnTransformer
    if not needs_repair(scikit_learn="1.6") or "fit_transform" in vars(owner):
        return
    stack = owner._hstack  # noqa: SLF001 - what there is to repair

    def _hstack(self: Any, outputs: Any, *, n_samples: Any = None) -> Any:  # noqa: ARG001 - for a check
        return stack(self, outputs)

    def fit_transform(self: Any, X: Any, y: Any = None, **params: Any) -> Any:
        if isinstance(X, dd.DataFrame) and not params:
            return _fit_transform(self, X, y)
        return super(owner, self).fit_transform(X, y, **params)

    def transform(self: Any, X: Any, **params: Any) -> Any:
        if isinstance(X, dd.DataFrame) and not params:
            return _transform(self, X)
        return super(owner, self).transform(X, **params)

    owner._hstack, owner.fit_transform, owner.transform = _hstack, fit_transform, transform  # noqa: SLF001 - as above


def _fit_transform(self: Any, X: Any, y: Any) -> Any:
    """scikit-learn's steps; what they ask of the frame itself is asked of its empty model."""
    from sklearn.utils.validation import validate_data  # noqa: PLC0415 - not there before 1.6

    model = X._meta  # noqa: SLF001 - dask's name for it
    validate_data(self, X=model, skip_check_array=True)
    self._validate_transformers()
    self._validate_column_callables(model)
    self._validate_remainder(model)
    fitted, outputs = [], []
    for name, given, columns, weight in _steps(self, fitted=False, column_as_labels=False):
        part = _select(X, columns)
        if isinstance(given, str):  # "passthrough"
            transformer, output = FunctionTransformer(feature_names_out="one-to-one").fit(part._meta), part  # noqa: SLF001
        else:
            transformer = clone(given)
            output = transformer.fit_transform(part, y)
        fitted.append(transformer)
        outputs.append(_checked(name, given, output, weight))
    self.sparse_output_ = False
    self._update_fitted_transformers(fitted)
    if not outputs:
        return X[[]]
    self._validate_output(outputs)
    self._record_output_indices(outputs)
    return _beside(self, fitted, outputs, X)


def _transform(self: Any, X: Any) -> Any:
    from sklearn.utils.validation import check_is_fitted  # noqa: PLC0415 - with validate_data

    check_is_fitted(self)
    names = getattr(self, "feature_names_in_", None)
    used, outputs = [], []
    for name, transformer, columns, weight in _steps(self, fitted=True, column_as_labels=names is not None):
        part = _select(X, columns)
        used.append(transformer)
        passed = isinstance(transformer, FunctionTransformer) and transformer.func is None
        outputs.append(_checked(name, transformer, part if passed else transformer.transform(part), weight))
    return _beside(self, used, outputs, X) if outputs else X[[]]


def _steps(self: Any, **how: bool) -> list[tuple[str, Any, Any, float | None]]:
    return list(self._iter(**how, skip_drop=True, skip_empty_columns=True))


def _select(X: Any, columns: Any) -> Any:
    """The columns, chosen in any of scikit-learn's ways: a frame, or a series for a single name."""
    from sklearn.utils import _safe_indexing  # noqa: PLC0415 - private: only where it is needed

    if not isinstance(columns, slice):
        wanted = [columns] if isinstance(columns, str) else columns
        missing = {name for name in wanted if isinstance(name, str)} - set(X.columns)
        if missing:
            raise ValueError(f"columns are missing: {missing}")
    chosen = _safe_indexing(X._meta, columns, axis=1)  # noqa: SLF001 - as above
    return X[list(chosen.columns)] if chosen.ndim == 2 else X[chosen.name]


def _checked(name: str, transformer: Any, output: Any, weight: float | None) -> Any:
    if not isinstance(output, dd.DataFrame | da.Array):
        raise TypeError(
            f"ColumnTransformer: {name!r} ({type(transformer).__name__}) makes {type(output).__name__} of a dask "
            "DataFrame, in this process's memory: use one of dask_ml.preprocessing, or fit scikit-learn's "
            "ColumnTransformer on a sample and map_partitions its transform"
        )
    return output if weight is None else output * weight


def _beside(self: Any, transformers: list[Any], outputs: list[Any], X: Any) -> Any:
    """The outputs side by side, partition by partition: their rows are in X's order, whatever their index says."""
    if not any(isinstance(output, dd.DataFrame) for output in outputs):
        return self._hstack(outputs)
    frames = [
        output if isinstance(output, dd.DataFrame) else _as_frame(transformer, output, X)
        for transformer, output in zip(transformers, outputs, strict=True)
    ]
    model = _concat(*(frame._meta for frame in frames))  # noqa: SLF001 - as above
    return dd.map_partitions(_concat, *frames, meta=model, align_dataframes=False)


def _concat(*frames: pd.DataFrame) -> pd.DataFrame:
    index = frames[0].index
    return pd.concat([frame.set_axis(index, axis="index") for frame in frames], axis="columns")


def _as_frame(transformer: Any, output: Any, X: Any) -> Any:
    kind = type(transformer).__name__
    if hasattr(output._meta, "tocsr"):  # noqa: SLF001 - as above
        raise TypeError(f"ColumnTransformer: {kind} makes a sparse matrix, which can't stand beside a frame")
    names = [f"{kind.lower()}_{number}" for number in range(output.shape[1])]
    return dd.from_dask_array(output, columns=names, index=X.index)
