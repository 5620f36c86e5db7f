"""Will this flight be cancelled? A grid search of 75 fits over 563,000 flights, and four other ways to use n_jobs.

Plain scikit-learn: nothing here mentions Dask. Whatever takes `n_jobs` hands its work to joblib, and joblib hands it to
the backend that is active: Dask workers under `dask-training run`, this machine's cores under `python train.py`. The
results are the same.

The flights are made up, from probabilities that are known. So there is no download, and one can say how good any model
could be: the AUC of the probabilities themselves is the ceiling.

Files are written to the folder that the environment variable ARTIFACTS_DIR names.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score, train_test_split
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

SEED = 1988
ROWS = {"small": 12_000, "default": 150_000, "full": 563_000}
LABELS = ["cancelled", "delayed", "diverted"]
CATEGORIES = ["carrier", "origin", "dest", "route"]
NUMBERS = ["month", "day", "weekday", "dep_time", "arr_time", "flight_number", "distance"]
FEATURES = [*NUMBERS[:6], *CATEGORIES, "distance"]

# Latitude, longitude, share of all flights, and how often snow or fog closes the airport in a winter month (log-odds).
AIRPORTS = pd.DataFrame.from_dict(
    {
        "ATL": (33.64, -84.43, 9, 0.1), "ORD": (41.98, -87.90, 9, 1.5), "DFW": (32.90, -97.04, 8, 0.4),
        "DEN": (39.86, -104.67, 6, 0.9), "LAX": (33.94, -118.41, 6, -0.4), "EWR": (40.69, -74.17, 5, 1.3),
        "SFO": (37.62, -122.38, 5, 0.5), "PHX": (33.43, -112.01, 4, -0.6), "DTW": (42.21, -83.35, 4, 1.2),
        "STL": (38.75, -90.37, 4, 0.7), "MSP": (44.88, -93.22, 4, 1.0), "BOS": (42.37, -71.01, 4, 1.4),
        "LGA": (40.78, -73.87, 4, 1.3), "PIT": (40.49, -80.23, 3, 0.8), "CLT": (35.21, -80.94, 3, 0.1),
        "DCA": (38.85, -77.04, 3, 0.8), "PHL": (39.87, -75.24, 3, 1.1), "IAH": (29.98, -95.34, 3, -0.2),
        "SEA": (47.45, -122.31, 2, 0.3), "MIA": (25.79, -80.29, 2, -0.8),
    },
    orient="index", columns=["latitude", "longitude", "traffic", "winter"],
)  # fmt: skip
CARRIERS = {"AA": -0.2, "AS": 0.1, "CO": 0.2, "DL": -0.4, "EA": 0.8, "NW": 0.0, "UA": 0.1, "US": 0.3}  # log-odds
MOST_FLOWN_ROUTES = 50
SHARE = {"cancelled": 0.012, "delayed": 0.20, "diverted": 0.004}

GRID = {"forest__n_estimators": [2, 4, 6, 8, 10], "forest__max_depth": [2, 4, 6, 8, 10]}


def make_flights(rows: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The 11 features of each flight, what became of it (0 or 1 for each label), and the probability that it had to.

    The same for the same number of rows. All features are of the schedule: nothing that one knows only afterwards.
    """
    random = np.random.default_rng(SEED)
    routes = most_flown_routes()
    route = routes.iloc[random.choice(len(routes), rows, p=routes["traffic"])].reset_index(drop=True)
    date = pd.Timestamp("1988-01-01") + pd.to_timedelta(pd.Series(random.integers(0, 366, rows)), unit="D")
    # Most leave in the morning or the late afternoon. They fly at 430 miles per hour and need half an hour more.
    peak = np.where(random.random(rows) < 0.5, 8.5, 17.5)
    departure = np.clip(random.normal(peak, 2.5) * 60, 300, 1410).astype(int)
    arrival = (departure + 30 + route["distance"] / 430 * 60).astype(int) % (24 * 60)
    features = pd.DataFrame(
        {
            "month": date.dt.month,
            "day": date.dt.day,
            "weekday": date.dt.day_of_week + 1,
            "dep_time": departure // 60 * 100 + departure % 60,  # 1715 is a quarter past five
            "arr_time": arrival // 60 * 100 + arrival % 60,
            "flight_number": random.integers(1, 2500, rows),
            "carrier": random.choice(list(CARRIERS), rows),
            "origin": route["origin"],
            "dest": route["dest"],
            "route": route["origin"] + "-" + route["dest"],
            "distance": route["distance"],
        }
    ).astype(dict.fromkeys(CATEGORIES, "category") | dict.fromkeys(NUMBERS, "int32"))
    probability = probabilities(features)
    drawn = pd.DataFrame(random.random((rows, len(LABELS))) < probability, columns=LABELS).astype("int8")
    # A flight that is cancelled is neither late nor diverted.
    flown = 1 - drawn["cancelled"]
    labels = drawn.assign(delayed=drawn["delayed"] * flown, diverted=drawn["diverted"] * flown)
    flies = 1 - probability["cancelled"]
    known = probability.assign(delayed=probability["delayed"] * flies, diverted=probability["diverted"] * flies)
    return features[FEATURES], labels, known


