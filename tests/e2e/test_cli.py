"""`dask-training` against a cluster, as a user on a laptop has it: a kubeconfig and nothing else."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from machine import give_up_at, slowdown

from dask_training.artifacts import ArtifactStore

PROGRAM = Path(sys.executable).parent / "dask-training"
SMALL = ("--workers", "1", "--cpu", "10m", "--memory", "512Mi", "--set", "spec.scheduler.dashboard=false")
TRAIN = """\
import os, pathlib, sys, time
import joblib
import dask_training
import helper
from package.inner import VALUE

while not pathlib.Path("/tmp/go").exists():
    time.sleep(0.05)
squares = joblib.Parallel()(joblib.delayed(helper.square)(n) for n in range(8))
print("sum", sum(squares), VALUE, *sys.argv[1:], flush=True)
dask_training.report(total=sum(squares))
(pathlib.Path(os.environ["ARTIFACTS_DIR"]) / "model.bin").write_bytes(os.urandom(3_000_000))
"""
# Goes on when the test says so.
WAIT = """\
import pathlib, time
for number in range(2000):
    print("line", number, flush=True)
    if pathlib.Path("/tmp/go").exists():
        break
    time.sleep(0.1)
print("done", flush=True)
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "wait.py").write_text(WAIT)
    (tmp_path / "fail.py").write_text("print('before')\nraise ValueError('no rows')\n")
    (tmp_path / "src" / "package").mkdir(parents=True)
    (tmp_path / "src" / "helper.py").write_text("def square(n):\n    return n * n\n")
    (tmp_path / "src" / "package" / "__init__.py").write_text("")
    (tmp_path / "src" / "package" / "inner.py").write_text("VALUE = 'packed'\n")
    return tmp_path


@pytest.fixture
def environment(cluster) -> dict[str, str]:
    return os.environ | {"KUBECONFIG": str(cluster.kubeconfig)}


@pytest.fixture
def run(environment, namespace, folder):
    """Runs a command in the test's namespace: its exit code, standard output and standard error."""

    def command(*arguments: str, timeout: float = 150) -> tuple[int, str, str]:
        words = [PROGRAM, arguments[0], *arguments[1:]]
        # Options belong before a --.
        at = words.index("--") if "--" in words else len(words)
        words[at:at] = ["-n", namespace]
        done = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        return done.returncode, done.stdout, done.stderr

    return command


@pytest.fixture
def waiting(run, wait_for, kubectl, job_status):
    """A job that runs until its release, and the function that releases it."""
    code, _, err = run("submit", "wait.py", *SMALL)
    assert code == 0, err
    assert run("wait", "wait", "--for", "running", "--timeout", "120s")[0] == 0
    runner = "dask-training.io/role=runner"

    def release() -> None:
        name = kubectl("get", "pods", "-l", runner, "-o", "name").strip()
        kubectl("exec", name, "--", "touch", "/tmp/go")

    return release


def test_a_script_is_sent_followed_and_its_artifacts_fetched(run, kubectl, folder, namespace, wait_for):
    with ThreadPoolExecutor(1) as pool:
        arguments = ("train.py", "--code", "src", *SMALL, "--follow", "--", "--trees", "5")
        followed = pool.submit(run, "submit", *arguments)
        phases = ("get", "dtj", "-o", "jsonpath={.items[*].status.phase}")
        wait_for(lambda: followed.done() or kubectl(*phases) == "Running", timeout=90)
        if not followed.done():
            runner = kubectl("get", "pods", "-l", "dask-training.io/role=runner", "-o", "name").strip()
            kubectl("exec", runner, "--", "touch", "/tmp/go")
        code, out, err = followed.result()
    assert (code, out) == (0, "sum 140 packed --trees 5\n"), err
    assert re.search(r"\d\d:\d\d:\d\d Running \(Starting took [\d.]+ s\)", err)
    assert "train: Succeeded in " in err
    assert "  Metrics    total 140\n" in err
    assert f"  $ dask-training artifacts get train results -n {namespace}\n" in err

    # The pods are gone; what they printed is not.
    assert json.loads(kubectl("get", "pods", "-o", "json"))["items"] == []
    code, out, err = run("logs", "train")
    assert (code, err) == (0, "the pods are gone; reading the stored logs …\n")
    assert out.splitlines() == ["sum 140 packed --trees 5"]

    code, out, err = run("artifacts", "get", "train", "results")
    assert code == 0, err
    assert "files (" in out
    assert (folder / "results" / "model.bin").stat().st_size == 3_000_000
    assert ArtifactStore.from_url(str(folder)).verify("results") == []
    assert run("artifacts", "verify", "train")[0] == 0
    assert "model.bin" in run("artifacts", "ls", "train/1")[1]
    # No pod that read them is left.
    assert json.loads(kubectl("get", "pods", "-o", "json"))["items"] == []

    # The packed code goes with its job.
    assert len(json.loads(kubectl("get", "configmaps", "-l", "dask-training.io/job=train", "-o", "json"))["items"]) == 1
    assert run("delete", "train", "--wait") == (0, "train deleted\n", "")
    deadline = give_up_at(60)
    while json.loads(kubectl("get", "configmaps", "-l", "dask-training.io/job=train", "-o", "json"))["items"]:
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_a_script_that_fails_gives_its_exit_code_and_says_why(run):
    code, out, err = run("submit", "fail.py", *SMALL, "--follow")
    assert code == 1
    assert "before" in out.splitlines()
    assert "ValueError: no rows" in out
    assert "fail: Failed (RunnerFailed) after " in err
    code, out, _ = run("get", "fail")
    assert code == 0
    assert "fail: Failed (RunnerFailed, exit code 1)" in out
    assert "ValueError: no rows" in out
    assert run("wait", "fail")[0] == 1
    assert run("submit", "fail.py", *SMALL)[0] == 2
    assert run("submit", "fail.py", *SMALL, "--replace", "--wait", "--quiet")[0] == 1


