"""Use the trained pipeline anywhere: scikit-learn and pandas are enough, no Dask, no dask-training.

    python predict.py artifacts/taxi/<run>/best_pipeline.joblib trips.csv > predictions.csv

`trips.csv` has one clean trip per line and at least the pipeline's 12 columns; `sample.csv`, which lies beside the
pipeline, shows them. The same lines come out with a column `probability`: how likely the passenger is to leave a good
tip. It is empty for a trip with a missing value.
"""

from __future__ import annotations

import argparse
import os
import sys

import joblib
import pandas as pd


def main() -> int:
    parser = argparse.ArgumentParser(description="How likely is each passenger to leave a good tip?")
    parser.add_argument("model", help="best_pipeline.joblib, as the training left it; only load files that you trust")
    parser.add_argument("trips", help="CSV file with the pipeline's columns (- reads standard input)")
    arguments = parser.parse_args()

    pipeline = joblib.load(arguments.model)
    trips = pd.read_csv(sys.stdin if arguments.trips == "-" else arguments.trips)
    features = list(pipeline.feature_names_in_)
    missing = [name for name in features if name not in trips]
    if missing:
        print(f"{arguments.trips}: column(s) missing: {', '.join(missing)}", file=sys.stderr)
        return 2
    complete = trips[features].notna().all(axis=1)
    trips["probability"] = float("nan")
    if complete.any():
        trips.loc[complete, "probability"] = pipeline.predict_proba(trips.loc[complete, features])[:, 1]
    try:
        trips.to_csv(sys.stdout, index=False)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