def most_flown_routes() -> pd.DataFrame:
    """The 50 pairs of airports with most traffic: origin, destination, distance in miles, share of the flights."""
    pairs = AIRPORTS.reset_index(names="airport").merge(
        AIRPORTS.reset_index(names="airport"), how="cross", suffixes=("_from", "_to")
    )
    pairs = pairs[pairs["airport_from"] != pairs["airport_to"]]
    a, b = (np.radians(pairs[[f"latitude_{end}", f"longitude_{end}"]].to_numpy()) for end in ("from", "to"))
    haversine = np.sin((b - a)[:, 0] / 2) ** 2 + np.cos(a[:, 0]) * np.cos(b[:, 0]) * np.sin((b - a)[:, 1] / 2) ** 2
    routes = pd.DataFrame(
        {
            "origin": pairs["airport_from"],
            "dest": pairs["airport_to"],
            "distance": (2 * 3959 * np.arcsin(np.sqrt(haversine))).round().astype(int),
            "traffic": pairs["traffic_from"] * pairs["traffic_to"],
        }
    ).nlargest(MOST_FLOWN_ROUTES, "traffic")
    return routes.assign(traffic=routes["traffic"] / routes["traffic"].sum()).reset_index(drop=True)


def probabilities(features: pd.DataFrame) -> pd.DataFrame:
    """How likely each flight is to be cancelled, and if not, to be late or diverted: the truth behind the labels."""
    winter = np.cos((features["month"] - 1.0) / 12 * 2 * np.pi)  # 1 in January, -1 in July
    hour = features["dep_time"] // 100 + features["dep_time"] % 100 / 60
    late_in_the_day = (hour - 13) / 6
    carrier = features["carrier"].astype(object).map(CARRIERS).astype(float)
    snow = [features[end].astype(object).map(AIRPORTS["winter"]) * winter.clip(lower=0) for end in ("origin", "dest")]
    weekend = (features["weekday"] >= 6).astype(float)
    far = features["distance"] / 1000
    log_odds = {
        "cancelled": 1.6 * snow[0] + 0.8 * snow[1] + carrier + 0.5 * late_in_the_day - 0.3 * far - 0.5 * weekend,
        "delayed": 0.4 * winter + 0.6 * carrier + 0.9 * late_in_the_day + 0.4 * snow[0],
        "diverted": 1.5 * snow[1] + 0.5 * far + 0.3 * late_in_the_day,
    }
    return pd.DataFrame({name: with_mean(value.to_numpy(), SHARE[name]) for name, value in log_odds.items()})


def with_mean(log_odds: np.ndarray, share: float) -> np.ndarray:
    """Probabilities with these log-odds, shifted such that their mean is `share`."""
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.mean(1 / (1 + np.exp(-log_odds - middle))) < share else (low, middle)
    return 1 / (1 + np.exp(-log_odds - low))


def pipeline(**forest: Any) -> Pipeline:
    """Categories to numbers, then a random forest of few and shallow trees, for there are few cancelled flights."""
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = ColumnTransformer([("categories", encode, CATEGORIES)], remainder="passthrough")
    return Pipeline([("columns", columns), ("forest", RandomForestClassifier(random_state=SEED, **forest))])


@dataclass
class Flights:
    """The flights to train on and, held out, those to test on. No model can do better than `ceiling`, but by luck."""

    train: pd.DataFrame
    test: pd.DataFrame
    train_labels: pd.DataFrame
    test_labels: pd.DataFrame
    ceiling: dict[str, float]
    test_probability: pd.DataFrame


