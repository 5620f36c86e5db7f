"""Models that learn one partition after the other, in dask_ml's Incremental and in its search, and one that can't."""

import numpy as np
import pytest
from dask_ml_cases import LAZY_X, LAZY_Y, X, Y
from sklearn.cluster import MiniBatchKMeans
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier


@pytest.mark.parametrize(
    "model",
    [SGDClassifier(random_state=0), GaussianNB(), MLPClassifier((8,), random_state=0)],
    ids=["sgd", "bayes", "mlp"],
)
def test_a_classifier_learns_from_partitions_what_it_learns_from_them_in_turn(client, model):
    from dask_ml.wrappers import Incremental

    there = Incremental(model, shuffle_blocks=False).fit(LAZY_X, LAZY_Y, classes=[0, 1])
    here = type(model)(**model.get_params())
    for start in range(0, len(X), 100):
        here.partial_fit(X[start : start + 100], Y[start : start + 100], classes=[0, 1])
    np.testing.assert_array_equal(there.predict(LAZY_X).compute(), here.predict(X))


def test_clusters_are_found_partition_by_partition(client):
    from dask_ml.wrappers import Incremental

    there = Incremental(MiniBatchKMeans(3, random_state=0, n_init=1), shuffle_blocks=False).fit(LAZY_X)
    assert there.estimator_.cluster_centers_.shape == (3, X.shape[1])
    assert set(there.predict(LAZY_X).compute()) <= {0, 1, 2}


def test_a_forest_has_no_partial_fit_and_says_so(client):
    from dask_ml.wrappers import Incremental

    with pytest.raises((ValueError, AttributeError), match="partial_fit"):
        Incremental(RandomForestClassifier()).fit(LAZY_X, LAZY_Y, classes=[0, 1])
