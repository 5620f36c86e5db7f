"""The workers API in a session's pod: hello, master and workers, a quota, stopping, and the end with the pod."""

from __future__ import annotations

import json

import pytest

RESULT = "RESULT "
SESSION = """\
import json, os, pathlib, socket, sys, time
os.makedirs("/tmp/churn/lib")
os.chdir("/tmp/churn")
pathlib.Path("lib/__init__.py").write_text("NAME = 'the project'\\n")
pathlib.Path("worker.py").write_text('''
import os, socket
from lib import NAME
with socket.create_connection((os.environ["CDSW_MASTER_IP"], 6000), timeout=60) as server:
    server.sendall(f"Hello from {os.environ['CDSW_ENGINE_ID']} of {NAME}".encode())
    print(server.recv(200).decode())
''')
import dask_training.cml
import cdsw

def say(name, value):
    sys.stdout.write("RESULT " + json.dumps([name, value]) + "\\n")  # at once: workers' lines come in between

code = '''
        import os
        print("hello from", os.environ["CDSW_ENGINE_ID"], os.environ["CDSW_IP_ADDRESS"], os.environ["OMP_NUM_THREADS"])
'''
hello = cdsw.launch_workers(n=2, cpu=0.01, memory=0.125, code=code)
say("launched", hello)
say("hello", cdsw.await_workers(hello, timeout_seconds=60))

with socket.create_server(("0.0.0.0", 6000)) as server:
    echo = cdsw.launch_workers(2, cpu=0.01, memory=0.125, script="worker.py")
    for _ in echo:
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"echo: " + connection.recv(200))
say("echo", cdsw.await_workers(echo, timeout_seconds=60))

say("refused", cdsw.launch_workers(n=6, cpu=0.01, memory=0.125, code="print('never')"))

for _ in range(10):  # the quota counts pods that are gone for a moment longer
    steady = cdsw.launch_workers(n=2, cpu=0.01, memory=0.125, code="!echo shell in $CDSW_PROJECT; exec sleep 600")
    if "id" in steady[0]:
        break
    time.sleep(0.5)
say("ready", cdsw.await_workers(steady, wait_for_completion=False, timeout_seconds=60))
say("stopped", repr(cdsw.stop_workers(steady[0]["id"])))
failing = cdsw.launch_workers(n=1, cpu=0.01, memory=0.125, code="raise ValueError('no rows left')")
say("failed", cdsw.await_workers(failing, timeout_seconds=60)["failures"])
say("listed", cdsw.list_workers())
time.sleep(3600)
"""


@pytest.fixture
def quota(apply):
    apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}, "spec": {"hard": {"pods": "5"}}})


def test_the_workers_api_in_a_sessions_pod(quota, start_session, kubectl, left, wait_for):
    pod = start_session(SESSION)

    def said() -> str:
        return kubectl("logs", pod, check=False)

    wait_for(lambda: f'{RESULT}["listed"' in said() or "Traceback" in said().replace("] Traceback", ""), timeout=120)
    log = said()
    results = dict(json.loads(line.removeprefix(RESULT)) for line in log.splitlines() if line.startswith(RESULT))
    assert "listed" in results, log

    def lines(worker: dict) -> list[str]:
        label = f"{worker['id'].rsplit('-', 4)[0]}-{worker['id'].rpartition('-')[2]}"
        mark = f"[{label}] "
        return [line.removeprefix(mark) for line in log.splitlines() if line.startswith(mark)]

    addresses = {each["id"]: each["ip_address"] for each in results["hello"]["workers"]}
    assert all(each["ip_address"] in ("unknown", addresses[each["id"]]) for each in results["launched"])
    for worker in results["hello"]["workers"]:
        assert lines(worker) == [f"hello from {worker['id']} {worker['ip_address']} 1"]
    assert len({each["id"] for each in results["hello"]["workers"]}) == 2
    for worker in results["echo"]["workers"]:
        assert lines(worker) == [f"echo: Hello from {worker['id']} of the project"]
    assert len(results["echo"]["workers"]) == 2

    assert len(results["refused"]) == 6
    assert all("id" not in each and each["engineId"] for each in results["refused"])
    assert "exceeded quota: small" in results["refused"][0]["k8sMessage"]
    assert "never" not in [line.partition("] ")[2] for line in log.splitlines()]

    assert [each["status"] for each in results["ready"]["workers"]] == ["running", "running"]
    assert results["stopped"] == "[<Response [204]>]"
    (failed,) = results["failed"]
    assert lines(failed)[-1] == "ValueError: no rows left"
    assert failed["exit_code"] == 1
    assert "ValueError: no rows left" in failed["message"]
    states = [each["status"] for each in results["listed"]]
    assert states == ["succeeded"] * 4 + ["stopped", "running", "failed"]
    assert lines(results["ready"]["workers"][1]) == ["shell in churn"]

    kubectl("delete", "resourcequota", "small")
    kubectl("delete", "pod", pod, "--grace-period=0", "--force")
    wait_for(lambda: not left(), timeout=60)
