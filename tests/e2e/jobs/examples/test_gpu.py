"""The GPU example on a node that claims to have GPUs: its job file, with a script that says what workers were given."""

import json

import pytest
import yaml
from example_runs import job_file

GPU = "nvidia.com/gpu"
TAINT = f"{GPU}=present:NoSchedule"
SCRIPT = """
import dask_training

client = dask_training.client()
client.wait_for_workers(2)
workers = client.scheduler_info(n_workers=-1)["workers"].values()
client.gather(client.map(abs, range(-8, 0)))
dask_training.report(
    workers=len(workers),
    threads=sum(worker["nthreads"] for worker in workers),
    memory_limit=min(worker["memory_limit"] for worker in workers),
)
"""


class Node:
    """The cluster's one node."""

    def __init__(self, jobs) -> None:
        (node,) = jobs.api.items("/api/v1/nodes")
        self.name = node["metadata"]["name"]
        self._kubectl = jobs.kubectl

    def claim(self, gpus: int | None) -> None:
        """As a device plugin does; None: it has none."""
        amount = {GPU: None if gpus is None else str(gpus)}
        patch = json.dumps({"status": {"capacity": amount, "allocatable": amount}})
        self._kubectl("patch", "node", self.name, "--subresource=status", "--type=merge", "-p", patch)

    def taint(self) -> None:
        self._kubectl("taint", "node", self.name, TAINT, "--overwrite")

    def restore(self) -> None:
        self._kubectl("taint", "node", self.name, f"{TAINT}-", may_fail=True)
        self.claim(None)


@pytest.fixture
def node(jobs):
    """As it was before, whatever happens: with the taint left on it, nothing else would run."""
    found = Node(jobs)
    try:
        yield found
    finally:
        found.restore()


@pytest.mark.exclusive  # a taint keeps others' pods away
def test_a_job_waits_for_gpus_by_name_and_runs_where_there_are_some(jobs, node, wait_script):
    body = yaml.safe_load(job_file("gpu"))
    del body["spec"]["packages"]
    body["spec"]["runner"]["script"] = wait_script + SCRIPT
    jobs.apply(body)
    body = jobs.until("gpu", lambda body: f"Insufficient {GPU}" in body["status"].get("message", ""))
    assert (body["status"]["phase"], body["status"]["reason"]) == ("Starting", "Unschedulable")
    assert GPU in jobs.told("gpu", "Unschedulable")[0]["message"]

    node.taint()
    node.claim(2)
    jobs.start("elsewhere", "pass")
    runner = jobs.waiting("gpu")
    jobs.until("gpu", lambda body: body["status"]["workers"].get("ready") == 2)
    for pod in jobs.pods("gpu"):
        limits = pod["spec"]["containers"][0]["resources"].get("limits", {})
        is_worker = pod["metadata"]["labels"]["dask-training.io/role"] == "worker"
        assert limits.get(GPU) == ("1" if is_worker else None)
        assert any(each.get("key") == GPU for each in pod["spec"]["tolerations"])
    jobs.until("elsewhere", lambda body: "untolerated taint" in body["status"].get("message", ""))
    jobs.delete("elsewhere")
    jobs.release(runner)
    body = jobs.end("gpu")
    assert body["status"]["phase"] == "Succeeded", jobs.described(body)
    metrics = body["status"]["metrics"]
    assert (metrics["workers"], metrics["threads"]) == (2, 2)
    assert 3 * 2**30 < metrics["memory_limit"] <= 4 * 2**30
    jobs.nothing_left()
