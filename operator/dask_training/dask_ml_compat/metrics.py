"""r2_score (and LinearRegression.score, which calls it), log_loss, and the scorer neg_log_loss.

r2_score assigns to a masked dask array, which dask refuses since 2025.2.0 ("cannot broadcast shape (nan,)"):
https://github.com/dask/dask-ml/issues/1012. log_loss passes `eps`, which scikit-learn 1.5 has removed, and its scorer
`needs_proba`, which 1.6 has removed.
No issue of dask-ml tells of it; scikit-learn's change is https://github.com/scikit-learn/scikit-learn/pull/28851.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import dask
import dask.array as da
import numpy as np
import sklearn.metrics
from dask import is_dask_collection

from dask_training.dask_ml_compat.names import replace
from dask_training.dask_ml_compat.versions import needs_repair


def repair(module: ModuleType) -> None:
    """Repair dask_ml.metrics.regression, .classification or .scorer."""
    part = module.__name__.rpartition(".")[2]
    if part == "regression" and needs_repair(dask="2025.2"):
        replace(module, "r2_score", r2_score)
    if part == "classification" and needs_repair(scikit_learn="1.5"):
        replace(module, "log_loss", log_loss)
    if part == "scorer" and needs_repair(scikit_learn="1.5"):
        scorers = module.SCORERS
        if needs_repair(dask="2025.2"):
            scorers["r2"] = module.r2_scorer = (r2_score, {})  # type: ignore[attr-defined]
        scorer = (log_loss, {"greater_is_better": False, "response_method": "predict_proba"})
        scorers["neg_log_loss"] = module.neg_log_loss_scorer = scorer  # type: ignore[attr-defined]


def r2_score(
    y_true: Any,
    y_pred: Any,
    sample_weight: Any = None,
    multioutput: str | None = "uniform_average",
    compute: bool = True,  # noqa: FBT001, FBT002 - dask_ml's signature
) -> Any:
    """R² of arrays or series, dask's or not, as scikit-learn's; with `compute=False` a dask scalar.

    Raises ValueError for `sample_weight` and NotImplementedError for another `multioutput`, as dask_ml's.
    """
    if sample_weight is not None:
        raise ValueError("'sample_weight' is not supported.")
    if multioutput is not None and (is_dask_collection(multioutput) or multioutput != "uniform_average"):
        raise NotImplementedError("'multioutput' must be 'uniform_average'")
    true, predicted = _as_columns(y_true), _as_columns(y_pred)
    residual = ((true - predicted) ** 2).sum(axis=0, dtype="f8")
    total = ((true - true.mean(axis=0)) ** 2).sum(axis=0, dtype="f8")
    score = 1 - residual / da.where(total == 0, 1.0, total)
    score = da.where(residual == 0, 1.0, da.where(total == 0, 0.0, score)).mean(axis=0)
    return score.compute() if compute else score


def _as_columns(y: Any) -> Any:
    """A 2-D dask array; row numbers may be unknown."""
    if hasattr(y, "to_dask_array"):
        y = y.to_dask_array()
    elif not is_dask_collection(y):
        y = da.from_array(np.asarray(y))
    return y[:, None] if y.ndim == 1 else y


def log_loss(
    y_true: Any,
    y_pred: Any,
    eps: float | None = None,
    normalize: bool = True,  # noqa: FBT001, FBT002 - as above
    sample_weight: Any = None,
    labels: Any = None,
    compute: bool = False,  # noqa: FBT001, FBT002 - as above
) -> Any:
    """Cross-entropy as scikit-learn's; of dask arrays a dask scalar, unless `compute`.

    eps: clip probabilities to [eps, 1 - eps]; by default scikit-learn decides, by their dtype.
    """
    if not (is_dask_collection(y_true) and is_dask_collection(y_pred)):
        y_true, y_pred, sample_weight = dask.compute(y_true, y_pred, sample_weight)
        return sklearn.metrics.log_loss(
            y_true, _clipped(y_pred, eps), normalize=normalize, sample_weight=sample_weight, labels=labels
        )
    truth = _blocks(y_true)
    if labels is None and y_true.ndim == 1:
        labels = dask.delayed(_union)(truth)  # a block need not have all of them
    rows = y_true.chunks[0]
    probabilities = _blocks(_with_rows(y_pred, rows))
    weights = _blocks(_with_rows(sample_weight, rows)) if sample_weight is not None else [None] * len(truth)
    block_loss = dask.delayed(_block_loss)
    parts = [block_loss(*each, labels, eps) for each in zip(truth, probabilities, weights, strict=True)]
    loss = da.from_delayed(dask.delayed(_total)(parts, normalize), shape=(), dtype="f8")
    return loss.compute() if compute else loss


def _with_rows(array: Any, rows: tuple[Any, ...]) -> Any:
    """The array in blocks of so many rows; where they aren't known, as it is."""
    array = da.asanyarray(array)
    return array if np.isnan([*rows, *array.chunks[0]]).any() else array.rechunk({0: rows})


def _blocks(array: Any) -> list[Any]:
    if hasattr(array, "to_dask_array"):
        array = array.to_dask_array()
    return list((array.rechunk({1: -1}) if array.ndim > 1 else array).to_delayed().ravel())


def _union(blocks: list[Any]) -> Any:
    return np.unique(np.concatenate([np.unique(block) for block in blocks]))


def _clipped(y_pred: Any, eps: float | None) -> Any:
    if eps is None:
        return y_pred
    clipped = np.clip(y_pred, eps, 1 - eps)
    return clipped / clipped.sum(axis=1, keepdims=True) if clipped.ndim > 1 else clipped


def _block_loss(y_true: Any, y_pred: Any, weight: Any, labels: Any, eps: float | None) -> tuple[float, float]:
    if not len(y_true):
        return 0.0, 0.0
    loss = sklearn.metrics.log_loss(y_true, _clipped(y_pred, eps), normalize=False, sample_weight=weight, labels=labels)
    return loss, float(len(y_true) if weight is None else np.sum(weight))


def _total(parts: list[tuple[float, float]], normalize: bool) -> np.float64:  # noqa: FBT001 - as log_loss has it
    losses, weights = zip(*parts, strict=True)
    return np.float64(sum(losses) / sum(weights) if normalize else sum(losses))
