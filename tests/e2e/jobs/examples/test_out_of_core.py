"""Data beyond memory in pods of 512 MiB: the kernel kills none of them, and adaptive workers come as there is work."""

import json

from example_runs import MADE, script_files


def test_pods_of_512_mib_learn_from_data_beyond_their_memory(jobs, train, fetch, runtime_ml):
    body = train("out-of-core", "--small", image=runtime_ml)
    metrics, workers = body["status"]["metrics"], body["status"]["workers"]
    assert workers.get("restarts", 0) == workers.get("lost", 0) == 0
    assert not [event for event in jobs.events("out-of-core") if "OOM" in event["reason"]]
    assert metrics["worker_limit_mib"] == 512
    assert 0 < metrics["peak_worker_mib"] < 512
    assert metrics["peak_spilled_mib"] > 0, "all of it was in memory"
    assert 1 <= metrics["most_workers"] <= 3
    kept = fetch("out-of-core")
    assert {path for path in script_files(kept.files) if not path.startswith("logs/")} == MADE["out-of-core"]
    found = json.loads((kept.folder / "hyperband.json").read_text())
    assert (found["models"], found["partial_fit_calls"]) == (17, 69)
    # The same data and the same models as anywhere else, to the last digits.
    assert 0.7 < metrics["baseline_roc_auc"] < metrics["roc_auc"] < 0.9
    jobs.nothing_left()
