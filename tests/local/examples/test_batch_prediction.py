"""The pumps as a user predicts them: every reading once, by the workers, as the model alone would have."""

import io
import json

import dask
import joblib
import pandas as pd
import pytest
from distributed import Client
from example_runs import (
    EXAMPLES,
    MADE,
    RECORDS,
    assert_png,
    job_with_all_workers,
    predict_elsewhere,
    script_files,
    workers_of,
)
from modules import load_module


@pytest.fixture(scope="module")
def example():
    return load_module(EXAMPLES / "batch-prediction" / "train.py")


def test_each_reading_is_predicted_once_as_the_model_alone_does(run_job, example):
    run = run_job(job_with_all_workers("batch-prediction"), options=("--", "--small"), timeout=150)
    assert run.exit_code == 0, run.finished
    assert run.kept() >= RECORDS
    assert script_files(run.kept()) == MADE["batch-prediction"]
    assert_png(run.folder / "learning_curve.png")
    assert len(workers_of(run, "_fit_and_score")) == len(workers_of(run, "to_file")) == 2

    predictions = pd.read_parquet(run.folder / "predictions")
    assert predictions["reading"].to_list() == list(range(20_000))
    model = joblib.load(run.folder / "model.joblib")
    last = example.make_readings(2_500, 7)
    assert predictions["predicted"][-2_500:].to_list() == model.predict(last[example.FEATURES]).tolist()
    assert_sensible(run, predictions)
    drop = ("predicted", "state")
    predicted, sample = predict_elsewhere("batch-prediction", "model.joblib", run.folder, drop=drop)
    assert predicted["predicted"].to_list() == sample["predicted"].to_list()


def assert_sensible(run, predictions):
    metrics = run.finished["metrics"]
    summary = json.loads((run.folder / "prediction_summary.json").read_text())
    assert (summary["rows"], summary["files"]) == (20_000, 8)
    assert summary["predicted_shares"] == pytest.approx(predictions["predicted"].value_counts(normalize=True).to_dict())
    confusion = pd.read_csv(run.folder / "confusion.csv", index_col="state")
    assert confusion.to_numpy().sum() == 20_000
    assert summary["accuracy"] == metrics["accuracy"] == pytest.approx(0.858, abs=0.01)
    assert metrics["first_accuracy"] == pytest.approx(metrics["accuracy"], abs=0.03)
    curve = pd.read_csv(run.folder / "learning_curve.csv")
    assert curve["rows"].to_list() == [125, 250, 500, 1000, 2000]
    assert curve["accuracy"].iloc[0] < curve["accuracy"].iloc[-1] - 0.04  # more rows are worth it
    assert curve["train_accuracy"].iloc[0] > curve["train_accuracy"].iloc[-1]
    formats = pd.read_csv(run.folder / "csv_or_parquet.csv", index_col="format")
    assert formats["rows"].to_list() == [20_000, 20_000]
    assert formats.loc["parquet", "bytes"] < 0.7 * formats.loc["csv", "bytes"]
    assert (formats.filter(like="seconds") > 0).all(axis=None)


def test_only_so_many_results_are_brought_at_a_time(example, tmp_path):
    def work(number):
        (tmp_path / str(number)).touch()
        return number

    with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=":0") as client:
        tasks = [dask.delayed(work, pure=False)(number) for number in range(12)]
        taken = []
        for result in example.bring(client, tasks, at_once=3):
            taken.append(result)
            assert len(list(tmp_path.iterdir())) <= len(taken) - 1 + 3
    assert sorted(taken) == list(range(12))


def test_both_formats_hold_the_same_readings_and_parquet_can_leave_columns_out(example):
    csv = pd.read_csv(io.BytesIO(example.make_file(3, 200, pd.DataFrame.to_csv)))
    parquet = example.read_part(3, 200)
    pd.testing.assert_frame_equal(csv, parquet, check_dtype=False)
    pd.testing.assert_frame_equal(parquet, example.make_readings(200, 3), check_dtype=False)
    assert list(example.read_part(3, 200, columns=["site", "age"]).columns) == ["site", "age"]
    assert not parquet["age"].equals(example.read_part(4, 200)["age"])
