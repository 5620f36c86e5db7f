"""What upstream can't do on the current stack, we can: each case fails without the repairs and is right with them."""

import dask.array as da
import dask.dataframe as dd
import dask_ml_cases as cases
import numpy as np
import pandas as pd
import pytest
import sklearn.compose
import sklearn.metrics
import sklearn.preprocessing
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV as SklearnGridSearchCV
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

# Recorded with the last versions that can do this unpatched: dask and distributed 2025.1.0, dask-ml 2025.1.0,
# scikit-learn 1.9.1, numpy 2.4.6. Best parameters, best score, lines of history, the first scores.
HYPERBAND = [
    {"alpha": 0.143844988829, "l1_ratio": 0.3},
    0.85,
    30,
    [0.825, 0.85, 0.8, 0.825, 0.825, 0.825, 0.825, 0.825],
]
INCREMENTAL = [
    {"alpha": 0.088586679041, "l1_ratio": 0.7},
    0.8375,
    48,
    [0.825, 0.725, 0.7, 0.8375, 0.8375, 0.8375, 0.675, 0.825],
]
HALVING = [
    {"alpha": 0.054555947812, "l1_ratio": 0.9},
    0.825,
    18,
    [0.825, 0.725, 0.8, 0.8375, 0.85, 0.8, 0.8, 0.8375],
]
DECAY = [
    {"alpha": 0.088586679041, "l1_ratio": 0.7},
    0.85,
    8,
    [0.8125, 0.6625, 0.6625, 0.85, 0.825, 0.7625, 0.6625, 0.85],
]


@pytest.mark.parametrize(
    ("case", "recorded"),
    [
        ("hyperband", HYPERBAND),
        ("hyperband_of_incremental", HYPERBAND),
        ("incremental_search", INCREMENTAL),
        ("successive_halving", HALVING),
        ("inverse_decay", DECAY),
    ],
)
def test_incremental_searches_find_what_the_last_working_version_found(upstream, client, case, recorded):
    assert upstream[case].startswith("RuntimeError: Attempting to use an asynchronous Client")
    assert getattr(cases, case)() == recorded


def test_an_incremental_search_runs_on_worker_processes(processes):
    with processes.as_current():
        assert cases.inverse_decay() == DECAY


def test_r2_score_is_scikit_learns(upstream):
    from dask_ml.metrics import r2_score

    assert "cannot broadcast shape (nan,)" in upstream["r2_score"]
    true, predicted = cases.Y, cases.X[:, 0]
    expected = sklearn.metrics.r2_score(true, predicted)
    assert cases.r2_score() == pytest.approx(expected, rel=1e-12)
    assert r2_score(true, predicted) == pytest.approx(expected, rel=1e-12)
    lazy = r2_score(cases.LAZY_Y, cases.LAZY_X[:, 0], compute=False)
    assert isinstance(lazy, da.Array)
    assert float(lazy) == pytest.approx(expected, rel=1e-12)
    series = [dd.from_pandas(pd.Series(each), npartitions=3) for each in (true, predicted)]  # of unknown lengths
    assert r2_score(*series) == pytest.approx(expected, rel=1e-12)
    both = (
        da.stack([cases.LAZY_X[:, 1], cases.LAZY_X[:, 2]], axis=1),
        da.stack([cases.LAZY_X[:, 0], cases.LAZY_X[:, 2]], axis=1),
    )
    assert r2_score(*both) == pytest.approx(sklearn.metrics.r2_score(*both), rel=1e-12)
    for constant in (np.ones(400), predicted):
        ones = da.ones(400, chunks=100)
        assert r2_score(ones, da.from_array(constant, chunks=100)) == sklearn.metrics.r2_score(np.ones(400), constant)
    with pytest.raises(ValueError, match="'sample_weight' is not supported"):
        r2_score(true, predicted, sample_weight=np.ones(400))


@pytest.mark.filterwarnings("ignore")  # dask-glm's own: an old name of dask's, old options of SciPy's
def test_a_linear_regression_scores(upstream):
    assert "cannot broadcast shape (nan,)" in upstream["linear_regression_score"]
    y = cases.X[:, 0] + 0.5 * cases.Y
    assert cases.linear_regression_score() == pytest.approx(
        LinearRegression().fit(cases.X, y).score(cases.X, y), abs=1e-3
    )


