"""A job with one worker of one thread and data that fit in memory; outcomes.json as in collections_and_models.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
from joblib import Parallel, delayed
from sklearn.datasets import load_diabetes, load_iris, load_linnerud, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multioutput import MultiOutputRegressor
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


EXTRA_THREADS = """
import os, psutil
import numpy as np
from xgboost import XGBClassifier

X = np.random.default_rng(0).random((20_000, 20))
before = psutil.Process().num_threads()
for n_jobs in (None, os.cpu_count()):
    XGBClassifier(n_estimators=2, n_jobs=n_jobs).fit(X, X[:, 0] > 0.5)
print(psutil.Process().num_threads() - before)
"""


def extra_threads():
    """How many threads XGBoost adds to a process that a task starts: as it is, and if it were not told its share."""
    limits = ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT")
    free = {name: value for name, value in os.environ.items() if name not in limits}
    found = []
    for environment in (os.environ, free):
        command = [sys.executable, "-c", EXTRA_THREADS]
        found.append(int(subprocess.run(command, env=environment, capture_output=True, check=True).stdout))
    return os.getpid(), found


def small_data():
    """Tables that scikit-learn brings, with one worker: nothing of a cluster is needed to be large."""
    forest = RandomForestClassifier(10, random_state=0, n_jobs=-1)
    flowers = cross_val_score(forest, *load_iris(return_X_y=True), cv=3, n_jobs=-1)
    sugar = cross_val_score(Ridge(alpha=0.1), *load_diabetes(return_X_y=True), cv=3, n_jobs=-1)
    athletes = MultiOutputRegressor(Ridge(), n_jobs=-1).fit(*load_linnerud(return_X_y=True))
    return {"iris": flowers.mean(), "diabetes": sugar.mean(), "linnerud": len(athletes.estimators_)}


((pid, threads),) = Parallel()([delayed(extra_threads)()])
outcomes = {
    "search": search(),
    "threads": {"in_runner": pid == os.getpid(), "here": threads[0], "without_limits": threads[1]},
    "small_data": small_data(),
}
(Path(os.environ["ARTIFACTS_DIR"]) / "outcomes.json").write_text(json.dumps(outcomes))
