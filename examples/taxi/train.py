"""Will a taxi's passenger leave a good tip? From dirty CSV files to a report, with Dask DataFrame and dask-ml.

The trips are made up by `write_raw_files`, the same ones each time, in the two layouts of two companies: dates and
numbers as text, units in the values, and seven spellings of "missing". Then come the five steps of every such job:
reading, exploring, cleaning, modelling, reporting.

The model is searched for twice with the same pipeline, settings and folds: by dask-ml's GridSearchCV, which prepares
each fold's data once, and by scikit-learn's, which does so again for each setting. The fits of both are counted.

Files are written to the folder that the environment variable ARTIFACTS_DIR names.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path

import dask.dataframe as dd
import dask_ml.model_selection
import distributed
import joblib
import numpy as np
import pandas as pd
import sklearn.model_selection
from matplotlib.figure import Figure
from sklearn.base import BaseEstimator, clone
from sklearn.calibration import calibration_curve
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, TargetEncoder
from sklearn.utils import get_tags

import dask_training

SEED = 2015
ROWS = 80_000
PARTS = 8  # CSV files
MISSING_SHARE = 0.03  # of the values of each column
GOOD_TIP = 0.2  # of the fare

COLUMNS = [  # 12, of four kinds: a time, text, counts and amounts
    *("pickup", "vendor", "passengers", "distance", "from_zone", "to_zone"),
    *("rate", "payment", "fare", "extra", "tolls", "tip"),
]
ZONES = ["from_zone", "to_zone"]
CATEGORIES = ["vendor", "rate", "payment"]
NUMBERS = ["hour", "weekday", "passengers", "distance", "fare", "extra", "tolls"]
FEATURES = [*ZONES, *CATEGORIES, *NUMBERS]
SPELLINGS_OF_MISSING = {"yellow": ["", "N/A", "?"], "green": ["NULL", "unknown", "-999", "-1"]}


# --- The data: stand-ins for what two companies would send ------------------------------------------------------------


def make_trips(rows: int, part: int) -> pd.DataFrame:
    """Trips as they were, without any dirt; each part is another, and the same every time."""
    random = np.random.default_rng([SEED, part])
    hour_shares = np.array([4, 3, 2, 1.5, 1, 1, 2, 4, 5, 5, 4.5, 4.5, 5, 5, 5, 5, 4.5, 5, 6, 6.5, 6, 6, 6, 5])
    hour = random.choice(24, rows, p=hour_shares / hour_shares.sum())
    seconds = random.integers(0, 365, rows) * 86_400 + hour * 3_600 + random.integers(0, 3_600, rows)
    pickup = pd.Timestamp("2015-01-01") + pd.to_timedelta(seconds, unit="s")
    from_zone, to_zone = (np.minimum(random.geometric(0.05, rows), 60) for _ in range(2))
    rate = random.choice(["standard", "airport", "negotiated"], rows, p=[0.92, 0.06, 0.02])
    distance = np.round(random.gamma(1.6, 1.7, rows) + 0.4 + 12 * (rate == "airport"), 2)  # miles
    extra = np.where((hour >= 20) | (hour < 6), 0.5, np.where((hour >= 16) & (pickup.day_of_week < 5), 1.0, 0.0))
    fare = np.round(2.5 + 2.6 * distance + random.gamma(2, 1.1, rows), 1)
    tolls = np.where(random.random(rows) < np.where(rate == "airport", 0.5, 0.03), 5.54, 0.0)
    payment = random.choice(["card", "cash", "dispute"], rows, p=[0.66, 0.33, 0.01])
    passengers = random.choice([1, 2, 3, 4, 5, 6], rows, p=[0.71, 0.14, 0.05, 0.02, 0.05, 0.03])

    mood = np.random.default_rng(SEED).normal(0, 0.5, (2, 61))  # of each zone, the same in all parts
    liking = 0.25 + mood[0][from_zone] + mood[1][to_zone] - 0.06 * distance * (payment == "card")
    liking += 0.7 * np.isin(hour, [7, 8, 9, 17, 18, 19]) - 0.5 * (pickup.day_of_week >= 5) - 0.12 * (passengers - 1)
    liking += np.where(payment == "card", 0.9, -3.0) - 0.8 * (tolls > 0)
    is_good = random.random(rows) < 1 / (1 + np.exp(-liking))
    tip = np.where(is_good, random.uniform(0.21, 0.3, rows), random.uniform(0, 0.19, rows) * (payment == "card")) * fare
    return pd.DataFrame(
        {
            "pickup": pickup,
            "vendor": random.choice(["CMT", "VTS"], rows),
            "passengers": passengers,
            "distance": distance,
            "from_zone": [f"zone {number}" for number in from_zone],
            "to_zone": [f"zone {number}" for number in to_zone],
            "rate": rate,
            "payment": payment,
            "fare": fare,
            "extra": extra,
            "tolls": tolls,
            "tip": np.round(tip, 2),
        }
    )


def make_dirty(trips: pd.DataFrame, company: str, part: int) -> pd.DataFrame:
    """The same trips as that company writes them, all as text, with 3 % of the values missing."""
    random = np.random.default_rng([SEED, part, 1])
    money = ["fare", "extra", "tolls", "tip"]
    if company == "yellow":
        dirty = trips.assign(
            pickup=trips["pickup"].dt.strftime("%m/%d/%Y %I:%M:%S %p"),
            distance=trips["distance"].map("{:.2f} mi".format),
            vendor=np.where(random.random(len(trips)) < 0.2, " " + trips["vendor"].str.lower(), trips["vendor"]),
            **{name: trips[name].map("${:.2f}".format) for name in money},
        )
    else:
        codes = {"card": "1", "cash": "2", "dispute": "4"}
        dirty = trips.assign(
            pickup=trips["pickup"].dt.strftime("%Y-%m-%dT%H:%M:%S"),
            passengers=trips["passengers"].map("{:.1f}".format),
            payment=trips["payment"].map(codes),
            **{name: trips[name].map("{:.2f}".format) for name in ["distance", *money]},
        )
    dirty = dirty.astype(object)
    for name in COLUMNS:
        is_missing = random.random(len(trips)) < MISSING_SHARE
        dirty.loc[is_missing, name] = random.choice(SPELLINGS_OF_MISSING[company], is_missing.sum())
    return dirty


def write_raw_files(folder: Path, rows: int) -> None:
    """Writes yellow-0.csv ... green-7.csv."""
    for part in range(PARTS):
        company = "yellow" if part < PARTS // 2 else "green"
        trips = make_trips(rows // PARTS, part)
        make_dirty(trips, company, part).to_csv(folder / f"{company}-{part}.csv", index=False)


# --- Reading and cleaning ---------------------------------------------------------------------------------------------


def read_company(folder: Path, company: str) -> dd.DataFrame:
    """All files of a company as one frame, each value as text or missing.

    What Dask would take for the type of a column after a look at the first lines is wrong for later ones.
    """
    spellings = SPELLINGS_OF_MISSING[company]
    return dd.read_csv(str(folder / f"{company}-*.csv"), dtype=str, na_values=spellings, keep_default_na=False)


def fix_types(trips: pd.DataFrame) -> pd.DataFrame:
    """Text to times, numbers and tidy categories, of either company. What is missing stays so."""
    fixed = pd.DataFrame({"pickup": pd.to_datetime(trips["pickup"], format="mixed").astype("datetime64[us]")})
    fixed["hour"] = fixed["pickup"].dt.hour.astype("float64")
    fixed["weekday"] = fixed["pickup"].dt.day_of_week.astype("float64")  # Monday is 0
    for name in ["passengers", "distance", "fare", "extra", "tolls", "tip"]:
        fixed[name] = pd.to_numeric(trips[name].str.strip("$ mi")).astype("float64")
    for name in [*CATEGORIES, *ZONES]:
        fixed[name] = trips[name].str.strip().astype(object)
    fixed["vendor"] = fixed["vendor"].str.upper().astype(object)
    fixed["payment"] = fixed["payment"].replace({"1": "card", "2": "cash", "4": "dispute"})
    fixed["good_tip"] = (fixed["tip"] >= GOOD_TIP * fixed["fare"]).where(fixed[["tip", "fare"]].notna().all(axis=1))
    fixed["good_tip"] = fixed["good_tip"].astype("float64")
    return fixed


def read_trips(folder: Path) -> dd.DataFrame:
    """The trips of both companies, lazily, with the right types and with what is missing."""
    companies = [read_company(folder, company) for company in SPELLINGS_OF_MISSING]
    like = fix_types(pd.DataFrame(columns=COLUMNS, dtype=str))
    return dd.concat([raw.map_partitions(fix_types, meta=like) for raw in companies])


# --- Modelling --------------------------------------------------------------------------------------------------------


class Counted(BaseEstimator):
    """Another estimator whose fits can be counted: each tells the scheduler, from whatever process it happens in."""

    def __init__(self, estimator: BaseEstimator) -> None:
        self.estimator = estimator

    def begin_fit(self) -> BaseEstimator:
        try:
            worker = distributed.get_worker()
        except ValueError:  # this is no task: the script itself fits
            distributed.get_client().log_event("fits", {"of": type(self).__name__, "on": "runner"})
        else:
            worker.log_event("fits", {"of": type(self).__name__, "on": worker.address})
        self.estimator_ = clone(self.estimator)
        return self.estimator_

    def fit(self, X: pd.DataFrame | np.ndarray, y: pd.Series) -> Counted:
        self.begin_fit().fit(X, y)
        return self

    def __sklearn_tags__(self) -> object:
        return get_tags(self.estimator)


class Preparation(Counted):
    def fit_transform(self, X: pd.DataFrame, y: pd.Series) -> np.ndarray:
        return self.begin_fit().fit_transform(X, y)

    def transform(self, X: pd.DataFrame) -> np.ndarray:
        return self.estimator_.transform(X)


class Boosting(Counted):
    @property
    def classes_(self) -> np.ndarray:
        return self.estimator_.classes_

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return self.estimator_.predict_proba(X)


def make_pipeline() -> Pipeline:
    inner_folds = StratifiedKFold(5, shuffle=True, random_state=SEED)  # no trip's own tip is in what its zone gets
    prepare = ColumnTransformer(
        [
            ("zones", TargetEncoder(cv=inner_folds), ZONES),  # 60 values each: the share of good tips of each
            ("categories", OneHotEncoder(handle_unknown="ignore", sparse_output=False), CATEGORIES),
            ("numbers", StandardScaler(), NUMBERS),
        ]
    )
    model = GradientBoostingClassifier(subsample=0.5, random_state=SEED)
    return Pipeline([("prepare", Preparation(prepare)), ("model", Boosting(model))])


def make_grid(trees: list[int]) -> dict[str, list]:
    """12 settings."""
    learning = {"model__estimator__learning_rate": [0.1, 0.3], "model__estimator__max_depth": [2, 3, 4]}
    return {"model__estimator__n_estimators": trees, **learning}


def fit_and_count(search: BaseEstimator, client: distributed.Client, X: pd.DataFrame, y: pd.Series) -> dict:
    """Fits the search; returns what that took: fits, tasks by name and seconds."""
    before = len(client.get_events("fits"))
    started = time.monotonic()
    with distributed.get_task_stream(client) as tasks:
        search.fit(X, y)
    seconds = time.monotonic() - started
    fits = [event for _, event in client.get_events("fits")[before:]]
    return {
        "fits": dict(Counter(fit["of"].lower() for fit in fits)),
        "workers": len({fit["on"] for fit in fits} - {"runner"}),
        "tasks": dict(Counter(distributed.utils.key_split(task["key"]) for task in tasks.data)),
        "seconds": round(seconds, 3),
    }


def without_counting(pipeline: Pipeline) -> Pipeline:
    """The fitted pipeline of scikit-learn's own classes, which loads where this script is not."""
    return Pipeline([(name, step.estimator_) for name, step in pipeline.steps])


