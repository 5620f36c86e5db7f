"""`dask-training run` with a runner whose packages are not those of its workers."""

import json

import joblib


def test_a_runner_with_another_joblib_than_its_workers_is_warned_and_works(run_job, make_job, other_joblib):
    script = (
        "import joblib\n"
        "print(joblib.__version__, joblib.Parallel(n_jobs=-1)(joblib.delayed(pow)(n, 2) for n in range(4)))\n"
    )
    path = {"name": "PYTHONPATH", "value": str(other_joblib)}
    run = run_job(make_job({"runner": {"script": script, "env": [path]}}))
    assert run.exit_code == 0, run.output
    assert "1.5.3 [0, 1, 4, 9]" in run.output
    expected = (
        f"versions differ between runner and cluster: joblib is 1.5.3 in the runner, {joblib.__version__} in worker-0."
        " Results may differ, or not be readable."
        " All processes share this Python: see what spec.env and spec.runner.env put before it (PYTHONPATH)."
    )
    assert run.notices.splitlines().count(expected) == 1
    cluster = json.loads((run.folder / "environment.json").read_text())["cluster"]
    assert cluster["differences"] == expected