def test_log_loss_is_scikit_learns(upstream):
    from dask_ml.metrics import log_loss

    assert "unexpected keyword argument 'eps'" in upstream["log_loss"]
    y, p = cases.Y, cases.probabilities()
    expected = sklearn.metrics.log_loss(y, p)
    assert cases.log_loss() == pytest.approx(expected, rel=1e-12)
    assert log_loss(y, p) == expected
    weights = np.linspace(0, 1, 400)
    lazy = [da.from_array(y, chunks=((390, 10),)), da.from_array(p, chunks=((100, 300), (1, 1)))]
    for options in ({}, {"normalize": False}, {"sample_weight": weights}):
        wanted = sklearn.metrics.log_loss(y, p, **options)
        ours = {
            key: da.from_array(value, chunks=77) if key == "sample_weight" else value for key, value in options.items()
        }
        assert float(log_loss(*lazy, **ours)) == pytest.approx(wanted, rel=1e-12), options
    ordered = np.sort(y)  # each block has one class alone
    assert float(log_loss(da.from_array(ordered, chunks=200), da.from_array(p, chunks=(200, 2)))) == pytest.approx(
        sklearn.metrics.log_loss(ordered, p), rel=1e-12
    )
    certain = np.array([[1.0, 0.0], [0.0, 1.0]])
    clipped = log_loss(da.from_array(np.array([1, 0])), da.from_array(certain), eps=0.01, compute=True)
    assert clipped == pytest.approx(-np.log(0.01))


def test_neg_log_loss_scores_what_is_larger_than_memory(upstream):
    assert "unexpected keyword argument 'needs_proba'" in upstream["neg_log_loss_of_parallel_post_fit"]
    expected = -sklearn.metrics.log_loss(cases.Y, cases.probabilities())
    assert cases.neg_log_loss_of_parallel_post_fit() == pytest.approx(expected, rel=1e-12)


def _expected_columns():
    steps = [
        ("s", sklearn.preprocessing.StandardScaler(), ["a", "b"]),
        ("o", sklearn.preprocessing.OneHotEncoder(sparse_output=False), ["c"]),
    ]
    return sklearn.compose.ColumnTransformer(steps, remainder="passthrough").fit_transform(cases.FRAME)


def test_a_column_transformer_takes_pandas_and_dask_frames(upstream):
    assert "unexpected keyword argument 'n_samples'" in upstream["column_transformer_of_pandas"]
    assert "only supported for dataframes" in upstream["column_transformer_of_dask"]
    for frame in (cases.column_transformer_of_pandas(), cases.column_transformer_of_dask()):
        assert isinstance(frame, pd.DataFrame)
        assert list(frame.index) == list(cases.FRAME.index)
        np.testing.assert_allclose(frame.to_numpy(), _expected_columns(), rtol=1e-12)


@pytest.mark.parametrize("columns", [["b", "a"], [1, 0], slice("a", "b"), [True, True, False, False]])
def test_a_column_transformer_chooses_columns_in_every_way(columns):
    from dask_ml.compose import ColumnTransformer
    from dask_ml.preprocessing import StandardScaler

    ours = ColumnTransformer([("s", StandardScaler(), columns)], transformer_weights={"s": 2.0}).fit(cases.DDF)
    theirs = sklearn.compose.ColumnTransformer(
        [("s", sklearn.preprocessing.StandardScaler(), columns)], transformer_weights={"s": 2.0}
    ).fit(cases.FRAME)
    moved = cases.FRAME[["d", "c", "b", "a"]]  # by name, wherever they are
    wanted = theirs.transform(moved)
    np.testing.assert_allclose(ours.transform(dd.from_pandas(moved, npartitions=3, sort=False)).compute(), wanted)
    np.testing.assert_allclose(ours.transform(moved), wanted)
    assert list(ours.feature_names_in_) == ["a", "b", "c", "d"]


def test_a_column_transformer_says_what_it_cannot_do():
    from dask_ml.compose import ColumnTransformer
    from dask_ml.preprocessing import StandardScaler

    ours = ColumnTransformer([("s", StandardScaler(), ["a"])]).fit(cases.DDF)
    with pytest.raises(ValueError, match=r"columns are missing: \{'a'\}"):
        ours.transform(cases.DDF[["b", "c"]])
    in_memory = ColumnTransformer([("s", sklearn.preprocessing.StandardScaler(), ["a"])])
    with pytest.raises(TypeError, match=r"'s' \(StandardScaler\) makes ndarray of a dask DataFrame"):
        in_memory.fit(cases.DDF)


def test_wrapped_estimators_are_what_they_wrap(upstream):
    from dask_ml.model_selection import GridSearchCV, HyperbandSearchCV
    from dask_ml.wrappers import Incremental, ParallelPostFit
    from sklearn.base import is_classifier, is_regressor

    assert "y should be a 1d array" in upstream["roc_auc_of_parallel_post_fit"]
    grid = {"C": [0.01, 1, 10]}
    plain = SklearnGridSearchCV(LogisticRegression(), grid, cv=3, scoring="roc_auc").fit(cases.X, cases.Y)
    assert cases.roc_auc_of_parallel_post_fit() == pytest.approx(plain.best_score_, rel=1e-12)
    wrapped = SklearnGridSearchCV(
        Incremental(SGDClassifier(random_state=0, loss="log_loss")),
        {"estimator__alpha": [0.1]},
        cv=3,
        scoring="roc_auc",
    )
    assert 0.8 < wrapped.fit(cases.X, cases.Y, classes=[0, 1]).best_score_ < 1
    for wrapper in (ParallelPostFit, Incremental):
        assert is_classifier(wrapper(LogisticRegression()))
        assert is_regressor(wrapper(LinearRegression()))
        assert not is_classifier(wrapper())
    assert is_classifier(HyperbandSearchCV(SGDClassifier(), {}))
    search = GridSearchCV(LogisticRegression(), grid, cv=3, scheduler="threads")
    inner = SklearnGridSearchCV(LogisticRegression(), grid, cv=3)
    scores = [cross_val_score(each, cases.X, cases.Y, cv=3, scoring="roc_auc") for each in (search, inner)]
    np.testing.assert_allclose(*scores)
    around = ParallelPostFit(inner, scoring="accuracy").fit(cases.X, cases.Y)  # fitted: classes_ is a property of its
    assert around.score(cases.LAZY_X, cases.LAZY_Y) == inner.fit(cases.X, cases.Y).score(cases.X, cases.Y)


