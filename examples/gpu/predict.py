"""Use the trained model anywhere: XGBoost (also xgboost-cpu) and pandas are enough, no GPU, no Dask, no dask-training.

    python predict.py artifacts/gpu/<run>/model.json rows.csv > predictions.csv

`rows.csv` has at least the model's columns; `sample.csv`, which lies beside the model, shows them. The same lines come
out with a column `probability`.
"""

from __future__ import annotations

import argparse
import sys

import pandas as pd
import xgboost


def main() -> int:
    parser = argparse.ArgumentParser(description="How likely is each row to be a 1?")
    parser.add_argument("model", help="model.json, as the training left it")
    parser.add_argument("rows", help="CSV file with the model's columns (- reads standard input)")
    arguments = parser.parse_args()

    model = xgboost.Booster(model_file=arguments.model)
    rows = pd.read_csv(sys.stdin if arguments.rows == "-" else arguments.rows)
    missing = [name for name in model.feature_names if name not in rows]
    if missing:
        print(f"{arguments.rows}: column(s) missing: {', '.join(missing)}", file=sys.stderr)
        return 2
    rows["probability"] = model.predict(xgboost.DMatrix(rows[model.feature_names]))
    rows.to_csv(sys.stdout, index=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
