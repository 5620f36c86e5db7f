"""The example notebook in the example's JupyterLab pod, with no more rights than that pod has; and the pod's end."""

import json
import time
from pathlib import Path

import pytest
from machine import slowdown

SESSION = Path(__file__).parents[3] / "examples" / "session"
MADE = "dtj,pods,services,secrets,configmaps,networkpolicies"
# What a session leaves running when it is killed: a cluster, and workers that sleep.
LAUNCH = """
import time
from dask_training import launch_cluster, workers
cluster = launch_cluster(n_workers=1, cpu=0.1, memory="512Mi")
workers.launch_workers(n=1, cpu=0.05, memory=0.2, code="import time; time.sleep(600)")
print("launched", flush=True)
time.sleep(600)
"""


@pytest.fixture
def made(kubectl):
    """Names of the objects in the test's namespace that a session may have made."""

    def made() -> set[str]:
        found = set(kubectl("get", MADE, "-o", "name").split())
        return {name for name in found if not name.endswith(("/jupyter", "/kube-root-ca.crt", "/dask-training-store"))}

    return made


def test_the_notebook_runs_in_the_pod_and_nothing_outlives_it(cluster, kubectl, apply, made, wait_for):
    said = apply((SESSION / "jupyter.yaml").read_text())
    assert "Warning" not in said
    kubectl("wait", "pod/jupyter", "--for=condition=Ready", "--timeout=150s", timeout=160)
    notebook = (SESSION / "session.ipynb").read_text()
    inside = ("exec", "-i", "jupyter", "-c", "jupyter", "--")
    kubectl(*inside, "sh", "-c", "cat > /work/session.ipynb", stdin=notebook)
    run = ("python", "-m", "nbconvert", "--to", "notebook", "--execute", "--stdout", "--log-level=ERROR")
    executed = json.loads(kubectl(*inside, *run, "/work/session.ipynb", timeout=240))
    printed = "".join(
        "".join(output.get("text", ())) for cell in executed["cells"] for output in cell.get("outputs", ())
    )
    for line in (
        "accuracy 0.97",
        "2 workers have ended well, 0 have failed",
        "hello from",
        "the master says: hello",
        "0 failures",
        "best of 4: C = 10.0",
    ):
        assert line in printed, printed
    assert "processes of this machine" not in printed
    wait_for(lambda: not made(), timeout=30)

    kubectl(*inside, "sh", "-c", "cat > /work/launch.py", stdin=LAUNCH)
    start = "nohup python /work/launch.py > /work/log 2>&1 & while ! grep -q launched /work/log; do sleep 0.2; done"
    kubectl(*inside, "timeout", "60", "sh", "-c", start, timeout=70)
    assert any("/jupyter" not in name for name in made())
    kubectl("delete", "pod", "jupyter", "--grace-period=0", "--force")
    killed = time.monotonic()
    wait_for(lambda: not made(), timeout=30)
    assert time.monotonic() - killed < 30 * slowdown()
