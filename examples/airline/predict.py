"""Use the trained model anywhere: scikit-learn and pandas are enough, no Dask, no dask-training.

    python predict.py artifacts/airline/<run>/model.joblib flights.csv > predictions.csv

`flights.csv` has one flight per line and at least the model's 11 columns; `sample.csv`, which lies beside the model,
shows them. The same lines come out with a column `probability`: how likely the flight is to be cancelled.
"""

from __future__ import annotations

import argparse
import os
import sys

import joblib
import pandas as pd


def main() -> int:
    parser = argparse.ArgumentParser(description="How likely is each flight to be cancelled?")
    parser.add_argument("model", help="model.joblib, as the training left it; only load files that you trust")
    parser.add_argument("flights", help="CSV file with the model's columns (- reads standard input)")
    arguments = parser.parse_args()

    model = joblib.load(arguments.model)
    flights = pd.read_csv(sys.stdin if arguments.flights == "-" else arguments.flights)
    missing = [name for name in model.feature_names_in_ if name not in flights]
    if missing:
        print(f"{arguments.flights}: column(s) missing: {', '.join(missing)}", file=sys.stderr)
        return 2
    flights["probability"] = model.predict_proba(flights[model.feature_names_in_])[:, 1]
    try:
        flights.to_csv(sys.stdout, index=False)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
