"""The scaling example as a user runs it: what it says it measured is what ran."""

import os

import joblib
import pandas as pd
from example_runs import RECORDS, assert_png, job_file, run_plainly, script_files, workers_of

WORKS = ["svc_grid", "pca_logistic", "small_grid", "slow_increment"]
MADE = {"metrics.json", "benchmark.csv", "amdahl.csv", "svc_rows.csv", "speedup.png", "report.md"}
# With two workers; loky where the machine has two cores for it.
LOKY = {("loky", 2)} if joblib.cpu_count() > 1 else set()
SETTINGS = {("sequential", 1), ("dask", 1), ("dask", 2)} | LOKY


def test_four_pieces_of_work_are_timed_with_each_backend(run_job):
    run = run_job(job_file("scaling"), options=("--", "--small"), timeout=170)
    assert run.exit_code == 0, run.finished
    assert run.kept() >= RECORDS
    assert script_files(run.kept()) == MADE
    assert_png(run.folder / "speedup.png")
    metrics = run.finished["metrics"]
    assert metrics["differing_results"] == 0
    assert metrics["tasks"] == 18 + 24 + 48 + 8
    assert (metrics["workers"], metrics["cores"]) == (2, os.cpu_count())
    assert 1.3 < metrics["svc_exponent"] < 3

    table = pd.read_csv(run.folder / "benchmark.csv")
    for work in WORKS:
        lines = table[table["work"] == work]
        assert set(zip(lines["backend"], lines["workers"], strict=True)) == SETTINGS
    # Tasks that wait take at least so long on so many workers; with one, no other has helped.
    slow = table[table["work"] == "slow_increment"]
    assert (slow["seconds"] >= 8 * 0.15 / slow["workers"]).all()
    assert len(workers_of(run, "slow_increment")) == len(workers_of(run, "_fit_and_score")) == 2

    report = (run.folder / "report.md").read_text()
    assert "2 workers of 1 thread(s) on 1 machine with" in report
    assert all(f"- **{work}**: Dask " in report for work in WORKS)
    amdahl = pd.read_csv(run.folder / "amdahl.csv")
    assert amdahl["parallel_share"].between(0, 1).all()
    assert set(amdahl[amdahl["backend"] == "dask"]["work"]) == set(WORKS)


def test_without_a_cluster_the_process_and_loky_are_compared(tmp_path):
    folder = run_plainly("scaling", tmp_path / "plain", "--small", "--only", "slow_increment")
    assert {path.name for path in folder.iterdir()} == MADE
    table = pd.read_csv(folder / "benchmark.csv")
    assert "dask" not in set(table["backend"])
    assert "no cluster" in (folder / "report.md").read_text()
