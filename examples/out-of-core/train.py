"""Which machine will fail? Learning from more readings than the memory of a worker holds, or that of all of them.

The readings come in partitions, and tasks on the workers make each one when it is needed. In your own job they would
be read there: `dask.dataframe.read_parquet("s3://...")` gives partitions in the same way. Models with `partial_fit`
learn one partition after the other: first one model over all partitions (dask_ml's Incremental), then dozens with
different settings, of which HyperbandSearchCV stops the bad ones early. What does not fit into a worker's memory
meanwhile waits on its disk; a plot shows how much.

Files are written to the folder that the environment variable ARTIFACTS_DIR names.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from pathlib import Path
from typing import Any, Self

import dask.array as da
import joblib
import numpy as np
import pandas as pd
from dask_ml.model_selection import HyperbandSearchCV
from dask_ml.wrappers import Incremental
from distributed import Client
from matplotlib.figure import Figure
from scipy.stats import loguniform, uniform
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import accuracy_score, roc_auc_score

import dask_training

SEED = 27
SENSORS = 256
TELLING = 12  # of the sensors tell of a failure, the others of nothing
MIB = 2**20
# Partitions, and Hyperband's max_iter: the most partitions that it shows a model. A worker holds several partitions at
# a time, and copies of them: the size of one, not that of the data, is what has to fit into its memory.
MIB_OF_PARTITION = 8
SIZES = {"small": (24, 9), "default": (132, 27), "full": (216, 27)}


def readings(rows: int, block_id: tuple[int, int] = (0, 0)) -> np.ndarray:
    """One partition: what the sensors say, the same whenever and wherever it is made."""
    raw = np.random.default_rng([SEED, block_id[0]]).integers(0, 256, (rows, SENSORS), dtype=np.uint8)
    partition = raw.astype(float)
    partition -= 127.5
    partition /= 73.9  # now of variance 1
    return partition


def failures(partition: np.ndarray, block_id: tuple[int, ...] = (0,)) -> np.ndarray:
    """1 where the machine fails soon: likelier with what the telling sensors say, and never quite certain."""
    weights = np.linspace(0.9, 0.2, TELLING)
    weights[1::2] *= -1
    chance = 1 / (1 + np.exp(-partition[:, :TELLING] @ weights))
    return (np.random.default_rng([SEED, block_id[0], 1]).random(len(partition)) < chance).astype("int8")


def make_data(partitions: int) -> tuple[da.Array, da.Array]:
    """Readings and failures, of which nothing is there before a task asks for it."""
    rows = MIB_OF_PARTITION * MIB // (SENSORS * np.dtype(float).itemsize)
    chunks = ((rows,) * partitions, (SENSORS,))
    x = da.map_blocks(readings, rows, chunks=chunks, dtype=float, meta=np.empty((0, 0)))
    y = x.map_blocks(failures, drop_axis=1, dtype="int8", meta=np.empty(0, "int8"))
    return x, y


class MemoryTimeline:
    """Notes what each worker holds in memory and on disk, twice a second, while the `with` block runs."""

    def __init__(self, client: Client) -> None:
        self.rows: list[dict[str, Any]] = []
        self._client = client
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    @property
    def table(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows)

    def _watch(self) -> None:
        while not self._end.wait(0.5):
            for worker in self._client.scheduler_info(n_workers=-1)["workers"].values():
                metrics = worker["metrics"]
                note = {"seconds": round(self.seconds, 2), "worker": worker["name"], "limit": worker["memory_limit"]}
                self.rows.append(note | {"memory": metrics["memory"], "spilled": metrics["spilled_bytes"]["disk"]})


def plot_memory(table: pd.DataFrame, marks: dict[str, float], path: Path) -> None:
    figure = Figure(figsize=(8, 5.6), layout="constrained")
    memory, disk = figure.subplots(2, sharex=True)
    for name, notes in table.groupby("worker"):
        memory.plot(notes["seconds"], notes["memory"] / MIB, label=name)
        disk.plot(notes["seconds"], notes["spilled"] / MIB)
    memory.axhline(table["limit"].max() / MIB, color="#d1242f", linestyle="--", label="limit of each")
    for number, (name, second) in enumerate(marks.items()):
        for axes in (memory, disk):
            axes.axvline(second, color="gray", linewidth=0.8)
        memory.text(second, 6 + 30 * number, f" {name}", color="gray", fontsize=9)
    memory.set(title="More data than memory", ylabel="memory of each worker (MiB)", ylim=(0, None))
    memory.legend(loc="lower right", fontsize=8)
    disk.set(xlabel="seconds", ylabel="waiting on its disk (MiB)", ylim=(0, None))
    for axes in (memory, disk):
        axes.grid(alpha=0.25)
    figure.savefig(path, dpi=150)


def make_search(max_iter: int) -> HyperbandSearchCV:
    """Hyperband over the settings of a linear model; every one of them is trained by stochastic gradient descent."""
    settings = {
        "alpha": loguniform(1e-6, 1e-1),
        "l1_ratio": uniform(0, 1),
        "learning_rate": ["constant", "invscaling", "optimal"],
        "eta0": loguniform(1e-4, 1),
        "average": [True, False],
    }
    model = SGDClassifier(loss="log_loss", penalty="elasticnet", random_state=SEED)
    return HyperbandSearchCV(model, settings, max_iter=max_iter, random_state=SEED, scoring="roc_auc")


def evaluate(model: SGDClassifier, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """How good a model is on readings that it has not seen."""
    return {
        "roc_auc": float(roc_auc_score(y, model.decision_function(x))),
        "accuracy": float(accuracy_score(y, model.predict(x))),
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train on more data than the workers' memory holds.")
    size = parser.add_mutually_exclusive_group()
    for name in ("small", "full"):
        partitions, max_iter = SIZES[name]
        text = f"{partitions * MIB_OF_PARTITION} MiB of data, max_iter {max_iter}"
        size.add_argument(f"--{name}", dest="size", action="store_const", const=name, default="default", help=text)
    return parser.parse_args()


def main() -> None:
    partitions, max_iter = SIZES[parse_arguments().size]
    artifacts = Path(os.environ["ARTIFACTS_DIR"])
    client = dask_training.client()

    # The last partition is nobody's to learn from; it is made here, and one partition fits into any memory.
    x, y = make_data(partitions + 1)
    train_x, train_y = x.blocks[:partitions], y.blocks[:partitions]
    with MemoryTimeline(client) as timeline:
        test_x, test_y = da.compute(x.blocks[partitions], y.blocks[partitions])
        print(f"{train_x.shape[0]:,} readings, {train_x.nbytes / MIB:,.0f} MiB in {partitions} partitions", flush=True)

        marks = {"Incremental": timeline.seconds}
        baseline = Incremental(SGDClassifier(loss="log_loss", random_state=SEED), shuffle_blocks=False)
        baseline.fit(train_x, train_y, classes=[0, 1])
        baseline_scores = evaluate(baseline.estimator_, test_x, test_y)
        print(f"one model over all partitions: ROC AUC {baseline_scores['roc_auc']:.4f}", flush=True)

        marks["Hyperband"] = timeline.seconds
        search = make_search(max_iter)
        search.fit(train_x, train_y, classes=[0, 1])
        scores = evaluate(search.best_estimator_, test_x, test_y)
        models, calls = search.metadata_["n_models"], search.metadata_["partial_fit_calls"]
        print(f"best of {models} models, {calls} partial fits: ROC AUC {scores['roc_auc']:.4f}", flush=True)
        seconds = {"incremental": marks["Hyperband"] - marks["Incremental"], "all": timeline.seconds}

    joblib.dump(search.best_estimator_, artifacts / "best_model.joblib")
    history = pd.DataFrame(search.history_)
    history = history.join(pd.json_normalize(list(history.pop("params"))).add_prefix("param_"))
    history.to_csv(artifacts / "history.csv", index=False)
    summary = {
        "models": models,
        "partial_fit_calls": calls,
        "max_iter": max_iter,
        "best_score": float(search.best_score_),
        "best_params": search.best_params_,
        "brackets": search.metadata_["brackets"],
    }
    (artifacts / "hyperband.json").write_text(json.dumps(summary, indent=2, default=float) + "\n")
    memory = timeline.table
    memory.to_csv(artifacts / "memory.csv", index=False)
    plot_memory(memory, marks, artifacts / "memory.png")
    pd.DataFrame(test_x[:100], columns=[f"sensor_{number}" for number in range(SENSORS)]).assign(
        failure=test_y[:100], probability=search.best_estimator_.predict_proba(test_x[:100])[:, 1]
    ).to_csv(artifacts / "sample.csv", index=False)  # something for predict.py to read
    metrics = {
        "rows": int(train_x.shape[0]),
        "data_mib": train_x.nbytes / MIB,
        "worker_limit_mib": int(memory["limit"].max()) / MIB,
        "peak_worker_mib": memory["memory"].max() / MIB,
        "peak_spilled_mib": memory.groupby("seconds")["spilled"].sum().max() / MIB,
        "most_workers": int(memory.groupby("seconds")["worker"].nunique().max()),
        "models": models,
        "partial_fit_calls": calls,
        "cv_roc_auc": float(search.best_score_),
        **scores,
        **{f"baseline_{name}": value for name, value in baseline_scores.items()},
        **{f"{name}_seconds": value for name, value in seconds.items()},
    }
    (artifacts / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")


if __name__ == "__main__":
    main()
