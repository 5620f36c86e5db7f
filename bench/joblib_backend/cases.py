"""What is measured: calls that are the same under each backend, and the figures they should reach."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np
from bench.backends import LOKY, OURS, THREADING, UPSTREAM
from joblib import Parallel, delayed
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

BACKENDS = (OURS, UPSTREAM, LOKY, THREADING)


def noop(value: int) -> int:
    """The least a task can be."""
    return value


def sleep(seconds: float) -> None:
    """A task that costs time and no CPU."""
    time.sleep(seconds)


@cache
def _table(rows: int) -> tuple[np.ndarray, np.ndarray]:
    data: tuple[np.ndarray, np.ndarray] = make_classification(rows, 11, n_informative=8, random_state=0)
    return data


def noops(number: int) -> None:
    """Many tasks that do nothing: the backend's own cost."""
    assert Parallel(n_jobs=2)(delayed(noop)(i) for i in range(number)) == list(range(number))


def sleeps(number: int, seconds: float) -> None:
    """Many short tasks of the same length."""
    Parallel(n_jobs=2)(delayed(sleep)(seconds) for _ in range(number))


def forest(trees: int, rows: int) -> None:
    """One forest: few large arguments, large results."""
    x, y = _table(rows)
    RandomForestClassifier(trees, n_jobs=2, random_state=0).fit(x, y)


def forest_grid(candidates: int, rows: int) -> None:
    """A grid of forests that would each use all cores: nested parallelism."""
    x, y = _table(rows)
    grid = {"max_depth": list(range(4, 4 + candidates))}
    GridSearchCV(RandomForestClassifier(5, random_state=0), grid, cv=3, n_jobs=2, refit=False).fit(x, y)


def pipeline_grid(candidates: int, rows: int) -> None:
    """A grid of short fits."""
    x, y = _table(rows)
    grid = {"logisticregression__C": list(np.logspace(-3, 3, candidates))}
    GridSearchCV(make_pipeline(StandardScaler(), LogisticRegression()), grid, cv=3, n_jobs=2, refit=False).fit(x, y)


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    name: str
    title: str
    run: Callable[[], Any]
    quick: Callable[[], Any]
    rounds: int
    limits: dict[str, float] = field(default_factory=dict)  # backend -> ours may take so many times its median
    seconds: float | None = None  # ours may take so long
    memory: bool = True  # whether to measure memory as well


CASES = (
    Case("noop", "2,000 no-op tasks", partial(noops, 2000), partial(noops, 200), 9, seconds=0.15),
    Case("sleep", "500 tasks of 20 ms", partial(sleeps, 500, 0.02), partial(sleeps, 20, 0.005), 5, {LOKY: 1.03}),
    Case(
        "forest-grid",
        "grid search over RF(5), 6 x 3 fits, 50,000 x 11",
        partial(forest_grid, 6, 50_000),
        partial(forest_grid, 2, 500),
        5,
        {LOKY: 1.15},
    ),
    Case(
        "pipeline-grid",
        "grid search over scaler + logistic regression, 12 x 3 fits, 20,000 x 11",
        partial(pipeline_grid, 12, 20_000),
        partial(pipeline_grid, 2, 500),
        5,
    ),
    Case(
        "forest-100",
        "RF(100) fit, 200,000 x 11",
        partial(forest, 100, 200_000),
        partial(forest, 4, 500),
        3,
        {THREADING: 1.10},
    ),
    Case(
        "forest-200",
        "RF(200) fit, 200,000 x 11",
        partial(forest, 200, 200_000),
        partial(forest, 6, 500),
        1,
        memory=False,
    ),
)