def test_a_failing_candidate_ends_the_search_with_its_error(upstream, client):
    assert upstream["retries"] == "KeyError" or int(upstream["retries"].removesuffix(" tries")) >= 20
    with pytest.raises(ValueError, match="13 is not for me") as caught:
        cases.picky_search([0, 1, 13])
    assert any("dask_ml_cases.py" in str(frame.path) for frame in caught.traceback)  # the line that failed is named
    with pytest.raises(ArithmeticError, match="17 can't predict"):
        cases.picky_search([0, 17])
    assert client.submit(lambda: "alive").result() == "alive"
    assert not client.futures or all(future.status != "error" for future in client.futures.values())


def test_a_randomized_search_ends_too_and_on_worker_processes(processes):
    from dask_ml.model_selection import RandomizedSearchCV

    with processes.as_current(), pytest.raises(ValueError, match="13 is not for me"):
        RandomizedSearchCV(cases.Picky(), {"c": [13]}, n_iter=1, cv=3).fit(cases.X, cases.Y)


def test_a_lost_result_ends_the_search(client):
    from distributed import CancelledError, Event

    from dask_training.dask_ml_compat.failures import EndingAtFirstError

    with client.as_current():
        never = Event("never set")
        futures = [client.submit(never.wait, key="lost")]
        waiting = EndingAtFirstError(futures, with_results=True, raise_errors=False)
        client.cancel(futures)
        never.set()
        with pytest.raises(CancelledError, match="lost: its result is lost"):
            list(waiting.batches())


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")  # in the worker's thread too
@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")  # scikit-learn's
@pytest.mark.parametrize("error_score", [np.nan, -1.0])
def test_a_failing_candidate_has_the_error_score(upstream, client, error_score):
    assert upstream["error_score_nan"].startswith("IndexError")
    with pytest.warns(FitFailedWarning, match="3 of 9 fits failed"):
        ours = cases.picky_search([0, 13, 1], error_score=error_score, iid=False)
    with pytest.warns(FitFailedWarning):
        theirs = SklearnGridSearchCV(cases.Picky(), {"c": [0, 13, 1]}, cv=3, error_score=error_score).fit(
            cases.X, cases.Y
        )
    for key in ("mean_test_score", "rank_test_score", "split0_test_score"):
        np.testing.assert_allclose(ours.cv_results_[key], theirs.cv_results_[key])
    assert ours.best_params_ == theirs.best_params_
    assert ours.best_score_ == pytest.approx(theirs.best_score_)


def test_a_candidate_that_cannot_be_scored_has_the_error_score(client):
    with pytest.warns(UserWarning, match="Scoring failed; the score is set to nan"):
        search = cases.picky_search([0, 17], error_score=np.nan, return_train_score=True)
    assert search.best_params_ == {"c": 0}
    assert np.isnan(search.cv_results_["mean_train_score"][1])


def test_a_metric_that_fails_leaves_the_others(upstream):
    assert upstream["error_score_of_a_metric"].startswith("TypeError")
    with pytest.warns(UserWarning, match="Scoring failed; the score is set to -1: ZeroDivisionError"):
        assert cases.error_score_of_a_metric() == [1.0, -1.0]


def test_workers_of_a_client_are_repaired_too(processes):
    from dask_ml.compose import make_column_transformer
    from dask_ml.model_selection import GridSearchCV
    from dask_ml.preprocessing import StandardScaler

    def finders():
        import sys

        return [type(finder).__module__ for finder in sys.meta_path]

    assert all("dask_training.dask_ml_compat.hook" in names for names in processes.run(finders).values())
    frame = pd.DataFrame(cases.X, columns=list("abcdefgh"))
    pipeline = make_pipeline(make_column_transformer((StandardScaler(), list("abc"))), LogisticRegression())
    with processes.as_current():
        search = GridSearchCV(pipeline, {"logisticregression__C": [0.1, 1]}, cv=3, iid=False).fit(frame, cases.Y)
    theirs = SklearnGridSearchCV(
        make_pipeline(sklearn.preprocessing.StandardScaler(), LogisticRegression()),
        {"logisticregression__C": [0.1, 1]},
        cv=3,
    ).fit(frame[list("abc")], cases.Y)
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"])