def same_results(one: BaseEstimator, other: BaseEstimator) -> bool:
    """Whether two searches have the same best settings and the same score for each setting and fold."""
    names = [name for name in one.cv_results_ if name.startswith("split") and name.endswith("_test_score")]
    scores = [np.array([search.cv_results_[name] for name in names]) for search in (one, other)]
    return one.best_params_ == other.best_params_ and np.allclose(*scores, rtol=1e-9, atol=0)


# --- Reporting --------------------------------------------------------------------------------------------------------


def evaluate(test: pd.DataFrame) -> dict[str, float]:
    """How good the probabilities are on trips that the model has not seen."""
    actual, probability = test["good_tip"], test["probability"]
    share = actual.mean()
    return {
        "good_tip_share": float(share),
        "roc_auc": float(roc_auc_score(actual, probability)),
        "average_precision": float(average_precision_score(actual, probability)),
        "brier_score": float(brier_score_loss(actual, probability)),
        "baseline_brier_score": float(share * (1 - share)),
    }


def plot_tips(test: pd.DataFrame, path: Path) -> None:
    by_hour = test.groupby("hour").agg(actual=("good_tip", "mean"), predicted=("probability", "mean"))
    actual, predicted = calibration_curve(test["good_tip"], test["probability"], n_bins=10, strategy="quantile")
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    left.bar(by_hour.index, by_hour["actual"], color="#1f6feb", alpha=0.35, label="what happened")
    left.plot(by_hour.index, by_hour["predicted"], "o-", color="#d1242f", label="predicted")
    left.set_title(f"Good tips by hour, {len(test):,} trips not trained on", fontsize=12)
    left.set_xlabel("hour of the pickup")
    left.set_ylabel("share of trips with a good tip")
    left.legend(frameon=False)
    right.plot([0, 1], [0, 1], linestyle="--", color="gray", label="perfect")
    right.plot(predicted, actual, "o-", color="#1f6feb", label="the model, in tenths of the trips")
    right.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="predicted probability", ylabel="share that happened")
    right.set_title("Are the probabilities right?", fontsize=12)
    right.legend(loc="upper left", frameon=False)
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
    figure.savefig(path, dpi=150)


