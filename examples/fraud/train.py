"""Which payment is a fraud? Gradient boosting by XGBoost on all workers at once, where one payment in 600 is one.

`xgboost.dask` trains one model on data that are spread over the workers: they exchange histograms after each split, so
all of them have to be there from the first to the last tree. The random search before it is of another kind: its
models know nothing of one another and the data are small, so each is trained by one task, and the workers train
several at a time. What exchanging histograms costs with so few data is measured, and stands in metrics.json.

Files are written to the folder that the environment variable ARTIFACTS_DIR names.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import xgboost
from distributed import Client, as_completed
from matplotlib.figure import Figure
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, precision_recall_curve
from sklearn.model_selection import ParameterSampler, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import dask as dask_xgboost

import dask_training

SEED = 29
PAYMENTS, FRAUDS = 94_926, 152  # 0.16 %
COMPONENTS = 28  # anonymous, of mean 0; the 29th feature is the amount
SAMPLES, ROUNDS = 20, 200
SPACE = {
    "max_depth": [2, 3, 4, 5, 6],
    "learning_rate": [0.03, 0.05, 0.1, 0.2, 0.3],
    "min_child_weight": [1, 2, 4, 8],
    "subsample": [0.6, 0.8, 1.0],
    "colsample_bytree": [0.4, 0.7, 1.0],
    "reg_lambda": [0.3, 1.0, 3.0, 10.0],
}
# logloss stops the training early: with 30 frauds to validate on, AUCPR jumps from tree to tree.
FIXED = {
    "objective": "binary:logistic",
    "tree_method": "hist",
    "eval_metric": ["aucpr", "logloss"],
    "seed": SEED,
}
PATIENCE = 20  # trees without an improvement
COLORS = {"XGBoost": "#1f6feb", "logistic regression": "#8250df", "guessing": "gray"}


def make_payments() -> tuple[pd.DataFrame, np.ndarray]:
    """Payments and whether each is a fraud; most frauds are of one of two kinds, a few look like any payment."""
    random = np.random.default_rng(SEED)
    fraud = np.zeros(PAYMENTS, dtype="int8")
    fraud[random.choice(PAYMENTS, FRAUDS, replace=False)] = 1
    components = random.standard_t(6, (PAYMENTS, COMPONENTS)) * np.linspace(1.6, 0.4, COMPONENTS)
    amount = random.lognormal(3.2, 1.3, PAYMENTS)
    kind = random.choice([0, 1, 2], PAYMENTS, p=[0.6, 0.34, 0.06]) * fraud - (1 - fraud)
    # A stolen card: a shift in one direction, which a linear model finds, too.
    stolen = kind == 0
    components[stolen, :8] += np.array([-4.2, 3.4, -5.0, 3.9, -2.6, 0.0, -3.0, 1.6])
    # A test of many cards: tiny amounts, and two components that are far out together, on either side.
    probing = kind == 1
    side = random.choice([-1.0, 1.0], PAYMENTS)
    for component in (9, 13):
        components[probing, component] = (side * (5.0 + random.exponential(0.8, PAYMENTS)))[probing]
    amount[probing] = random.uniform(0.5, 2.0, PAYMENTS)[probing]
    table = pd.DataFrame(components, columns=[f"V{number + 1}" for number in range(COMPONENTS)], dtype="float32")
    return table.assign(amount=amount.round(2).astype("float32")), fraud


def split(payments: pd.DataFrame, fraud: np.ndarray) -> dict[str, tuple[pd.DataFrame, np.ndarray]]:
    """70 % to train on, 20 % to choose settings and the threshold by, 10 % to test on; frauds in proportion."""
    train_x, rest_x, train_y, rest_y = train_test_split(
        payments, fraud, test_size=0.3, stratify=fraud, random_state=SEED
    )
    valid_x, test_x, valid_y, test_y = train_test_split(
        rest_x, rest_y, test_size=1 / 3, stratify=rest_y, random_state=SEED
    )
    return {"train": (train_x, train_y), "valid": (valid_x, valid_y), "test": (test_x, test_y)}


def train_one(settings: dict[str, Any], rounds: int, parts: dict[str, tuple[pd.DataFrame, np.ndarray]]) -> dict:
    """A task: trains one model on one worker; gives its settings, scores and seconds."""
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))  # what the worker may use, and not all of the machine
    train, valid = (xgboost.DMatrix(*parts[name], nthread=threads) for name in ("train", "valid"))
    began = time.perf_counter()
    booster = xgboost.train(
        {**FIXED, **settings, "nthread": threads},
        train,
        num_boost_round=rounds,
        evals=[(valid, "valid")],
        early_stopping_rounds=PATIENCE,
        verbose_eval=False,
    )
    seconds = time.perf_counter() - began
    best = booster.best_iteration + 1
    score = average_precision_score(parts["valid"][1], booster.predict(valid, iteration_range=(0, best)))
    return {**settings, "rounds": best, "auprc": float(score), "seconds": round(seconds, 3)}


def search(client: Client, samples: int, rounds: int, parts: dict[str, Any]) -> pd.DataFrame:
    """A random search, one task for each sample; the best settings come first."""
    data = client.scatter({name: parts[name] for name in ("train", "valid")}, hash=False)
    settings = ParameterSampler(SPACE, samples, random_state=SEED)
    tasks = [client.submit(train_one, each, rounds, data, pure=False) for each in settings]
    found = []
    for task in as_completed(tasks):
        found.append(task.result())
        print(f"{len(found)} of {samples}: AUPRC {found[-1]['auprc']:.3f} in {found[-1]['seconds']:.1f} s", flush=True)
    return pd.DataFrame(found).sort_values(["auprc", *SPACE], ascending=False, ignore_index=True)


def train_on_all(client: Client, settings: dict[str, Any], rounds: int, parts: dict[str, Any]) -> dict[str, Any]:
    """One model on all workers: its booster, and the history of its evaluations."""

    def matrix(name: str, **options: Any) -> dask_xgboost.DaskDMatrix:
        x, y = parts[name]
        rows = -(-len(x) // workers)  # a part of the rows for each worker
        part_x, part_y = da.from_array(x.to_numpy(), (rows, -1)), da.from_array(y, rows)
        return dask_xgboost.DaskQuantileDMatrix(client, part_x, part_y, feature_names=list(x.columns), **options)

    workers = len(client.ncores())
    train = matrix("train")
    return dask_xgboost.train(
        client,
        {**FIXED, **settings},
        train,
        num_boost_round=rounds,
        evals=[(train, "train"), (matrix("valid", ref=train), "valid")],
        early_stopping_rounds=PATIENCE,
        verbose_eval=False,
    )


def choose_threshold(fraud: np.ndarray, probability: np.ndarray) -> float:
    """The probability from which on a payment is stopped: where F1, of precision and recall, is highest."""
    precision, recall, thresholds = precision_recall_curve(fraud, probability)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(thresholds[np.argmax(f1[:-1])])


def at_threshold(fraud: np.ndarray, probability: np.ndarray, threshold: float) -> dict[str, float]:
    """What stopping payments from that probability on comes to."""
    stopped = probability >= threshold
    caught = int((stopped & (fraud == 1)).sum())
    return {
        "precision": caught / max(int(stopped.sum()), 1),
        "recall": caught / int(fraud.sum()),
        "stopped": int(stopped.sum()),
        "frauds": int(fraud.sum()),
    }


def plot_curves(fraud: np.ndarray, probabilities: dict[str, np.ndarray], chosen: dict[str, float], path: Path) -> None:
    figure = Figure(figsize=(6.4, 5.4), layout="constrained")
    axes = figure.subplots()
    for name, probability in probabilities.items():
        precision, recall, _ = precision_recall_curve(fraud, probability)
        label = f"{name} ({average_precision_score(fraud, probability):.3f})"
        axes.step(recall, precision, where="post", label=label, color=COLORS[name], linewidth=2)
    axes.plot(chosen["recall"], chosen["precision"], "o", color="#d1242f", label="threshold of the validation data")
    axes.set(xlim=(0, 1.01), ylim=(0, 1.02), xlabel="recall: share of the frauds that are stopped")
    axes.set_ylabel("precision: share of frauds among what is stopped")
    axes.set_title(f"{len(fraud):,} payments not trained on, {int(fraud.sum())} of them frauds", fontsize=12)
    axes.grid(alpha=0.25)
    axes.legend(loc="lower left", frameon=False)
    figure.savefig(path, dpi=150)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a model that finds frauds among payments.")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--small", action="store_true", help="a search of 4 settings, and at most 40 trees")
    size.add_argument("--full", action="store_true", help="a search of 60 settings, and at most 1000 trees")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    samples, rounds = (4, 40) if arguments.small else (60, 1000) if arguments.full else (SAMPLES, ROUNDS)
    artifacts = Path(os.environ["ARTIFACTS_DIR"])
    client = dask_training.client()

    payments, fraud = make_payments()
    parts = split(payments, fraud)
    print(f"{len(fraud):,} payments, {fraud.sum()} of them frauds ({fraud.mean():.2%})", flush=True)
    test_x, test_y = parts["test"]
    baselines = {
        "guessing": DummyClassifier(strategy="prior"),
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
    }
    probabilities = {name: model.fit(*parts["train"]).predict_proba(test_x)[:, 1] for name, model in baselines.items()}

    history = search(client, samples, rounds, parts)
    settings = {name: history[name][0].item() for name in SPACE}
    began = time.perf_counter()
    trained = train_on_all(client, settings, rounds, parts)
    seconds_on_all = time.perf_counter() - began
    # The model that is kept has the trees up to the best one and its threshold in it: predict.py needs nothing else.
    whole: xgboost.Booster = trained["booster"]
    booster = whole[: whole.best_iteration + 1]
    valid_x, valid_y = parts["valid"]
    valid = booster.predict(xgboost.DMatrix(valid_x))
    threshold = choose_threshold(valid_y, valid)
    booster.set_attr(threshold=repr(threshold))
    probabilities["XGBoost"] = booster.predict(xgboost.DMatrix(test_x))
    chosen = at_threshold(test_y, probabilities["XGBoost"], threshold)
    scores = f"precision {chosen['precision']:.2f}, recall {chosen['recall']:.2f}"
    print(f"from a probability of {threshold:.3f} on, {chosen['stopped']} payments are stopped: {scores}", flush=True)

    booster.save_model(artifacts / "booster.json")
    history.to_csv(artifacts / "hp_history.csv", index=False)
    (artifacts / "history.json").write_text(json.dumps(trained["history"], indent=1) + "\n")
    plot_curves(test_y, probabilities, chosen, artifacts / "pr_curve.png")
    sample = test_x.assign(fraud=test_y, probability=probabilities["XGBoost"])
    sample.sort_values("probability").tail(100).to_csv(artifacts / "sample.csv", index=False)  # for predict.py to read
    metrics = {
        "rows": len(fraud),
        "frauds": int(fraud.sum()),
        **{f"{name}_rows": len(y) for name, (_, y) in parts.items()},
        "valid_auprc": float(average_precision_score(valid_y, valid)),
        "auprc": float(average_precision_score(test_y, probabilities["XGBoost"])),
        "logistic_auprc": float(average_precision_score(test_y, probabilities["logistic regression"])),
        "dummy_auprc": float(average_precision_score(test_y, probabilities["guessing"])),
        "threshold": threshold,
        **{f"test_{name}": value for name, value in chosen.items()},
        "samples": samples,
        "trees": booster.num_boosted_rounds(),
        "seconds_on_one_worker": float(history["seconds"][0]),
        "seconds_on_all_workers": seconds_on_all,
        **{f"best_{name}": value for name, value in settings.items()},
    }
    (artifacts / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")


if __name__ == "__main__":
    main()
