"""What people bring that no other test shows: Dask's collections, dask_ml's estimators, XGBoost in a search."""

from __future__ import annotations

import os

import pytest

pytestmark = pytest.mark.timeout(330)  # the first test of each job waits for all of it


@pytest.fixture(scope="module")
def many(outcomes):
    """What the parts of collections_and_models.py returned on two workers."""
    return outcomes("collections_and_models", 2)


@pytest.fixture(scope="module")
def small(outcomes):
    """What the parts of one_small_worker.py returned."""
    return outcomes("one_small_worker", 1)


@pytest.fixture
def outcome(many, request):
    """What the part that has the test's name returned; its tasks ran on both workers."""
    found = many[request.node.name.removeprefix("test_")]
    assert "error" not in found, found["error"]
    assert found.pop("workers") == 2
    return found


def test_many_csv_files_are_one_frame(outcome):
    assert outcome == {"files": 3, "same": True}


def test_csv_and_parquet_hold_the_same(outcome):
    assert outcome == {"same": True, "columns": ["n", "x"]}


def test_arrays_multiply_and_decompose(outcome):
    assert outcome == {"expression": True, "svd": True}


def test_delayed_futures_and_bags(outcome):
    assert outcome == {"delayed": 28, "futures": [285, 285], "bag": {"a": 3, "b": 2, "c": 1}}


def test_frames_are_concatenated_and_encoded(outcome):
    assert outcome == {"rows": 3000, "same": True}


def test_generalized_linear_models_and_clusters(outcome):
    assert 0.97 < outcome["logistic accuracy"] < 1
    assert outcome["linear r2"] > 0.99
    assert outcome["clusters"] == 1


def test_partial_fit_models_learn_block_by_block(outcome):
    assert "partial_fit" in outcome.pop("forest")
    assert outcome.pop("k-means") == 1
    assert {"SGD", "MLP", "naive Bayes"} == outcome.keys()
    assert min(outcome.values()) > 0.85


def test_pipelines_mix_both_libraries(outcome):
    assert min(outcome.values()) > 0.95
    assert len(outcome) == 2


def test_a_transformer_fitted_on_a_sample_transforms_every_partition(outcome):
    assert outcome == {"same": True}


def test_xgboost_in_a_search_scores_as_in_sequence(small):
    assert small["search"]["same"]
    assert min(small["search"]["scores"]) > 0.85


def test_xgboost_takes_the_threads_of_its_worker_and_not_of_the_machine(small):
    threads = small["threads"]
    assert not threads["in_runner"]
    assert threads["here"] == 0, "with n_jobs left out, and with n_jobs=os.cpu_count()"
    if os.cpu_count() > 1:
        assert threads["without_limits"] > 0, "what is counted can tell one from the other"


def test_small_data_and_one_worker_will_do(small):
    assert small["small_data"]["iris"] > 0.9
    assert small["small_data"]["diabetes"] > 0.4
    assert small["small_data"]["linnerud"] == 3