def markdown_table(table: pd.DataFrame | pd.Series) -> str:
    table = table.reset_index()
    rows = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    cells = [[f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def report_of_the_data(trips: pd.DataFrame, by_hour: pd.DataFrame, clean: pd.DataFrame) -> str:
    known = trips.dropna(subset=["payment", "good_tip"])
    return f"""\
# Which taxi passengers leave a good tip?

A good tip is one of at least {GOOD_TIP:.0%} of the fare.

## Reading

{PARTS} CSV files of two companies, {len(trips):,} trips, {len(COLUMNS)} columns, all read as text.

## Exploring

Missing values, in {sum(map(len, SPELLINGS_OF_MISSING.values()))} spellings:

{markdown_table(trips[COLUMNS].isna().mean().rename("share").rename_axis("column"))}

Share of good tips by payment, where both are known:

{markdown_table(known.groupby("payment")["good_tip"].agg(["size", "mean"]))}

Means by hour of the day:

{markdown_table(by_hour.sort_index())}

## Cleaning

Texts became times, numbers and categories. {len(trips) - len(clean):,} trips with a missing value were dropped
({1 - len(clean) / len(trips):.0%}), {len(clean):,} are left.
"""


def report_of_the_model(best: dict[str, float], counts: dict, train_rows: int, test_rows: int, scores: dict) -> str:
    kinds = [("dask-ml", counts["dask_ml"]), ("scikit-learn", counts["scikit_learn"])]
    searches = "\n".join(
        f"| {name} | {took['fits']['preparation']} | {took['fits']['boosting']} | {took['seconds']:.1f} |"
        for name, took in kinds
    )
    return f"""
## Modelling

Zones to their share of good tips, categories to columns, numbers to one scale, then gradient boosting,
on {train_rows:,} trips: {counts["candidates"]} settings x {counts["folds"]} folds. Best: {best}.

| GridSearchCV of | fits of the preparation | fits of the model | seconds |
| --- | --- | --- | --- |
{searches}

Same best settings, and same scores of all, with both: {"yes" if counts["same_results"] else "NO"}.

## Reporting

On {test_rows:,} trips that the model has not seen: ROC AUC {scores["roc_auc"]:.3f} (guessing: 0.5), average precision
{scores["average_precision"]:.3f} (guessing: {scores["good_tip_share"]:.3f}), Brier score {scores["brier_score"]:.3f}
(guessing: {scores["baseline_brier_score"]:.3f}).

![Predicted and actual tips](tips.png)

`best_pipeline.joblib` has the model; `predict.py` of this example uses it without Dask.
"""


# --- The job ----------------------------------------------------------------------------------------------------------


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Predict which taxi passengers leave a good tip.")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--rows", type=int, default=ROWS, help="trips to make (default: %(default)s)")
    size.add_argument("--small", action="store_true", help="2,000 trips and small models, for a quick look")
    size.add_argument("--full", action="store_true", help="all 80,000 trips: the default")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.rows = 2_000
    if arguments.rows < 2_000:
        parser.error(f"--rows must be at least 2000, got {arguments.rows}")
    return arguments


def read_and_explore(rows: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All trips with the right types, and means by hour.

    The files lie in a folder of this process, which workers in pods of their own don't see, so threads of this process
    read them. From where the workers can read, such as s3://bucket/yellow-*.csv, leave out scheduler="threads".
    """
    with tempfile.TemporaryDirectory() as folder:
        write_raw_files(Path(folder), rows)
        trips = read_trips(Path(folder))
        by_hour = trips.groupby("hour", dropna=True)[["distance", "fare", "tip", "good_tip"]].mean()
        trips, by_hour = dd.compute(trips, by_hour, scheduler="threads")
    return trips.reset_index(drop=True), by_hour


def search_twice(X: pd.DataFrame, y: pd.Series, trees: list[int]) -> tuple[BaseEstimator, dict]:
    """The search by dask-ml, and what both took."""
    client = dask_training.client()
    folds = StratifiedKFold(3, shuffle=True, random_state=SEED)
    options = {"scoring": "roc_auc", "cv": folds, "n_jobs": -1}
    search = dask_ml.model_selection.GridSearchCV(make_pipeline(), make_grid(trees), **options, iid=False)
    took = fit_and_count(search, client, X, y)
    print(f"dask-ml: {took['fits']} in {took['seconds']:.1f} s", flush=True)
    other = sklearn.model_selection.GridSearchCV(make_pipeline(), make_grid(trees), **options)
    other_took = fit_and_count(other, client, X, y)
    print(f"scikit-learn: {other_took['fits']} in {other_took['seconds']:.1f} s", flush=True)
    counts = {
        "candidates": len(search.cv_results_["params"]),
        "folds": search.n_splits_,
        "same_results": same_results(search, other),
        "dask_ml": took,
        "scikit_learn": other_took,
    }
    return search, counts


def main() -> None:
    arguments = parse_arguments()
    artifacts = dask_training.artifacts_dir()

    trips, by_hour = read_and_explore(arguments.rows)
    missing = float(trips[COLUMNS].isna().to_numpy().mean())
    print(f"{len(trips):,} trips from {PARTS} files, {missing:.1%} of the values missing", flush=True)
    clean = trips.dropna().astype({"good_tip": "int8"})
    print(f"{len(clean):,} without missing values, {clean['good_tip'].mean():.1%} of them with a good tip", flush=True)

    train, test = train_test_split(clean, test_size=0.25, stratify=clean["good_tip"], random_state=SEED)
    search, counts = search_twice(train[FEATURES], train["good_tip"], [5, 10] if arguments.small else [40, 80])
    pipeline = without_counting(search.best_estimator_)
    best = {name.rpartition("__")[2]: value for name, value in search.best_params_.items()}
    test = test.assign(probability=pipeline.predict_proba(test[FEATURES])[:, 1])
    scores = evaluate(test)

    joblib.dump(pipeline, artifacts / "best_pipeline.joblib", compress=3)
    pd.DataFrame(search.cv_results_).to_csv(artifacts / "cv_results.csv", index=False)
    (artifacts / "fit_counts.json").write_text(json.dumps(counts, indent=2) + "\n")
    plot_tips(test, artifacts / "tips.png")
    sample = test.sample(100, random_state=SEED)[[*FEATURES, "good_tip", "probability"]]
    sample.to_csv(artifacts / "sample.csv", index=False)  # something for predict.py to read
    of_the_data = report_of_the_data(trips, by_hour, clean)
    of_the_model = report_of_the_model(best, counts, len(train), len(test), scores)
    (artifacts / "report.md").write_text(of_the_data + of_the_model)
    dask_training.report(
        rows=len(trips),
        missing_share=missing,
        train_rows=len(train),
        test_rows=len(test),
        cv_roc_auc=float(search.best_score_),
        **scores,
        same_results=counts["same_results"],
        **{f"{kind}_preparation_fits": counts[kind]["fits"]["preparation"] for kind in ("dask_ml", "scikit_learn")},
        **{f"{kind}_seconds": counts[kind]["seconds"] for kind in ("dask_ml", "scikit_learn")},
        **{f"best_{name}": value for name, value in best.items()},
    )
    print(f"ROC AUC on {len(test):,} unseen trips: {scores['roc_auc']:.3f} (guessing: 0.5)", flush=True)


if __name__ == "__main__":
    main()
