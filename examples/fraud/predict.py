"""Use the trained model anywhere: XGBoost and pandas are enough, no Dask, no dask-training.

    python predict.py artifacts/fraud/<run>/booster.json payments.csv > predictions.csv

`payments.csv` has one payment per line and at least the model's 29 columns; `sample.csv`, which lies beside the model,
shows them. The same lines come out with two more columns: `probability`, how likely the payment is a fraud, and
`stop`, whether that reaches the threshold that was chosen in the training.
"""

from __future__ import annotations

import argparse
import os
import sys

import pandas as pd
import xgboost


def main() -> int:
    parser = argparse.ArgumentParser(description="Which payment is a fraud?")
    parser.add_argument("model", help="booster.json, as the training left it")
    parser.add_argument("payments", help="CSV file with the model's columns (- reads standard input)")
    arguments = parser.parse_args()

    booster = xgboost.Booster(model_file=arguments.model)
    columns = booster.feature_names or []
    payments = pd.read_csv(sys.stdin if arguments.payments == "-" else arguments.payments)
    missing = [name for name in columns if name not in payments]
    if missing:
        print(f"{arguments.payments}: column(s) missing: {', '.join(missing)}", file=sys.stderr)
        return 2
    payments["probability"] = booster.predict(xgboost.DMatrix(payments[columns].astype("float32")))
    payments["stop"] = payments["probability"] >= float(booster.attr("threshold") or 0.5)
    try:
        payments.to_csv(sys.stdout, index=False)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
