"""Find the best gradient-boosted trees for a large table of numbers, on GPUs: a random search with early stopping.

Plain joblib and XGBoost: nothing here mentions Dask. Each candidate is one task. In a job, each worker has a GPU and
takes one candidate after the other; in plain Python all of them run here, one by one:

    python train.py --small                  # needs a GPU and the package xgboost
    python train.py --small --device cpu     # the same without a GPU, slower

XGBoost goes on with the CPU where it finds no GPU. Here that is an error which says what is missing, for nobody wants
to wait for a GPU and then pay for one that does nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import time
from pathlib import Path

import numpy as np
import pandas as pd
import xgboost
from joblib import Parallel, delayed
from matplotlib.figure import Figure
from scipy.stats import loguniform, randint, uniform
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import ParameterSampler, train_test_split

SEED = 7
FEATURES = [f"x{number:02d}" for number in range(28)]
SIZES = {  # rows, candidates, most trees of each
    "small": (10_000, 4, 30),
    "default": (1_000_000, 12, 1000),
    "full": (11_000_000, 20, 2000),
}
SPACE = {
    "max_depth": randint(4, 11),
    "learning_rate": loguniform(0.03, 0.3),
    "min_child_weight": loguniform(1, 100),
    "subsample": uniform(0.5, 0.5),
    "colsample_bytree": uniform(0.5, 0.5),
}


def make_table(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """28 columns of noise, eight of which decide, in ways that trees have to find out, how likely a row is a 1."""
    random = np.random.default_rng(SEED)
    X = random.standard_normal((rows, len(FEATURES)), dtype="float32")
    logit = (
        1.2 * X[:, 0] * X[:, 1] + np.sin(2 * X[:, 2]) + np.abs(X[:, 3]) * X[:, 4] + 0.5 * X[:, 5] * (X[:, 6] > X[:, 7])
    )
    return X, (random.random(rows) < 1 / (1 + np.exp(-logit))).astype("int8")


def missing_gpu() -> str:
    """Why XGBoost can't use a GPU in this process; "" where it can."""
    if not xgboost.build_info()["USE_CUDA"]:
        return f"its XGBoost {xgboost.__version__} is built without CUDA: install xgboost in the place of xgboost-cpu"
    probe = xgboost.train(
        {"device": "cuda", "verbosity": 0}, xgboost.DMatrix(np.eye(2), label=[0, 1]), num_boost_round=1
    )
    if device_of(probe) == "cpu":
        return (
            "CUDA finds no GPU: the container needs resources.limits with nvidia.com/gpu, and the node NVIDIA's driver"
        )
    return ""


def device_of(booster: xgboost.Booster) -> str:
    """What a model was trained on, in XGBoost's own words: cpu, or cuda:0."""
    return json.loads(booster.save_config())["learner"]["generic_param"]["device"]


def fit(number: int, settings: dict, data: list[np.ndarray], trees: int, device: str) -> tuple[dict, bytes]:
    """Trains one candidate; gives its row of candidates.csv, and the model as XGBoost's JSON."""
    if device == "cuda" and (problem := missing_gpu()):
        raise SystemExit(f"no GPU on {socket.gethostname()}: {problem}. With --device cpu it trains without.")
    started = time.perf_counter()
    model = xgboost.XGBClassifier(
        n_estimators=trees, early_stopping_rounds=20, eval_metric="auc", device=device, random_state=SEED, **settings
    )
    X, X_valid, y, y_valid = data
    model.fit(X, y, eval_set=[(X_valid, y_valid)], verbose=False)
    booster = model.get_booster()[: model.best_iteration + 1]
    row = {"candidate": number, "auc": model.best_score, "trees": model.best_iteration + 1, **settings}
    row |= {"seconds": round(time.perf_counter() - started, 2)}
    row |= {"device": device_of(model.get_booster()), "host": socket.gethostname()}
    booster.feature_names = FEATURES
    return row, bytes(booster.save_raw("json"))


def plot(table: pd.DataFrame, path: Path) -> None:
    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    axes = figure.subplots()
    points = axes.scatter(table["seconds"], table["auc"], c=table["max_depth"], s=60, cmap="viridis")
    best = table.loc[table["auc"].idxmax()]
    axes.annotate(f"best: {best['trees']} trees", (best["seconds"], best["auc"]), (0, 8), textcoords="offset points")
    axes.set_xlabel("seconds of training")
    axes.set_ylabel("ROC AUC on the validation rows")
    axes.set_title(f"{len(table)} candidates on {', '.join(sorted(set(table['device'])))}", fontsize=12)
    figure.colorbar(points, ax=axes, label="max_depth")
    axes.margins(0.15)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description="A random search for XGBoost's settings, on GPUs.")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--small", action="store_true", help="10,000 rows, seconds")
    size.add_argument("--full", action="store_true", help="11,000,000 rows: 16 GiB of memory for each pod")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cuda unless given")
    arguments = parser.parse_args()
    rows, candidates, trees = SIZES["small" if arguments.small else "full" if arguments.full else "default"]

    X, y = make_table(rows)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.2, random_state=SEED)
    data = train_test_split(X, y, test_size=0.25, random_state=SEED)
    settings = list(ParameterSampler(SPACE, candidates, random_state=SEED))
    started = time.perf_counter()
    # No n_jobs: in a job that is one candidate for each thread of a worker, elsewhere one at a time, for the one GPU.
    results = Parallel()(
        delayed(fit)(number, each, data, trees, arguments.device) for number, each in enumerate(settings)
    )
    seconds = time.perf_counter() - started

    table = pd.DataFrame([row for row, _ in results])
    best_row, best_model = max(results, key=lambda result: result[0]["auc"])
    artifacts = Path(os.environ.get("ARTIFACTS_DIR", "."))
    (artifacts / "model.json").write_bytes(best_model)
    table.sort_values("auc", ascending=False).to_csv(artifacts / "candidates.csv", index=False)
    plot(table, artifacts / "candidates.png")

    model = xgboost.Booster(model_file=str(artifacts / "model.json"))
    model.set_param({"device": "cpu"})  # the runner has no GPU, and needs none to predict
    probability = model.predict(xgboost.DMatrix(X_test, feature_names=FEATURES))
    sample = pd.DataFrame(X_test[:100], columns=FEATURES).assign(probability=probability[:100])
    sample.to_csv(artifacts / "sample.csv", index=False)
    metrics = {
        "rows": rows,
        "candidates": candidates,
        "test_auc": float(roc_auc_score(y_test, probability)),
        "valid_auc": best_row["auc"],
        "trees": best_row["trees"],
        "training_seconds": float(table["seconds"].sum()),
        "search_seconds": round(seconds, 2),
        "device": best_row["device"],
    }
    (artifacts / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    print(
        f"best of {candidates} on {metrics['device']}: ROC AUC {metrics['test_auc']:.4f} on {len(y_test)} unseen rows"
    )


if __name__ == "__main__":
    main()
