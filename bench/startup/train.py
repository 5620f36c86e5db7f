"""What every contender runs: a small forest on two workers; says when it comes to what."""
# ruff: noqa: E402 - what comes first says when the script began

import time


def say(stage: str, at: float | None = None) -> None:
    """One line that the benchmark reads: a stage, and when it was, in seconds since 1970."""
    print(f"bench-stage {stage} {time.time() if at is None else at:.6f}", flush=True)


say("script")

import joblib
from distributed import Client, get_task_stream
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier

say("imported")
try:
    client = Client.current()  # ours has connected already
except ValueError:
    client = Client()  # DASK_SCHEDULER_ADDRESS
say("connected")
client.wait_for_workers(2)
say("workers")
X, y = make_classification(2_000, 20, random_state=0)
with get_task_stream(client) as stream:
    say("fit")
    with joblib.parallel_config(backend="dask"):
        model = RandomForestClassifier(50, n_jobs=-1, random_state=0).fit(X, y)
    say("fitted")
spans = [span for task in stream.data for span in task["startstops"] if span["action"] == "compute"]
say("task", min(span["start"] for span in spans))
print(
    f"accuracy {model.score(X, y):.3f}; {len(spans)} tasks on {len({task['worker'] for task in stream.data})} workers"
)
say("done")
