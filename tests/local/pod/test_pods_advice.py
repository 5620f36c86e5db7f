"""Advice on a job in pods: in the runner's log, in its last word to the operator and in summary.json."""

import json

SCRIPT = """\
from joblib import Parallel, delayed
Parallel(n_jobs=-1)(delayed(abs)(n) for n in range(2000))
"""


def test_a_runner_in_a_pod_says_what_could_be_better(pods):
    attempt = pods(SCRIPT)
    runner = attempt.run(workers=2)
    assert runner.process.returncode == 0, runner.printed
    (advice,) = runner.termination.advice
    assert advice.rule == "tiny-tasks"
    assert f"[dask-training] advice: {advice.message} -> {advice.fix}\n" in runner.printed
    (kept,) = json.loads((attempt.kept() / "summary.json").read_text())["advice"]
    assert kept == {"rule": advice.rule, "message": advice.message, "fix": advice.fix}
