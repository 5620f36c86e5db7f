"""The calls that are measured: a loop, and grid searches with scikit-learn's or dask_ml's class."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pandas as pd
from bench.workloads.counted import (
    CountedColumnTransformer,
    CountedGradientBoosting,
    CountedLogisticRegression,
    CountedPCA,
    CountedSVC,
)
from joblib import Parallel, delayed
from sklearn.datasets import load_wine, make_classification
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, minmax_scale

Result = dict[str, Any]
FOLDS = 3


class Workload(Protocol):
    """What a contender does; its result, JSON-ready, must be the same under each."""

    @property
    def calls(self) -> int:
        """Function calls that joblib is given."""

    def with_joblib(self) -> Result:
        """Do it with joblib's backend of the moment."""


@dataclass(frozen=True)
class Loop:
    """`slowinc` of 2017's blog for each of range(number)."""

    number: int
    seconds: float

    @property
    def calls(self) -> int:
        """One for each number."""
        return self.number

    def with_joblib(self) -> Result:
        """The blog's loop."""
        return {"values": Parallel()(delayed(slowinc)(value, self.seconds) for value in range(self.number))}


def slowinc(value: int, seconds: float) -> int:
    """A task that costs time and no CPU."""
    time.sleep(seconds)
    return value + 1


@dataclass(frozen=True)
class Search:
    """A grid search with three folds and the refit of the best, as a user writes it."""

    estimator: Any
    grid: Mapping[str, Sequence[Any]]
    make_data: Callable[[], tuple[Any, Any]]

    @cached_property
    def _data(self) -> tuple[Any, Any]:
        return self.make_data()

    @property
    def calls(self) -> int:
        """One for each candidate and fold."""
        return int(np.prod([len(values) for values in self.grid.values()])) * FOLDS

    def with_joblib(self) -> Result:
        """scikit-learn's search."""
        search = GridSearchCV(self.estimator, self.grid, cv=FOLDS, error_score="raise")
        return _told(search.fit(*self._data))

    def with_dask_ml(self, scheduler: str | None) -> Result:
        """dask_ml's search, on the current client's cluster (None) or by a scheduler of this process."""
        from dask_ml.model_selection import GridSearchCV as DaskGridSearchCV  # noqa: PLC0415 - takes seconds

        # iid=False: the mean over folds as scikit-learn takes it.
        search = DaskGridSearchCV(self.estimator, dict(self.grid), cv=FOLDS, iid=False, scheduler=scheduler)
        return _told(search.fit(*self._data))


def _told(search: Any) -> Result:
    return {
        "bestParams": search.best_params_,
        "bestScore": float(search.best_score_),
        "meanScores": [float(score) for score in search.cv_results_["mean_test_score"]],
    }


def same(one: Result, other: Result) -> bool:
    """Whether two results are equal, scores to the ninth digit."""
    exact = [
        {key: value for key, value in each.items() if not key.endswith(("Score", "Scores"))} for each in (one, other)
    ]
    scores = [[*each.get("meanScores", []), each.get("bestScore", 0.0)] for each in (one, other)]
    return exact[0] == exact[1] and np.allclose(*scores, rtol=0, atol=1e-9)


def svc(rows: int, c: Sequence[float]) -> Search:
    """The grid over an SVC of the blog of 2020."""
    grid = {"C": c, "kernel": ["rbf", "poly", "sigmoid"]}
    return Search(CountedSVC(gamma="auto", random_state=0), grid, lambda: make_classification(rows, random_state=0))


def pca_logistic(rows: int, features: int, components: Sequence[int]) -> Search:
    """The grid over PCA and LogisticRegression of the blog of 2017; its penalties "l2" and "l1" in today's words."""
    steps = [("pca", CountedPCA()), ("logistic", CountedLogisticRegression(solver="liblinear", random_state=0))]
    grid = {"pca__n_components": components, "logistic__C": [1e-4, 1.0, 1e4], "logistic__l1_ratio": [0.0, 1.0]}

    def data() -> tuple[Any, Any]:
        return make_classification(rows, features, n_classes=2, n_redundant=features // 2, random_state=42)

    return Search(Pipeline(steps), grid, data)


def wine(c: Sequence[float]) -> Search:
    """The grid of the SVC blog's tutorial on 178 bottles."""
    steps = [("scale", StandardScaler()), ("svc", CountedSVC(gamma="auto", random_state=0))]
    grid = {"svc__C": c, "svc__kernel": ["rbf", "poly", "sigmoid"], "svc__shrinking": [True, False]}
    return Search(Pipeline(steps), grid, lambda: load_wine(return_X_y=True))


NUMBERS = ["distance", "passengers", "hour", "fare"]
CATEGORIES = ["pickup", "dropoff", "payment", "vendor"]


def taxi(rows: int, trees: int) -> Search:
    """Which taxi rides were tipped well? Mixed columns with gaps, a ColumnTransformer and gradient boosting."""
    numbers = Pipeline([("impute", SimpleImputer(strategy="median")), ("scale", StandardScaler())])
    categories = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = CountedColumnTransformer([("numbers", numbers, NUMBERS), ("categories", categories, CATEGORIES)])
    steps = [("columns", columns), ("boosting", CountedGradientBoosting(n_estimators=trees, random_state=0))]
    grid = {"boosting__learning_rate": [0.05, 0.1, 0.2, 0.4], "boosting__max_depth": [1, 2, 3]}
    return Search(Pipeline(steps), grid, lambda: _rides(rows))


def _rides(rows: int) -> tuple[pd.DataFrame, np.ndarray]:
    random = np.random.default_rng(0)
    distance = random.lognormal(0.7, 0.8, rows)
    zone = [f"zone {number}" for number in range(20)]
    rides = pd.DataFrame(
        {
            "distance": distance,
            "passengers": random.integers(1, 7, rows).astype(float),
            "hour": random.integers(0, 24, rows).astype(float),
            "fare": 2.5 + 2.6 * distance + random.normal(0, 1, rows),
            "pickup": random.choice(zone, rows),
            "dropoff": random.choice(zone, rows),
            "payment": random.choice(["card", "cash"], rows, p=[0.7, 0.3]),
            "vendor": random.choice(["a", "b"], rows),
        }
    )
    night = (rides["hour"] < 6) | (rides["hour"] > 20)
    likely = 2 * (rides["payment"] == "card") + night + 2 * minmax_scale(np.log(rides["distance"])) - 2.5
    tipped = (random.random(rows) < 1 / (1 + np.exp(-likely))).astype(int).to_numpy()
    for column in NUMBERS:
        rides.loc[random.random(rows) < 0.03, column] = np.nan
    return rides, tipped
