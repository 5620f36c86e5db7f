"""What is broken in dask_ml on the current stack, as small programs: without the repairs they fail as upstream does.

`python dask_ml_cases.py` runs each without and prints their errors as JSON; the tests run the same functions repaired.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import warnings

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
from distributed import Client
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression, SGDClassifier

X, Y = make_classification(400, 8, random_state=0)
LAZY_X, LAZY_Y = da.from_array(X, chunks=(100, 8)), da.from_array(Y, chunks=100)
FRAME = pd.DataFrame(
    {"a": [1.0, 2, 3, 4, 8], "b": [5.0, 6, 7, 9, 1], "c": pd.Categorical(list("xyxzx")), "d": range(5)},
    index=[5, 3, 3, 9, 1],  # neither sorted nor unique
)
DDF = dd.from_pandas(FRAME, npartitions=2, sort=False)


class Picky(ClassifierMixin, BaseEstimator):
    """Refuses to be fitted with one value of its parameter, and to predict with another."""

    def __init__(self, c=1):
        self.c = c

    def fit(self, X, y):
        if self.c == 13:
            raise ValueError("13 is not for me")
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        if self.c == 17:
            raise ArithmeticError("17 can't predict")
        return np.full(len(X), self.classes_[self.c % 2])


def _search(name, **options):
    import dask_ml.model_selection

    space = {"alpha": np.logspace(-4, 0, 20).tolist(), "l1_ratio": np.linspace(0, 1, 11).tolist()}
    model = options.pop("model", SGDClassifier(random_state=0, tol=1e-3, penalty="elasticnet"))
    if not isinstance(model, SGDClassifier):
        space = {f"estimator__{key}": values for key, values in space.items()}
    search = getattr(dask_ml.model_selection, name)(model, space, random_state=0, **options)
    search.fit(LAZY_X, LAZY_Y, classes=[0, 1])
    params = {key.removeprefix("estimator__"): round(value, 12) for key, value in search.best_params_.items()}
    scores = search.cv_results_["test_score"].tolist()
    return [params, float(search.best_score_), len(search.history_), scores[:8]]


def hyperband():
    return _search("HyperbandSearchCV", max_iter=9)


def hyperband_of_incremental():
    from dask_ml.wrappers import Incremental

    inner = SGDClassifier(random_state=0, tol=1e-3, penalty="elasticnet")
    return _search("HyperbandSearchCV", max_iter=9, model=Incremental(inner, scoring="accuracy"))


def incremental_search():
    return _search("IncrementalSearchCV", n_initial_parameters=8, max_iter=6, decay_rate=None)


def successive_halving():
    return _search("SuccessiveHalvingSearchCV", n_initial_parameters=8, n_initial_iter=2, max_iter=9)


def inverse_decay():
    return _search("InverseDecaySearchCV", n_initial_parameters=8, max_iter=9)


def r2_score():
    from dask_ml.metrics import r2_score

    return r2_score(LAZY_Y, LAZY_X[:, 0])


def linear_regression_score():
    from dask_ml.linear_model import LinearRegression

    return float(
        LinearRegression(solver="lbfgs")
        .fit(LAZY_X, LAZY_X[:, 0] + 0.5 * LAZY_Y)
        .score(LAZY_X, LAZY_X[:, 0] + 0.5 * LAZY_Y)
    )


def log_loss():
    from dask_ml.metrics import log_loss

    return float(log_loss(LAZY_Y, da.from_array(probabilities(), chunks=(100, 2))))


def neg_log_loss_of_parallel_post_fit():
    from dask_ml.wrappers import ParallelPostFit

    return float(ParallelPostFit(LogisticRegression(), scoring="neg_log_loss").fit(X, Y).score(LAZY_X, LAZY_Y))


def probabilities():
    return LogisticRegression().fit(X, Y).predict_proba(X)


def column_transformer_of_pandas():
    return _columns(FRAME)


def column_transformer_of_dask():
    return _columns(DDF).compute()


def _columns(frame):
    from dask_ml.compose import ColumnTransformer
    from dask_ml.preprocessing import OneHotEncoder, StandardScaler

    steps = [("s", StandardScaler(), ["a", "b"]), ("o", OneHotEncoder(sparse_output=False), ["c"])]
    return ColumnTransformer(steps, remainder="passthrough").fit_transform(frame)


def roc_auc_of_parallel_post_fit():
    from dask_ml.model_selection import GridSearchCV
    from dask_ml.wrappers import ParallelPostFit

    grid = {"estimator__C": [0.01, 1, 10]}
    options = {"cv": 3, "scoring": "roc_auc", "iid": False, "scheduler": "threads"}
    return float(GridSearchCV(ParallelPostFit(LogisticRegression()), grid, **options).fit(X, Y).best_score_)


def error_score_nan():
    return picky_search([0, 13, 1], error_score=np.nan, scheduler="threads").cv_results_["rank_test_score"].tolist()


def error_score_of_a_metric():
    scoring = {"fine": "accuracy", "bad": lambda model, X, y: 1 / (1 - model.c)}
    search = picky_search([0, 1], error_score=-1, scoring=scoring, refit="fine", scheduler="threads")
    return search.cv_results_["mean_test_bad"].tolist()


def picky_search(values, **options):
    from dask_ml.model_selection import GridSearchCV

    return GridSearchCV(Picky(), {"c": values}, cv=3, **options).fit(X, Y)


CASES = [
    hyperband,
    hyperband_of_incremental,
    incremental_search,
    successive_halving,
    inverse_decay,
    r2_score,
    linear_regression_score,
    log_loss,
    neg_log_loss_of_parallel_post_fit,
    column_transformer_of_pandas,
    column_transformer_of_dask,
    roc_auc_of_parallel_post_fit,
    error_score_nan,
    error_score_of_a_metric,
]


class _Retries(logging.Handler):
    def __init__(self):
        super().__init__()
        self.enough = threading.Event()
        self.seen = 0

    def emit(self, record):
        self.seen += "retrying" in record.getMessage()
        if self.seen >= 20:
            self.enough.set()


def _end_of_retries():
    """A candidate that fails at once: tried for ever, unless the scheduler has forgotten it at the wrong time."""
    retries = _Retries()
    logger = logging.getLogger("dask_ml.model_selection")
    logger.addHandler(retries)
    logger.propagate = False
    ends = []

    def search():
        try:
            picky_search([13])
        except Exception as error:  # noqa: BLE001 - whatever upstream raises is the result
            ends.append(type(error).__name__)
        retries.enough.set()

    threading.Thread(target=search, daemon=True).start()
    retries.enough.wait(20)
    return ends[0] if ends else f"{retries.seen} tries"


def main():
    warnings.simplefilter("ignore")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    errors = {}
    Client(processes=False, n_workers=2, threads_per_worker=1, dashboard_address=":0")
    for case in CASES:
        try:
            errors[case.__name__] = f"fine: {case()}"
        except Exception as error:  # noqa: BLE001 - whatever upstream raises is the result
            errors[case.__name__] = f"{type(error).__name__}: {error}"
    errors["retries"] = _end_of_retries()
    print(json.dumps(errors), flush=True)
    os._exit(0)  # the search may still be at it


if __name__ == "__main__":
    main()
