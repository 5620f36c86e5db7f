"""scikit-learn on the workers gives what it gives in sequence."""

from __future__ import annotations

import sys
import types
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import (
    BaggingClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import pairwise_distances
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, cross_val_score, cross_validate, learning_curve
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

X, Y = load_breast_cancer(return_X_y=True)
DIGITS, DIGIT = load_digits(return_X_y=True)


def forest(**options):
    return RandomForestClassifier(**{"n_estimators": 8, "random_state": 0} | options)


def grid():
    search = GridSearchCV(forest(), {"max_depth": [2, 4], "max_features": [2, 5]}, cv=3, return_train_score=True)
    search.fit(X, Y)
    times = ("mean_fit_time", "std_fit_time", "mean_score_time", "std_score_time")
    return [np.asarray(v) for k, v in search.cv_results_.items() if k not in (*times, "params")], search.predict_proba(
        X
    )


def randomized():
    search = RandomizedSearchCV(forest(), {"max_depth": range(2, 9)}, n_iter=4, cv=2, random_state=0, n_jobs=-1)
    return search.fit(X, Y).cv_results_["mean_test_score"]


def frames():
    table = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": np.where(X[:, 2] > 90, "high", "low")})
    columns = ColumnTransformer([("n", StandardScaler(), ["a", "b"]), ("c", OneHotEncoder(), ["c"])], n_jobs=-1)
    return cross_val_score(make_pipeline(columns, forest()), table, pd.Series(Y), cv=3, n_jobs=-1)


def texts():
    documents = [f"{'good' if label else 'bad'} word{i % 50} number{i % 7}" for i, label in enumerate(Y)]
    model = make_pipeline(TfidfVectorizer(), SGDClassifier(random_state=0))
    return cross_val_score(model, documents, Y, cv=3)


def nested_forests():
    return cross_val_score(forest(n_jobs=-1), X, Y, cv=3, n_jobs=-1)


def bagged():
    return BaggingClassifier(DecisionTreeClassifier(), 6, random_state=0, n_jobs=-1).fit(X, Y).predict_proba(X)


def voted():
    voters = [("rf", forest()), ("nb", GaussianNB()), ("lr", make_pipeline(StandardScaler(), LogisticRegression()))]
    return VotingClassifier(voters, voting="soft", n_jobs=-1).fit(X, Y).predict_proba(X)


def stacked():
    return StackingClassifier([("rf", forest()), ("nb", GaussianNB())], cv=3, n_jobs=-1).fit(X, Y).predict_proba(X)


WORK = {
    "forest": lambda: forest().fit(X, Y).predict_proba(X),
    "forest with oob": lambda: forest(n_estimators=40, oob_score=True, n_jobs=-1).fit(X, Y).oob_decision_function_,
    "extra trees": lambda: ExtraTreesRegressor(5, random_state=0, n_jobs=2).fit(X, Y).predict(X),
    "grid search": grid,
    "randomized search": randomized,
    "cross validation": lambda: [cross_validate(forest(), X, Y, cv=4, n_jobs=-1)["test_score"]],
    "learning curve": lambda: learning_curve(forest(), X, Y, cv=2, train_sizes=[0.5, 1.0], n_jobs=-1)[:3],
    "frames in a pipeline": frames,
    "texts": texts,
    "nested forests": nested_forests,
    "bagging": bagged,
    "voting": voted,
    "stacking": stacked,
    "several outputs": lambda: MultiOutputClassifier(forest(), n_jobs=-1).fit(X, np.c_[Y, 1 - Y]).predict(X),
    "one against the rest": lambda: OneVsRestClassifier(GaussianNB(), n_jobs=-1).fit(DIGITS, DIGIT).predict(DIGITS),
    "permutation importance": lambda: (
        permutation_importance(forest().fit(X, Y), X, Y, n_repeats=2, random_state=0, n_jobs=-1).importances
    ),
    "pairwise distances": lambda: pairwise_distances(DIGITS, n_jobs=-1),
}


@pytest.mark.parametrize("name", WORK)
def test_results_equal_the_sequential_runs(cluster, name):
    with joblib.parallel_config("loky", n_jobs=1):
        expected = WORK[name]()
    with joblib.parallel_config("dask"):
        found = WORK[name]()
    for one, other in zip(_arrays(expected), _arrays(found), strict=True):
        if one.dtype.kind == "f":  # a forest's predict adds its trees up in several threads: the last bit varies
            np.testing.assert_allclose(one, other, rtol=1e-14, atol=1e-15)
        else:
            np.testing.assert_array_equal(one, other)


def _arrays(value):
    """All arrays in nested lists and tuples."""
    if isinstance(value, list | tuple):
        return [array for part in value for array in _arrays(part)]
    return [np.asarray(value)]


def test_a_forest_from_the_workers_may_be_pickled_and_predicts_here(cluster):
    with joblib.parallel_config("dask"):
        fitted = forest().fit(X, Y)
    import pickle

    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(X), fitted.predict(X))


def test_warnings_whose_categories_workers_lack_are_of_no_account(dask, monkeypatch):
    """As in a notebook: IPython's categories are among the filters that scikit-learn sends along."""
    module = types.ModuleType("only_here")
    module.OnlyHereWarning = type("OnlyHereWarning", (UserWarning,), {"__module__": "only_here"})
    monkeypatch.setitem(sys.modules, "only_here", module)
    with warnings.catch_warnings():
        warnings.simplefilter("default", category=module.OnlyHereWarning)
        assert len(cross_val_score(forest(), X, Y, cv=3, n_jobs=-1)) == 3