def test_logs_are_followed_live_by_several_at_once(run, waiting, environment, namespace, folder):
    one = [PROGRAM, "logs", "wait", "-f", "-n", namespace]
    with (
        subprocess.Popen(one, env=environment, stdout=subprocess.PIPE, text=True) as follower,
        subprocess.Popen([*one, "--all"], env=environment, stdout=subprocess.PIPE, text=True) as everything,
    ):
        assert [follower.stdout.readline() for _ in range(2)] == ["line 0\n", "line 1\n"]
        code, out, _ = run("logs", "wait", "--tail", "2")
        assert (code, len(out.splitlines())) == (0, 2)
        waiting()
        out = follower.stdout.read()  # not communicate(): that passes over what readline() has read ahead
        numbers = [int(line.split()[1]) for line in out.splitlines() if line.startswith("line ")]
        assert numbers == list(range(2, len(numbers) + 2))
        assert "done" in out.splitlines()
        out = everything.stdout.read()
    assert (follower.returncode, everything.returncode) == (0, 0)
    assert {line.split(" | ")[0].strip() for line in out.splitlines()} >= {"runner", "scheduler", "worker-0"}
    assert "runner    | done" in out.splitlines()


def test_ctrl_c_leaves_the_job_running(run, environment, namespace, folder, wait_for):
    command = [PROGRAM, "submit", "wait.py", *SMALL, "--follow", "-n", namespace]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "line 0\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20 * slowdown())
    assert process.returncode == 130
    assert f"wait runs on; come back with: dask-training logs -f wait -n {namespace}" in err
    assert "  runner" in run("get", "wait")[1]
    wait_for(lambda: json.loads(run("list", "--json")[1])["items"][0]["status"]["phase"] == "Running", timeout=30)


def test_scaling_suspending_and_resuming(run, waiting, wait_for, kubectl, job_status):
    workers = "dask-training.io/role=worker"
    code, out, err = run("scale", "wait", "2")
    assert (code, out) == (0, "wait has 2 workers now (before: 1)\n"), err
    wait_for(lambda: job_status("wait").get("workers", {}).get("ready") == 2, timeout=90)
    assert run("suspend", "wait")[0] == 0
    assert run("wait", "wait", "--for", "suspended", "--timeout", "90s")[0] == 0
    wait_for(lambda: not kubectl("get", "pods", "-l", workers, "-o", "name").strip(), timeout=60)
    assert "$ dask-training resume wait" in run("get", "wait")[1]
    assert run("resume", "wait")[:2] == (0, "wait resumed\n")
    assert run("wait", "wait", "--for", "running", "--timeout", "120s")[0] == 0
    assert run("delete", "wait", "--wait")[:2] == (0, "wait deleted\n")
    assert kubectl("get", "pods", "-o", "name").strip() == ""
    code, _, err = run("get", "wait")
    assert code == 2
    assert "there is no job wait in namespace" in err


def test_what_the_cluster_refuses_is_said_before_anything_is_made(run, folder, kubectl):
    (folder / "job.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: mine}\ndata: {a: b}\n---\n"
        "apiVersion: dask-training.io/v1alpha1\nkind: DaskTrainingJob\nmetadata: {name: refused}\n"
        "spec: {runner: {script: 'print(1)'}}\n---\n"
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Wrong_Name}\ndata: {a: b}\n"
    )
    code, out, err = run("submit", "job.yaml")
    assert (code, out) == (65, "")
    assert "the cluster refuses ConfigMap Wrong_Name: metadata.name: " in err
    assert "mine" not in kubectl("get", "configmaps", "-o", "name")
    assert run("list")[1] == ""
