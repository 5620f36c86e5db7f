"""Train on two thousand rows, predict a million: a support vector machine that watches over pumps.

Training an SVC takes longer with the square of its rows, and a learning curve shows how many are worth it. Predicting
has no such limit: dask-ml's ParallelPostFit takes the fitted pipeline to all partitions of a Dask DataFrame.

The readings are Parquet files, made up by `make_readings`, the same ones each time. Workers are pods of their own and
share no folder, so each file is made in the task that reads it. With files in a place that all workers reach,
`dd.read_parquet("s3://bucket/readings")` takes the place of `read_readings`.

Files are written to the folder that the environment variable ARTIFACTS_DIR names. That is the runner's, so predictions
are brought there as Parquet files, a few at a time: a million rows need not fit into its memory.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import time
import timeit
from collections.abc import Callable, Iterator
from pathlib import Path

import dask
import dask.dataframe as dd
import distributed
import joblib
import numpy as np
import pandas as pd
from dask_ml.wrappers import ParallelPostFit
from matplotlib.figure import Figure
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import StratifiedKFold, learning_curve
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

import dask_training

SEED = 7
SIZES = {  # rows, rows of a partition
    "small": (20_000, 2_500),
    "default": (200_000, 10_000),
    "full": (1_000_000, 20_000),
}
TRAIN_ROWS = 2_000
LABELLED = 1_000_000  # the number of the part that was labelled: none of those that are predicted
STATES = ["normal", "worn", "failing"]
SITES = ["harbour", "hills", "plant"]
NUMBERS = ["temperature", "vibration", "pressure", "current", "speed", "humidity", "age"]
FEATURES = ["site", *NUMBERS]
TEXT = np.empty(0, dtype=object)  # tells Dask what comes out where it can't know


# --- The readings -----------------------------------------------------------------------------------------------------


def make_readings(rows: int, part: int) -> pd.DataFrame:
    """Readings of pumps and the state that each was in; each part is another, and the same every time."""
    random = np.random.default_rng([SEED, part])
    wear = random.beta(1.2, 2.8, rows)  # what the sensors see the effects of
    speed = random.normal(1500, 200, rows)  # turns a minute
    load = (speed - 1500) / 200
    # What is usual depends on the site: the same temperature means another state in the hills.
    site = random.integers(0, len(SITES), rows)
    warmth = np.array([0.0, -6.0, 9.0])[site]
    frame = pd.DataFrame(
        {
            "reading": np.arange(rows) + part * rows,
            "site": np.array(SITES, dtype=object)[site],
            "temperature": 45 + 18 * wear + 4 * load + warmth + random.normal(0, 3, rows),  # degrees Celsius
            "vibration": 1.5 + 5 * np.abs(wear - 0.35) + 0.8 * load**2 + random.normal(0, 0.5, rows),  # mm/s
            "pressure": 6 - 1.5 * wear**2 + 0.5 * load + random.normal(0, 0.2, rows),  # bar
            "current": 20 + 6 * wear * (1 + load / 3) + random.normal(0, 1, rows),  # ampere
            "speed": speed,
            "humidity": random.uniform(20, 90, rows),  # percent; says nothing
            "age": random.gamma(2, 2, rows),  # years; nothing either
        }
    )
    frame["state"] = np.array(STATES, dtype=object)[np.digitize(wear, [0.4, 0.65])]
    return frame


def make_file(part: int, rows: int, write: Callable = pd.DataFrame.to_parquet) -> bytes:
    """One file of readings, as bytes, in the format that `write` of pandas has."""
    file = io.BytesIO()
    write(make_readings(rows, part), file, index=False)
    return file.getvalue()


def read_part(part: int, rows: int, columns: list[str] | None = None) -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO(make_file(part, rows)), columns=columns)


def read_readings(rows: int, part_rows: int) -> dd.DataFrame:
    """All readings, lazily, a file for each partition; what is done with them says which columns are read."""
    return dd.from_map(read_part, range(rows // part_rows), rows=part_rows, meta=read_part(0, 1).head(0))


def compare_formats(part: int, rows: int) -> pd.DataFrame:
    """Size of the same readings as CSV and as Parquet, and the seconds to read all columns of them, or two."""
    formats = {
        "csv": (pd.DataFrame.to_csv, pd.read_csv, "usecols"),
        "parquet": (pd.DataFrame.to_parquet, pd.read_parquet, "columns"),
    }
    table = {}
    for name, (write, read, some) in formats.items():
        content = make_file(part, rows, write)
        row = table[name] = {"rows": rows, "bytes": len(content)}
        for what, options in (("all_columns_seconds", {}), ("two_columns_seconds", {some: ["reading", "state"]})):
            row[what] = min(timeit.repeat(lambda: read(io.BytesIO(content), **options), number=1, repeat=3))  # noqa: B023 - called at once
    return pd.DataFrame(table).T.rename_axis("format")


# --- The model --------------------------------------------------------------------------------------------------------


def make_pipeline() -> Pipeline:
    columns = [("numbers", StandardScaler(), NUMBERS), ("site", OneHotEncoder(handle_unknown="ignore"), ["site"])]
    return Pipeline([("prepare", ColumnTransformer(columns, sparse_threshold=0)), ("svc", SVC(C=10, gamma=0.1))])


def draw_learning_curve(labelled: pd.DataFrame, sizes: list[int]) -> pd.DataFrame:
    """Accuracy in cross-validation by the number of rows that were trained on; each fit is a task."""
    found, train, test = learning_curve(
        make_pipeline(),
        labelled[FEATURES],
        labelled["state"],
        train_sizes=sizes,
        cv=StratifiedKFold(5, shuffle=True, random_state=SEED),
        n_jobs=-1,
        shuffle=True,
        random_state=SEED,
    )
    columns = {"train_accuracy": train.mean(axis=1), "accuracy": test.mean(axis=1), "accuracy_std": test.std(axis=1)}
    return pd.DataFrame({"rows": found, **columns})


def plot_learning_curve(curve: pd.DataFrame, path: Path) -> None:
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots()
    low, high = curve["accuracy"] - curve["accuracy_std"], curve["accuracy"] + curve["accuracy_std"]
    axes.fill_between(curve["rows"], low, high, color="#1f6feb", alpha=0.15)
    axes.plot(
        curve["rows"], curve["accuracy"], "o-", color="#1f6feb", label="rows not trained on (mean and std of 5 folds)"
    )
    axes.plot(curve["rows"], curve["train_accuracy"], "o--", color="gray", label="rows trained on")
    axes.axvline(TRAIN_ROWS, color="#d1242f", linestyle=":", label=f"{TRAIN_ROWS:,}: the model that predicts")
    axes.set_xscale("log")
    axes.set_xticks(curve["rows"], [f"{rows:,}" for rows in curve["rows"]])
    axes.minorticks_off()
    axes.set(xlabel="rows trained on", ylabel="accuracy")
    axes.set_title("How many rows are worth training on?", fontsize=12)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


# --- The predictions --------------------------------------------------------------------------------------------------


def to_file(number: int, part: pd.DataFrame) -> tuple[int, bytes, pd.DataFrame]:
    """On a worker: a partition of predictions as a Parquet file, and how often each state was taken for each."""
    content = part.drop(columns="state").to_parquet(index=False)
    return number, content, pd.crosstab(part["state"], part["predicted"])


def bring(client: distributed.Client, tasks: list, at_once: int) -> Iterator[tuple]:
    """Yields the tasks' results as they come; never more than `at_once` are under way or wait to be taken."""
    waiting = iter(tasks)
    first = [client.compute(task) for task in itertools.islice(waiting, at_once)]
    running = distributed.as_completed(first, with_results=True)
    for future, result in running:
        future.release()
        yield result
        running.update([client.compute(task) for task in itertools.islice(waiting, 1)])


