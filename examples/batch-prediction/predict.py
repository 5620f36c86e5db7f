"""Use the trained model anywhere: scikit-learn and pandas are enough, no Dask, no dask-training.

    python predict.py artifacts/batch-prediction/<run>/model.joblib readings.csv > predictions.csv

`readings.csv` (or .parquet) has one reading per line and at least the model's 8 columns; `sample.csv`, which lies
beside the model, shows them. The same lines come out with a column `predicted`: the state that the pump is likely to
be in.
"""

from __future__ import annotations

import argparse
import os
import sys

import joblib
import pandas as pd


def main() -> int:
    parser = argparse.ArgumentParser(description="In which state is each pump?")
    parser.add_argument("model", help="model.joblib, as the training left it; only load files that you trust")
    parser.add_argument(
        "readings", help="CSV or Parquet file with the model's columns (- reads CSV from standard input)"
    )
    arguments = parser.parse_args()

    model = joblib.load(arguments.model)
    read = pd.read_parquet if arguments.readings.endswith(".parquet") else pd.read_csv
    readings = read(sys.stdin if arguments.readings == "-" else arguments.readings)
    missing = [name for name in model.feature_names_in_ if name not in readings]
    if missing:
        print(f"{arguments.readings}: column(s) missing: {', '.join(missing)}", file=sys.stderr)
        return 2
    readings["predicted"] = model.predict(readings[model.feature_names_in_])
    try:
        readings.to_csv(sys.stdout, index=False)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
