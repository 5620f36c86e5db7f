"""GridSearchCV and RandomizedSearchCV with a candidate that fails.

On a distributed client they retry what failed for ever, or end with a KeyError that hides the cause
(https://github.com/dask/dask-ml/issues/665). A numeric `error_score` doesn't hold for nan, which has no rank, nor for a
scorer that fails (https://github.com/dask/dask-ml/issues/830). All releases of dask-ml with all versions of dask.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from timeit import default_timer
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
from distributed import CancelledError, as_completed
from scipy.stats import rankdata
from sklearn.exceptions import FitFailedWarning

from dask_training.dask_ml_compat.names import replace
from dask_training.dask_ml_compat.versions import needs_repair


def repair(module: ModuleType) -> None:
    """Repair dask_ml.model_selection.methods (scores) or ._search (the loop that waits for them)."""
    if not needs_repair():
        return
    if module.__name__.endswith("._search"):
        module.as_completed = EndingAtFirstError  # type: ignore[attr-defined]
    else:
        replace(module, "score", score)
        replace(module, "fit_and_score", fit_and_score)
        replace(module, "create_cv_results", _warning_of_failures(module.create_cv_results))
        replace(module, "_store", _store_with_nan_last(vars(module)["_store"]))


class EndingAtFirstError(as_completed):
    """In the search's loop: the first failure ends the search with its error and cancels what has not begun."""

    def __init__(self, futures: Any, **kwargs: Any) -> None:
        self._given = list(futures)
        super().__init__(self._given, **kwargs)

    def next_batch(self, block: bool = True) -> list[Any]:  # noqa: FBT001, FBT002 - distributed's signature
        """As upstream's; raises what a candidate raised, or CancelledError if its result is lost."""
        batch: list[Any] = super().next_batch(block)
        for future, result in batch:
            if future.status != "finished":
                self._end(future, result)
        return batch

    def _end(self, future: Any, result: Any) -> NoReturn:
        self._given[0].client.cancel(self._given)
        if isinstance(result, tuple):
            _, error, trace = result
            raise error.with_traceback(trace)
        raise CancelledError(f"{future.key}: its result is lost ({result!r})")


# ---- scores: these run on the workers, which find them by this module's name ---------------------------------------


def score(
    est_and_time: Any, X_test: Any, y_test: Any, X_train: Any, y_train: Any, scorer: Any, error_score: Any
) -> tuple[Any, ...]:
    """As dask_ml's, but a scorer that fails has `error_score` alone, as in scikit-learn: the others keep theirs."""
    estimator, fit_time = est_and_time
    began = default_timer()
    test_score = _score(estimator, X_test, y_test, scorer, error_score)
    seconds = default_timer() - began
    if X_train is None:
        return fit_time, test_score, seconds
    return fit_time, test_score, seconds, _score(estimator, X_train, y_train, scorer, error_score)


def _score(estimator: Any, X: Any, y: Any, scorer: Any, error_score: Any) -> Any:
    from dask_ml.model_selection.methods import FIT_FAILURE  # noqa: PLC0415 - dask_ml is being imported here

    if estimator is FIT_FAILURE:
        return FIT_FAILURE
    if isinstance(scorer, Mapping):
        return {name: _one_score(estimator, X, y, one, error_score) for name, one in scorer.items()}
    return _one_score(estimator, X, y, scorer, error_score)


def _one_score(estimator: Any, X: Any, y: Any, scorer: Any, error_score: Any) -> Any:
    try:
        return scorer(estimator, X) if y is None else scorer(estimator, X, y)
    except Exception as error:
        if error_score == "raise":
            raise
        warnings.warn(f"Scoring failed; the score is set to {error_score}: {error!r}", UserWarning, stacklevel=2)
        return error_score


def fit_and_score(  # noqa: PLR0913, PLR0917 - dask_ml's signature
    est: Any,
    cv: Any,
    X: Any,
    y: Any,
    n: int,
    scorer: Any,
    error_score: Any = "raise",
    fields: Any = None,
    params: Any = None,
    fit_params: Any = None,
    return_train_score: bool = True,  # noqa: FBT001, FBT002 - as above
) -> tuple[Any, ...]:
    """As dask_ml's, with `score` from here, on workers without these repairs too."""
    from dask_ml.model_selection import methods  # noqa: PLC0415 - as above

    X_train, y_train = cv.extract(X, y, n, True, True), cv.extract(X, y, n, False, True)
    X_test, y_test = cv.extract(X, y, n, True, False), cv.extract(X, y, n, False, False)
    fitted = methods.fit(est, X_train, y_train, error_score, fields, params, fit_params)
    if not return_train_score:
        X_train = y_train = None
    return score(fitted, X_test, y_test, X_train, y_train, scorer, error_score)


# ---- results: these run where the search was called ----------------------------------------------------------------


def _warning_of_failures(original: Any) -> Any:
    """`create_cv_results` that warns of fits that failed: on a cluster only the workers' logs tell of them."""

    def create_cv_results(scores: Any, candidate_params: Any, n_splits: int, error_score: Any, *args: Any) -> Any:
        from dask_ml.model_selection.methods import FIT_FAILURE  # noqa: PLC0415 - as above

        failed = sum(each[1] is FIT_FAILURE for each in scores)
        if failed:
            warnings.warn(
                f"{failed} of {len(scores)} fits failed; their scores are {error_score}. The workers' logs say why.",
                FitFailedWarning,
                stacklevel=3,
            )
        return original(scores, candidate_params, n_splits, error_score, *args)

    return create_cv_results


def _store_with_nan_last(original: Any) -> Any:
    """`_store` that ranks nan behind all else, as scikit-learn does, and equal where there is nothing else."""

    def _store(results: dict[str, Any], key_name: str, array: Any, *args: Any, **kwargs: Any) -> None:
        with np.errstate(invalid="ignore"):  # it ranks nan too
            original(results, key_name, array, *args, **kwargs)
        means = results[f"mean_{key_name}"]
        if f"rank_{key_name}" in results and np.isnan(means).any():
            lowest = 0.0 if np.isnan(means).all() else np.nanmin(means) - 1
            ranks = rankdata(-np.nan_to_num(means, nan=lowest), method="min")
            results[f"rank_{key_name}"] = np.asarray(ranks, dtype=np.int32)

    return _store