def predict_all(
    client: distributed.Client, model: ParallelPostFit, readings: dd.DataFrame, folder: Path
) -> pd.DataFrame:
    """Writes predictions/part-00000.parquet and so on; returns how often each state was taken for each."""
    predicted = readings.assign(predicted=model.predict(readings[FEATURES]))[["reading", "predicted", "state"]]
    tasks = [dask.delayed(to_file)(number, part) for number, part in enumerate(predicted.to_delayed())]
    folder.mkdir()
    counts = pd.DataFrame(0, index=STATES, columns=STATES)
    for number, content, some in bring(client, tasks, at_once=2 * sum(client.nthreads().values())):
        (folder / f"part-{number:05}.parquet").write_bytes(content)
        counts = counts.add(some, fill_value=0)
    return counts.loc[STATES, STATES].astype(int)


# --- The job ----------------------------------------------------------------------------------------------------------


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train on 2,000 readings of pumps and predict many more.")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--small", action="store_const", dest="size", const="small", help="predict 20,000 readings")
    size.add_argument("--full", action="store_const", dest="size", const="full", help="predict a million")
    parser.set_defaults(size="default")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    rows, part_rows = SIZES[arguments.size]
    artifacts = dask_training.artifacts_dir()
    client = dask_training.client()

    most = TRAIN_ROWS if arguments.size == "small" else 2 * TRAIN_ROWS
    labelled = make_readings(most * 5 // 4, LABELLED)
    curve = draw_learning_curve(labelled, [rows for rows in (125, 250, 500, 1000, 2000, 4000) if rows <= most])
    curve.to_csv(artifacts / "learning_curve.csv", index=False)
    plot_learning_curve(curve, artifacts / "learning_curve.png")
    print(curve.round(3).to_string(index=False), flush=True)

    pipeline = make_pipeline().fit(labelled[FEATURES][:TRAIN_ROWS], labelled["state"][:TRAIN_ROWS])
    joblib.dump(pipeline, artifacts / "model.joblib", compress=3)
    model = ParallelPostFit(pipeline, scoring="accuracy", predict_meta=TEXT)

    readings = read_readings(rows, part_rows)
    first = readings.partitions[:2]
    first_accuracy = float(model.score(first[FEATURES], first["state"].map_partitions(np.asarray, meta=TEXT)))
    print(f"accuracy of the first {2 * part_rows:,} of {rows:,} readings: {first_accuracy:.3f}", flush=True)
    started = time.monotonic()
    counts = predict_all(client, model, readings, artifacts / "predictions")
    seconds = time.monotonic() - started
    accuracy = float(np.trace(counts) / rows)
    print(f"{rows:,} predicted in {seconds:.1f} s, accuracy {accuracy:.3f}", flush=True)
    counts.to_csv(artifacts / "confusion.csv", index_label="state")
    sample = make_readings(100, LABELLED + 1)
    sample.assign(predicted=pipeline.predict(sample[FEATURES])).to_csv(artifacts / "sample.csv", index=False)

    compared = client.gather(
        client.map(compare_formats, range(4), rows=rows // 4 if arguments.size == "small" else 50_000)
    )
    formats = sum(compared[1:], compared[0])
    formats.to_csv(artifacts / "csv_or_parquet.csv")
    print(formats.round(3).to_string(), flush=True)

    summary = {
        "rows": int(counts.to_numpy().sum()),
        "files": len(list((artifacts / "predictions").iterdir())),
        "predicted_shares": (counts.sum(axis=0) / rows).to_dict(),
        "true_shares": (counts.sum(axis=1) / rows).to_dict(),
        "recall": (pd.Series(np.diag(counts), index=STATES) / counts.sum(axis=1)).to_dict(),
        "accuracy": accuracy,
        "seconds": round(seconds, 3),
    }
    (artifacts / "prediction_summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    dask_training.report(
        rows=summary["rows"],
        files=summary["files"],
        train_rows=TRAIN_ROWS,
        cv_accuracy=float(curve.set_index("rows")["accuracy"][TRAIN_ROWS]),
        cv_accuracy_of_125_rows=float(curve["accuracy"][0]),
        first_accuracy=first_accuracy,
        accuracy=accuracy,
        **{f"share_{state}": share for state, share in summary["predicted_shares"].items()},
        rows_per_second=round(rows / seconds),
        parquet_to_csv_bytes=float(formats["bytes"]["parquet"] / formats["bytes"]["csv"]),
        parquet_to_csv_seconds=float(formats["all_columns_seconds"]["parquet"] / formats["all_columns_seconds"]["csv"]),
    )


if __name__ == "__main__":
    main()
