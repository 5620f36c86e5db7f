"""A job of many parts, so that a cluster is started once: what people do with Dask itself, and with dask_ml.

Each part is run by itself; what it returns, or its traceback, goes to outcomes.json for the test of that name, with the
number of workers that its tasks ran on.
"""

from __future__ import annotations

import json
import os
import traceback
from pathlib import Path

import dask
import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import numpy as np
import pandas as pd
from dask_ml.cluster import KMeans
from dask_ml.linear_model import LinearRegression, LogisticRegression
from dask_ml.model_selection import GridSearchCV
from dask_ml.preprocessing import OneHotEncoder as DaskOneHotEncoder
from dask_ml.preprocessing import StandardScaler as DaskStandardScaler
from dask_ml.wrappers import Incremental
from distributed import as_completed, get_task_stream
from sklearn.cluster import MiniBatchKMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, make_blobs
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import adjusted_rand_score
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import dask_training

ARTIFACTS = Path(os.environ["ARTIFACTS_DIR"])
CLIENT = dask_training.client()
RANDOM = np.random.default_rng(0)
X, Y = load_breast_cancer(return_X_y=True)
X = StandardScaler().fit_transform(X)
X_BLOCKS, Y_BLOCKS = da.from_array(X, chunks=(285, 30)), da.from_array(Y, chunks=285)
FRAME = pd.DataFrame({"name": RANDOM.choice(["a", "b", "c"], 3000), "x": RANDOM.random(3000), "n": range(3000)})


def write_csv_files() -> Path:
    folder = ARTIFACTS / "tables"
    folder.mkdir(exist_ok=True)
    for number in range(3):
        FRAME.iloc[number * 1000 : (number + 1) * 1000].to_csv(folder / f"data{number}.csv", index=False)
    return folder


def many_csv_files_are_one_frame():
    found = dd.read_csv(str(write_csv_files() / "data*.csv"))
    means = found.groupby("name")["x"].mean().compute().sort_index()
    return {"files": found.npartitions, "same": bool(np.allclose(means, FRAME.groupby("name")["x"].mean()))}


def csv_and_parquet_hold_the_same():
    folder = write_csv_files()
    # Text as pandas itself infers it: what it is called differs between pandas 2 and 3, and so does dask's default.
    dd.read_csv(str(folder / "data*.csv")).to_parquet(folder / "parquet")
    columns = dd.read_parquet(folder / "parquet", columns=["n", "x"])
    found = columns.compute().sort_values("n").reset_index(drop=True)
    return {"same": bool(np.allclose(found["x"], FRAME["x"])), "columns": list(columns.columns)}


def arrays_multiply_and_decompose():
    x = RANDOM.random((60, 60))
    blocks = da.from_array(x, chunks=(20, 20))
    expression = (blocks.dot(blocks.T) - blocks.mean(axis=0)).compute()
    tall = RANDOM.random((400, 6))
    _, singular, _ = da.linalg.svd(da.from_array(tall, chunks=(100, 6)))
    return {
        "expression": bool(np.allclose(expression, x.dot(x.T) - x.mean(axis=0))),
        "svd": bool(np.allclose(singular.compute(), np.linalg.svd(tall, compute_uv=False))),
    }


def delayed_futures_and_bags():
    @dask.delayed
    def add(one, other):
        return one + other

    sums = [dask.delayed(value) for value in range(8)]
    while len(sums) > 1:
        sums = [add(one, other) for one, other in zip(sums[::2], sums[1::2], strict=True)]
    squares = CLIENT.map(lambda value: value**2, range(10))
    total = CLIENT.submit(sum, squares)
    in_any_order = sum(future.result() for future in as_completed(squares))
    words = db.from_sequence(["a b a", "b c", "a"], npartitions=3).map(str.split).flatten()
    return {
        "delayed": sums[0].compute(),
        "futures": [total.result(), in_any_order],
        "bag": dict(words.frequencies().compute()),
    }


def frames_are_concatenated_and_encoded():
    halves = [dd.from_pandas(FRAME.iloc[part], npartitions=2) for part in (slice(1500), slice(1500, None))]
    whole = dd.concat(halves)
    kinds = whole[["name"]].astype({"name": pd.CategoricalDtype(["a", "b", "c"])})
    found = DaskOneHotEncoder(sparse_output=False).fit_transform(kinds).compute()
    expected = OneHotEncoder(sparse_output=False).fit_transform(FRAME[["name"]])
    return {"rows": len(whole), "same": bool(np.array_equal(np.asarray(found), expected))}


