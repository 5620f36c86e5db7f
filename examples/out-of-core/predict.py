"""Use the trained model anywhere: scikit-learn and pandas are enough, no Dask, no dask-training.

    python predict.py artifacts/out-of-core/<run>/best_model.joblib readings.csv > predictions.csv

`readings.csv` has the readings of one machine per line, in columns sensor_0, sensor_1 and so on; `sample.csv`, which
lies beside the model, shows them. The same lines come out with a column `probability`: how likely it is to fail soon.
"""

from __future__ import annotations

import argparse
import os
import sys

import joblib
import pandas as pd


def main() -> int:
    parser = argparse.ArgumentParser(description="How likely is each machine to fail soon?")
    parser.add_argument("model", help="best_model.joblib, as the training left it; only load files that you trust")
    parser.add_argument("readings", help="CSV file with the model's columns (- reads standard input)")
    arguments = parser.parse_args()

    model = joblib.load(arguments.model)
    readings = pd.read_csv(sys.stdin if arguments.readings == "-" else arguments.readings)
    columns = [f"sensor_{number}" for number in range(model.n_features_in_)]
    missing = [name for name in columns if name not in readings]
    if missing:
        print(f"{arguments.readings}: {len(missing)} column(s) missing, the first is {missing[0]}", file=sys.stderr)
        return 2
    readings["probability"] = model.predict_proba(readings[columns].to_numpy())[:, 1]
    try:
        readings.to_csv(sys.stdout, index=False)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
