"""A job with one worker of one thread and data that fit in memory; outcomes.json as in collections_and_models.py."""

from __future__ import annotations

import json
import os
from pathlib import Path

import joblib
import numpy as np
import psutil
from joblib import Parallel, delayed
from sklearn.datasets import load_diabetes, load_iris, load_linnerud, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multioutput import MultiOutputRegressor
from threadpoolctl import threadpool_info
from xgboost import XGBClassifier


def search():
    """XGBoost's classifier in scikit-learn's search: the same settings win with the same scores as in sequence."""
    X, y = load_wine(return_X_y=True)

    def scores():
        model = XGBClassifier(n_estimators=5, random_state=0)
        return GridSearchCV(model, {"max_depth": [2, 3]}, cv=3, n_jobs=-1).fit(X, y).cv_results_["mean_test_score"]

    found = scores()
    with joblib.parallel_config("sequential"):
        expected = scores()
    return {"scores": found.tolist(), "same": bool(np.array_equal(found, expected))}


def threads_of_a_fit(n_jobs):
    """How many threads OpenMP may use here, and how many more this process has while and after XGBoost trains."""
    before = psutil.Process().num_threads()
    X, y = load_iris(return_X_y=True)
    XGBClassifier(n_estimators=2, n_jobs=n_jobs).fit(X, y)
    openmp = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "openmp"}
    return os.getpid(), max(openmp), psutil.Process().num_threads() - before


def small_data():
    """Tables that scikit-learn brings, with one worker: nothing of a cluster is needed to be large."""
    forest = RandomForestClassifier(10, random_state=0, n_jobs=-1)
    flowers = cross_val_score(forest, *load_iris(return_X_y=True), cv=3, n_jobs=-1)
    sugar = cross_val_score(Ridge(alpha=0.1), *load_diabetes(return_X_y=True), cv=3, n_jobs=-1)
    athletes = MultiOutputRegressor(Ridge(), n_jobs=-1).fit(*load_linnerud(return_X_y=True))
    return {"iris": flowers.mean(), "diabetes": sugar.mean(), "linnerud": len(athletes.estimators_)}


(by_default,) = Parallel()([delayed(threads_of_a_fit)(None)])
(told_three,) = Parallel()([delayed(threads_of_a_fit)(3)])
outcomes = {
    "search": search(),
    "threads": {"default": by_default[1:], "three": told_three[1:], "in_runner": by_default[0] == os.getpid()},
    "small_data": small_data(),
}
(Path(os.environ["ARTIFACTS_DIR"]) / "outcomes.json").write_text(json.dumps(outcomes))