def generalized_linear_models_and_clusters():
    logistic = LogisticRegression(solver="newton", max_iter=10).fit(X_BLOCKS, Y_BLOCKS)
    target = X @ np.arange(30) + 3
    linear = LinearRegression(solver="newton", max_iter=10).fit(X_BLOCKS, da.from_array(target, chunks=285))
    points, groups = make_blobs(600, centers=4, cluster_std=0.4, random_state=1)
    blocks = da.from_array(points, chunks=(300, 2))
    clusters = KMeans(n_clusters=4, random_state=0).fit(blocks)
    return {
        "logistic accuracy": float(logistic.score(X_BLOCKS, Y_BLOCKS)),
        "linear r2": float(linear.score(X_BLOCKS, da.from_array(target, chunks=285))),
        "clusters": float(adjusted_rand_score(groups, clusters.labels_.compute())),
    }


def partial_fit_models_learn_block_by_block():
    models = {
        "SGD": SGDClassifier(random_state=0),
        "MLP": MLPClassifier((16,), random_state=0, learning_rate_init=0.05),
        "naive Bayes": GaussianNB(),
    }
    scores = {}
    small, labels = X_BLOCKS.rechunk((95, 30)), Y_BLOCKS.rechunk(95)
    for name, model in models.items():
        fitted = Incremental(model, shuffle_blocks=False).fit(small, labels, classes=[0, 1])
        scores[name] = float(fitted.score(X_BLOCKS, Y_BLOCKS))
    points, groups = make_blobs(600, centers=2, cluster_std=0.4, random_state=1)
    blocks = da.from_array(points, chunks=(150, 2))
    clusters = Incremental(MiniBatchKMeans(2, random_state=0, n_init=3), shuffle_blocks=False).fit(blocks)
    scores["k-means"] = float(adjusted_rand_score(groups, clusters.predict(blocks).compute()))
    try:
        Incremental(RandomForestClassifier()).fit(X_BLOCKS, Y_BLOCKS, classes=[0, 1])
    except ValueError as error:
        scores["forest"] = str(error)
    return scores


def pipelines_mix_both_libraries():
    native = make_pipeline(DaskStandardScaler(), LogisticRegression(solver="newton", max_iter=10))
    native.fit(X_BLOCKS, Y_BLOCKS)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), SGDClassifier(random_state=0)), {"sgdclassifier__alpha": [1e-4, 1]}
    )
    search.fit(X, Y)
    return {"dask_ml in scikit-learn's": float(native.score(X_BLOCKS, Y_BLOCKS)), "the reverse": search.best_score_}


def a_transformer_fitted_on_a_sample_transforms_every_partition():
    columns = ColumnTransformer([("kinds", OneHotEncoder(), ["name"]), ("numbers", StandardScaler(), ["x"])])
    columns.set_output(transform="default").fit(FRAME.head(1000))
    frame = dd.from_pandas(FRAME, npartitions=4)
    parts = frame.map_partitions(
        lambda part: pd.DataFrame(columns.transform(part)), meta=dict.fromkeys(range(4), float)
    )
    return {"same": bool(np.allclose(parts.compute().to_numpy(), columns.transform(FRAME)))}


PARTS = (
    many_csv_files_are_one_frame,
    csv_and_parquet_hold_the_same,
    arrays_multiply_and_decompose,
    delayed_futures_and_bags,
    frames_are_concatenated_and_encoded,
    generalized_linear_models_and_clusters,
    partial_fit_models_learn_block_by_block,
    pipelines_mix_both_libraries,
    a_transformer_fitted_on_a_sample_transforms_every_partition,
)
outcomes = {}
for part in PARTS:
    try:
        with get_task_stream() as stream:
            outcome = part()
        outcomes[part.__name__] = {"workers": len({each["worker"] for each in stream.data}), **outcome}
    except Exception:  # noqa: BLE001 - the other parts are other tests
        outcomes[part.__name__] = {"error": traceback.format_exc()}
    print(part.__name__, outcomes[part.__name__])
(ARTIFACTS / "outcomes.json").write_text(json.dumps(outcomes, default=int))