@dataclass
class Result:
    """What one part trained, and the AUC that it reached: on held-out flights, or in cross-validation."""

    what: str
    fits: int
    auc: dict[str, float]
    metrics: dict[str, Any] = field(default_factory=dict)
    curve: np.ndarray | None = None  # probability of being cancelled of each held-out flight
    model: Any = None


def hold_out(rows: int) -> Flights:
    features, labels, known = make_flights(rows)
    parts = train_test_split(features, labels, known, test_size=0.25, stratify=labels["cancelled"], random_state=SEED)
    train, test, train_labels, test_labels, _, probability = parts
    ceiling = {name: float(roc_auc_score(test_labels[name], probability[name])) for name in LABELS}
    return Flights(train, test, train_labels, test_labels, ceiling, probability)


def folds(number: int) -> StratifiedKFold:
    return StratifiedKFold(n_splits=number, shuffle=True, random_state=SEED)


def grid_search(flights: Flights, artifacts: Path) -> Result:
    """25 settings, 3 folds: 75 fits, each of them a task for a worker."""
    search = GridSearchCV(pipeline(), GRID, scoring="roc_auc", cv=folds(3), n_jobs=-1)
    search.fit(flights.train, flights.train_labels["cancelled"])
    pd.DataFrame(search.cv_results_).to_csv(artifacts / "cv_results.csv", index=False)
    model = search.best_estimator_
    probability = model.predict_proba(flights.test)[:, 1]
    best = {name.removeprefix("forest__"): value for name, value in search.best_params_.items()}
    metrics = {"cv_roc_auc": float(search.best_score_), **{f"best_{name}": value for name, value in best.items()}}
    fits = len(search.cv_results_["params"]) * search.n_splits_
    auc = {"cancelled": roc_auc_score(flights.test_labels["cancelled"], probability)}
    return Result("25 settings of a forest, 3 folds", fits, auc, metrics, probability, model)


def cross_validation(flights: Flights, _: Path) -> Result:
    """One model, 5 folds: how much does the AUC vary with the flights that it is trained on?"""
    scores = cross_val_score(
        pipeline(n_estimators=10, max_depth=8), flights.train, flights.train_labels["cancelled"],
        scoring="roc_auc", cv=folds(5), n_jobs=-1,
    )  # fmt: skip
    metrics = {"cross_validation_std": float(scores.std())}
    return Result("one forest, 5 folds", len(scores), {"cancelled": scores.mean()}, metrics)


def multilabel(flights: Flights, _: Path) -> Result:
    """Three labels at once, a forest for each."""
    forest = RandomForestClassifier(n_estimators=10, max_depth=8, random_state=SEED)
    model = Pipeline([("columns", pipeline()["columns"]), ("forests", MultiOutputClassifier(forest, n_jobs=-1))])
    model.fit(flights.train, flights.train_labels)
    probability = [each[:, 1] for each in model.predict_proba(flights.test)]
    auc = {name: roc_auc_score(flights.test_labels[name], each) for name, each in zip(LABELS, probability, strict=True)}
    return Result("a forest for each of three labels", len(LABELS), auc, curve=probability[0])


def voting(flights: Flights, _: Path) -> Result:
    """Three models of different kinds, trained side by side; the mean of their probabilities counts."""
    one_hot = ColumnTransformer(
        [("categories", OneHotEncoder(handle_unknown="ignore"), CATEGORIES), ("numbers", StandardScaler(), NUMBERS)]
    )
    members = [
        ("forest", pipeline(n_estimators=10, max_depth=8)),
        ("logistic", make_pipeline(one_hot, LogisticRegression(max_iter=200))),
        ("bayes", make_pipeline(pipeline()["columns"], GaussianNB())),
    ]
    model = VotingClassifier(members, voting="soft", n_jobs=-1)
    model.fit(flights.train, flights.train_labels["cancelled"])
    probability = model.predict_proba(flights.test)[:, 1]
    auc = {"cancelled": roc_auc_score(flights.test_labels["cancelled"], probability)}
    return Result("forest, logistic regression and naive Bayes", len(members), auc, curve=probability)


