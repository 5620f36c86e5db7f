"""Mode Workers: pods that run the code once each, without Dask, and what the job says of them."""

import time

import pytest
from machine import give_up_at

SMALL = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}


@pytest.fixture
def start(jobs, make_job):
    """Applies a group of small workers with this script."""

    def apply(name, script, *, replicas=2, **spec):
        body = make_job(name, script, workers={"replicas": replicas, "resources": SMALL}, mode="Workers", **spec)
        del body["spec"]["scheduler"], body["spec"]["runner"]["resources"]
        jobs.apply(body)
        return name

    return apply


def members(body):
    return body["status"].get("workers", {}).get("members", [])


def states(body):
    return [member["state"] for member in members(body)]


def test_each_worker_runs_the_code_and_its_end_is_told(jobs, start, wait_script):
    """Two print who they are, and one of them fails; beside them two that wait, of which one is stopped."""
    start(
        "ends",
        "import os, socket\n"
        "me = os.environ['CDSW_ENGINE_ID']\n"
        "print('I am', me, os.environ['CDSW_IP_ADDRESS'], os.environ['OMP_NUM_THREADS'], flush=True)\n"
        "if me.endswith('-1'):\n"
        "    raise SystemExit(3)\n"
        "open('/tmp/here', 'w').close()\n" + wait_script,
    )
    start("stopped", wait_script, ttlSecondsAfterFinished=0)
    body = jobs.until("ends", lambda body: states(body) == ["running", "failed"])
    first, second = (member["id"] for member in members(body))
    assert f"I am {first} {members(body)[0]['ip']} 1\n" in jobs.logged(first, "waiting")
    assert f"I am {second}" in jobs.log(second)
    line = jobs.kubectl("get", "dtj", "ends", "--no-headers").split()
    assert line[:5] == ["ends", "Running", "1/2", "1/2", "1"], line

    jobs.until("stopped", lambda body: states(body) == ["running", "running"])
    jobs.patch("stopped", {"workers": {"stopped": [1]}})
    body = jobs.until("stopped", lambda body: states(body) == ["running", "stopped"], timeout=5)
    refused = jobs.kubectl("scale", "dtj/stopped", "--replicas=3", may_fail=True)
    assert "can't be changed in mode Workers" in refused
    assert "must keep what it holds" in jobs.kubectl(
        "patch", "dtj", "stopped", "--type=merge", "-p", '{"spec":{"workers":{"stopped":[0]}}}', may_fail=True
    )
    jobs.release(members(body)[0]["id"])

    jobs.release(first)
    body = jobs.until("ends", lambda body: states(body) == ["succeeded", "failed"])
    assert "I am" in jobs.log(first), "its last lines can be read when its end is known"

    body = jobs.end("ends", 30)
    assert (body["status"]["phase"], body["status"]["reason"]) == ("Failed", "WorkersFailed"), jobs.described(body)
    said = "worker 1 failed (exit code 3): spec.runner.script called sys.exit(3)"
    assert body["status"]["message"] == f"1 of 2 workers failed.\n{said}"
    assert [(each["state"], each["exitCode"]) for each in members(body)] == [("succeeded", 0), ("failed", 3)]
    assert all(each["createdAt"] <= each["runningAt"] <= each["finishedAt"] for each in members(body))
    assert body["status"]["resourceSeconds"]["cpu"] > 0
    deadline = give_up_at(20)
    while jobs.find("stopped") is not None:  # its time to live is nothing
        assert time.monotonic() < deadline, jobs.described(jobs.get("stopped"))
        time.sleep(0.2)
    jobs.nothing_left()


def test_a_group_is_all_or_none_and_works_together(jobs, start):
    """The quota has room for two of three: none is left. Two find each other by name and by address."""
    jobs.quota(2)
    start("many", "import time; time.sleep(300)", replicas=3)
    body = jobs.end("many", 20)
    assert (body["status"]["phase"], body["status"]["reason"]) == ("Failed", "QuotaExceeded"), jobs.described(body)
    assert "exceeded quota: few" in body["status"]["message"]
    assert states(body) == ["failed"] * 3
    jobs.nothing_left("many")
    jobs.quota(2, used=0)

    start(
        "pair",
        "import os, socket, time\n"
        "me = os.environ['CDSW_ENGINE_ID']\n"
        "service = me.rsplit('-worker-', 1)[0]\n"
        "if me.endswith('-0'):\n"
        "    with socket.create_server(('0.0.0.0', 6000)) as server:\n"
        "        other, _ = server.accept()\n"
        "        print(other.makefile().readline())\n"
        "else:\n"
        "    deadline = time.monotonic() + 20\n"
        "    while True:\n"
        "        try:\n"
        "            other = socket.create_connection((f'{service}-worker-0.{service}', 6000), 5)\n"
        "            break\n"
        "        except OSError:\n"
        "            assert time.monotonic() < deadline\n"
        "            time.sleep(0.1)\n"
        "    other.sendall(b'hello\\n')\n",
    )
    body = jobs.end("pair", 40)
    assert (body["status"]["phase"], body["status"]["reason"]) == ("Succeeded", "Completed"), jobs.described(body)
    assert (states(body), body["status"]["message"]) == (["succeeded", "succeeded"], "2 succeeded")
    line = jobs.kubectl("get", "dtj", "pair", "--no-headers").split()
    assert line[:5] == ["pair", "Succeeded", "0/2", "2/2", "1"], line
    warnings = [event["reason"] for event in jobs.events("pair") if event["type"] == "Warning"]
    assert warnings == []
    jobs.nothing_left()
