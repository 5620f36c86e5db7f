"""The small extras as a user runs them, with the packages that they name."""

import pandas as pd
from example_runs import job_with_all_workers, script_files, workers_of


def test_optuna_ends_bad_trials_early_and_both_workers_train(run_job):
    run = run_job(
        job_with_all_workers("extras", "optuna.yaml"),
        options=("--", "--trials", "14"),
        timeout=170,
    )
    assert run.exit_code == 0, run.finished
    assert len(workers_of(run, "train")) == 2
    trials = pd.read_csv(run.folder / "trials.csv")
    states = trials["state"].value_counts()
    metrics = run.finished["metrics"]
    assert len(trials) == metrics["trials"] == 14
    # How many are ended early depends on which of them come first.
    assert states.get("PRUNED", 0) == metrics["pruned"]
    assert states["COMPLETE"] == 14 - metrics["pruned"] > 0
    assert 14 <= metrics["steps"] <= 14 * 9
    assert (metrics["steps"] < 14 * 9) == (metrics["pruned"] > 0)
    assert metrics["accuracy"] == trials.loc[trials["state"] == "COMPLETE", "value"].max() > 0.8
    assert "trials.csv" in script_files(run.kept())