def nested(flights: Flights, _: Path) -> Result:
    """Parallel in parallel: each of the grid's 6 fits asks for all cores for its 10 trees."""
    forest = pipeline(n_estimators=10, n_jobs=-1)
    search = GridSearchCV(forest, {"forest__max_depth": [6, 8]}, scoring="roc_auc", cv=folds(3), n_jobs=-1)
    search.fit(flights.train, flights.train_labels["cancelled"])
    probability = search.predict_proba(flights.test)[:, 1]
    fits = len(search.cv_results_["params"]) * search.n_splits_
    auc = {"cancelled": roc_auc_score(flights.test_labels["cancelled"], probability)}
    return Result("2 settings of a parallel forest, 3 folds", fits, auc, curve=probability)


PARTS = {
    "grid": grid_search,
    "cross_validation": cross_validation,
    "multilabel": multilabel,
    "voting": voting,
    "nested": nested,
}


def plot_roc(flights: Flights, results: dict[str, Result], path: Path) -> None:
    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    axes = figure.subplots()
    cancelled = flights.test_labels["cancelled"]
    known = flights.test_probability["cancelled"]
    axes.plot(
        *roc_curve(cancelled, known)[:2],
        "k--",
        label=f"ceiling: the true probability ({flights.ceiling['cancelled']:.3f})",
    )
    for name, result in results.items():
        if result.curve is not None:
            label = f"{name.replace('_', ' ')} ({result.auc['cancelled']:.3f})"
            axes.plot(*roc_curve(cancelled, result.curve)[:2], linewidth=1.2, label=label)
    axes.plot([0, 1], [0, 1], ":", color="0.6", label="guessing (0.500)")
    axes.set(xlabel="share of the other flights taken for cancelled", ylabel="share of the cancelled flights found")
    axes.set_title(f"Cancelled flights among {len(cancelled):,} held-out ones (ROC AUC)", fontsize=12)
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    axes.grid(alpha=0.25)
    figure.savefig(path, dpi=150)


def table_of(flights: Flights, results: dict[str, Result], seconds: dict[str, float]) -> pd.DataFrame:
    """One line for each part and label."""
    return pd.DataFrame(
        [
            {
                "part": name,
                "what": result.what,
                "fits": result.fits,
                "label": label,
                "roc_auc": float(auc),
                "ceiling": flights.ceiling[label],
                "seconds": round(seconds[name], 2),
            }
            for name, result in results.items()
            for label, auc in result.auc.items()
        ]
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train models that predict cancelled flights, in five ways.")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--rows", type=int, help=f"flights to make (default: {ROWS['default']:,})")
    for name in ("small", "full"):
        text = f"{ROWS[name]:,} flights"
        size.add_argument(f"--{name}", dest="rows", action="store_const", const=ROWS[name], help=text)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.set_defaults(rows=ROWS["default"])
    arguments = parser.parse_args()
    if arguments.rows < ROWS["small"] // 2:
        parser.error(f"--rows must be at least {ROWS['small'] // 2}, got {arguments.rows}: too few are diverted")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    artifacts = Path(os.environ["ARTIFACTS_DIR"])
    flights = hold_out(arguments.rows)
    share = flights.train_labels["cancelled"].mean()
    print(f"{arguments.rows:,} flights, {flights.train.shape[1]} features, {share:.2%} cancelled", flush=True)

    results: dict[str, Result] = {}
    seconds: dict[str, float] = {}
    for name in (name for name in PARTS if name in arguments.only):
        start = time.monotonic()
        results[name] = PARTS[name](flights, artifacts)
        seconds[name] = time.monotonic() - start
        print(f"{name}: {results[name].what}, {seconds[name]:.1f} s", flush=True)

    table = table_of(flights, results, seconds)
    table.to_csv(artifacts / "parts.csv", index=False)
    plot_roc(flights, results, artifacts / "roc_curve.png")
    if "grid" in results:
        model = results["grid"].model
        joblib.dump(model, artifacts / "model.joblib", compress=3)
        sample = flights.test.assign(probability=results["grid"].curve).sample(100, random_state=SEED)
        sample.to_csv(artifacts / "sample.csv", index=False)  # something for predict.py to read
    metrics = {
        "rows": arguments.rows,
        "features": flights.train.shape[1],
        "cancelled_share": float(share),
        "fits": sum(result.fits for result in results.values()),
    }
    metrics |= {f"ceiling_{label}": value for label, value in flights.ceiling.items()}
    for name, result in results.items():
        metrics |= {f"{name}_{label}": float(auc) for label, auc in result.auc.items()} | result.metrics
    (artifacts / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    print(table.to_string(index=False, float_format="{:.3f}".format), flush=True)


if __name__ == "__main__":
    main()
