"""The commands on a cluster, whole: what is printed, where, and the exit code."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import click
import pexpect
import pytest
import yaml
from machine import give_up_at, slowdown

from dask_training.artifacts import ArtifactStore
from dask_training.cli.app import run_command_line
from dask_training.cli.cluster import DURATION
from dask_training.client import reader
from dask_training.runner.events import from_json

PROGRAM = Path(sys.executable).parent / "dask-training"
JOBS = "/apis/dask-training.io/v1alpha1/namespaces/default/dasktrainingjobs"
FILE = """\
apiVersion: dask-training.io/v1alpha1
kind: DaskTrainingJob
metadata: {name: flights}
spec: {runner: {script: "print(1)"}}
"""
STORED = {"url": "s3://artifacts-default/default/flights/u/1", "files": 3, "bytes": 2048, "manifestSHA256": "0" * 64}
DONE = {
    "phase": "Succeeded",
    "reason": "Completed",
    "message": "the code ran to its end",
    "attempt": 1,
    "startTime": "2026-01-01T10:00:00Z",
    "completionTime": "2026-01-01T10:00:10Z",
    "timings": {"starting": 1.5, "running": 8.0, "finalizing": 0.5, "total": 10.0},
    "metrics": {"accuracy": 0.93},
    "workers": {"desired": 2, "ready": 2, "summary": "2/2"},
    "progress": {"done": 40, "total": 40, "summary": "40/40"},
    "artifacts": STORED,
}
FAILED = {
    "phase": "Failed",
    "reason": "RunnerFailed",
    "message": "ValueError: no rows, line 7 of spec.runner.script",
    "attempt": 1,
    "attempts": [{"number": 1, "reason": "RunnerFailed", "exitCode": 3}],
    "startTime": "2026-01-01T10:00:00Z",
    "completionTime": "2026-01-01T10:01:00Z",
    "timings": {"total": 60.0},
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.yaml").write_text(FILE)
    (tmp_path / "train.py").write_text("import helper\nprint(helper.x)\n")
    (tmp_path / "helper.py").write_text("x = 1\n")
    return tmp_path


@pytest.fixture
def run(api, capfd):
    """Runs a command in this process: its exit code, standard output and standard error."""

    def command(*arguments: str) -> tuple[int, str, str]:
        code = run_command_line(arguments)
        out, err = capfd.readouterr()
        return code, out, err

    return command


def when_watched(api, action, *arguments, **options) -> None:
    """Do this once the command watches what it has found."""

    def watches() -> int:
        return sum(query.get("watch") == "true" for _, _, query, _ in list(api.requests))

    before = watches()

    def act() -> None:
        deadline = give_up_at(30)
        while watches() == before and time.monotonic() < deadline:
            time.sleep(0.01)
        action(*arguments, **options)

    threading.Thread(target=act, daemon=True).start()


def later(seconds: float, action, *arguments, **options) -> None:
    threading.Timer(seconds, lambda: action(*arguments, **options)).start()


# submit


def test_submit_says_what_it_has_done_and_how_to_go_on(run, api):
    assert run("submit", "job.yaml") == (
        0,
        "flights submitted (namespace default, context here)\n",
        "  follow it:  dask-training logs -f flights\n  its state:  dask-training get flights\n",
    )
    assert (JOBS, "flights") in api.objects
    assert run("submit", "job.yaml", "-n", "lab")[1:] == (
        "flights submitted (namespace lab, context here)\n",
        "  follow it:  dask-training logs -f flights -n lab\n  its state:  dask-training get flights -n lab\n",
    )


def test_submit_of_a_job_that_exists(run, api):
    api.job(phase="Succeeded")
    assert run("submit", "job.yaml") == (
        2,
        "",
        (
            "Error: there is a job flights in namespace default already (Succeeded): "
            "--replace deletes it first (its artifacts stay), or choose another name\n"
        ),
    )
    assert run("submit", "job.yaml", "--replace")[0] == 0


def test_submit_shows_what_is_wrong_here_and_there(run, api, folder):
    (folder / "bad.yaml").write_text(FILE.replace("runner", "runer"))
    code, out, err = run("submit", "bad.yaml")
    assert (code, out) == (65, "")
    assert "bad.yaml:4: spec.runer" in err
    assert api.requests == []
    api.invalid = [{"field": "spec.workers.replicas", "message": "Invalid value: 2: must be 1"}]
    assert run("submit", "job.yaml") == (
        65,
        "",
        "the cluster refuses flights: spec.workers.replicas: must be 1, got 2\n",
    )


def test_submit_dry_run_prints_what_would_be_sent_and_asks_no_cluster(run, api, folder):
    code, out, err = run(
        "submit", "train.py", "--workers", "3", "--cpu", "500m", "--memory", "1Gi", "--packages", "lightgbm",
        "--env", "A=1", "--image", "me/it:1", "--set", "spec.backoffLimit=2", "--dry-run", "--", "--trees", "5",
    )  # fmt: skip
    assert (code, err, api.requests) == (0, "", [])
    code_map, job = yaml.safe_load_all(out)
    name = code_map["metadata"]["name"]
    assert re.fullmatch("train-code-[0-9a-f]{6}", name)
    assert code_map["data"] == {"helper.py": "x = 1\n"}
    assert job == {
        "apiVersion": "dask-training.io/v1alpha1",
        "kind": "DaskTrainingJob",
        "metadata": {"name": "train"},
        "spec": {
            "runner": {"script": "import helper\nprint(helper.x)\n", "args": ["--trees", "5"]},
            "workers": {
                "replicas": 3,
                "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
            },
            "packages": ["lightgbm"],
            "env": [{"name": "A", "value": "1"}],
            "image": "me/it:1",
            "backoffLimit": 2,
            "code": {"configMap": {"name": name}},
        },
    }
    assert "    script: |\n      import helper\n" in out
    (folder / "printed.yaml").write_text(out)
    assert run("submit", "printed.yaml", "-n", "lab")[0] == 0


def test_options_override_a_job_file(run, api):
    assert run("submit", "job.yaml", "--workers", "5", "--env", "A=1", "--", "x")[0] == 0
    spec = api.objects[JOBS, "flights"]["spec"]
    assert (spec["workers"]["replicas"], spec["env"], spec["runner"]["args"]) == (
        5,
        [{"name": "A", "value": "1"}],
        ["x"],
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["job.yaml", "--json", "--quiet"], "--json and --quiet exclude each other"),
        (["job.yaml", "--quiet"], "--quiet is for --follow and --wait"),
        (["job.yaml", "--env", "A"], "--env A: write NAME=VALUE"),
        (["job.yaml", "--set", "backoffLimit=2"], "write spec.FIELD=VALUE"),
        (["job.yaml", "--set", "spec.backofLimit=2"], "spec has no field backofLimit; did you mean backoffLimit?"),
        (["job.yaml", "--set", "spec.env.name=x"], "env is a list; give it whole"),
        (["none.py"], "no such file: none.py"),
        (["job.yaml", "--workers", "-1"], "-1 is not in the range"),
    ],
)
def test_what_makes_no_sense_is_wrong_usage(run, api, arguments, said):
    code, out, err = run("submit", *arguments)
    assert (code, out, api.requests) == (2, "", [])
    assert said in err


def test_an_override_that_is_not_right_is_named(run, api):
    code, _, err = run("submit", "train.py", "--memory", "lots")
    assert code == 65
    assert "spec.workers.resources.requests.memory" in err
    assert api.requests == []


def test_code_that_does_not_fit_is_said_before_anything_is_sent(run, api, folder):
    (folder / "src").mkdir()
    (folder / "src" / "data.csv").write_bytes(b"1" * 2_000_000)
    code, _, err = run("submit", "job.yaml", "--code", "src")
    assert (code, api.requests) == (2, [])
    assert err.startswith("Error: src/data.csv has 1.9 MiB: code is sent as a ConfigMap, which holds 1 MiB at most.")


def test_what_code_brings_along_is_not_asked_for(run, folder):
    (folder / "src" / "deep").mkdir(parents=True)
    (folder / "src" / "deep" / "__init__.py").write_text("")
    (folder / "src" / "util.py").write_text("")
    (folder / "train.py").write_text("import deep\nimport util\nimport nowhere_to_be_found\n")
    code, out, err = run("submit", "train.py", "--code", "src", "--dry-run")
    said = "line 3 imports nowhere_to_be_found, which the runtime image lacks: --packages nowhere_to_be_found?"
    assert (code, err) == (0, f"note: {said}\n")
    code_map, job = yaml.safe_load_all(out)
    assert (set(code_map["data"]), set(code_map["binaryData"])) == ({"util.py"}, {"packages.zip"})
    assert job["spec"]["env"] == [{"name": "PYTHONPATH", "value": "/code/packages.zip"}]


def test_a_script_that_imports_a_folder_beside_it_says_what_to_do(run, folder):
    (folder / "lib").mkdir()
    (folder / "lib" / "__init__.py").write_text("")
    (folder / "train.py").write_text("import lib\n")
    code, _, err = run("submit", "train.py", "--dry-run")
    assert (code, err) == (
        2,
        "Error: train.py imports lib: send the folder that holds it along, with --code .\n",
    )


def test_following_shows_the_run_as_run_does_and_ends_with_its_code(run, api, log_script):
    def play() -> None:
        job = api.objects[JOBS, "flights"]
        api.logs["r"] = log_script("hello")
        api.status(phase="Starting", attempt=1, workers={"desired": 2, "ready": 0})
        time.sleep(0.3)
        api.pod("r", "runner", job, phase="Succeeded")
        api.status(phase="Running", workers={"ready": 2})
        time.sleep(0.3)
        api.status(**DONE)

    when_watched(api, play)
    code, out, err = run("submit", "job.yaml", "--follow")
    assert (code, out) == (0, "hello\n")
    assert [re.sub(r"^\d\d:\d\d:\d\d |(?<=took )[\d.]+(?= s)", "", line) for line in err.splitlines()] == [
        "flights submitted (namespace default, context here)",
        "Pending: waiting for the operator",
        "Starting (Pending took  s)",
        "workers: 0 of 2 ready",
        "Running (Starting took  s)",
        "workers: 2 of 2 ready",
        "",
        "flights: Succeeded in 10.0 s",
        "  Metrics    accuracy 0.93",
        "  Time       10.0 s (starting 1.5 s, running 8.0 s, finalizing 0.5 s)",
        "  Compute    40 tasks, 2 workers, 0 restarts",
        "  Artifacts  s3://artifacts-default/default/flights/u/1 (3 files, 2.0 KiB)",
        "  $ dask-training artifacts get flights results --cluster",
    ]


def test_waiting_and_json_have_the_jobs_exit_code(run, api):
    when_watched(api, api.status, **FAILED)
    code, out, err = run("submit", "job.yaml", "--wait", "--quiet")
    assert (code, out) == (3, "")
    assert err.splitlines()[0] == "flights: Failed (RunnerFailed) after 1 min 00 s, exit code 3"
    when_watched(api, api.status, **DONE)
    code, out, err = run("submit", "job.yaml", "--replace", "--follow", "--json")
    assert (code, err) == (0, "")
    events = [from_json(line) for line in out.splitlines()]
    assert events[-1].metrics == {"accuracy": 0.93}


def test_ctrl_c_leaves_the_job_running_and_says_how_to_come_back(api, folder):
    process = subprocess.Popen(
        [PROGRAM, "submit", "job.yaml", "--follow"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while (JOBS, "flights") not in api.objects:
        time.sleep(0.05)
    api.status(phase="Running", attempt=1)
    while not api.sent("GET", "/pods"):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10 * slowdown())
    assert (process.returncode, out) == (130, "")
    assert "Ctrl-C: flights runs on; come back with: dask-training logs -f flights\n" in err
    assert api.sent("DELETE") == []


def test_on_a_terminal_it_lives(api, folder, log_script):
    terminal = pexpect.spawn(str(PROGRAM), ["submit", "job.yaml", "-f"], encoding="utf-8", dimensions=(30, 100))
    terminal.expect("flights submitted", timeout=10 * slowdown())
    terminal.expect("Pending", timeout=10 * slowdown())
    api.status(phase="Running", attempt=1, workers={"desired": 2, "ready": 2})
    terminal.expect(r"Running .*2 of 2 workers", timeout=10 * slowdown())
    api.status(**DONE)
    terminal.expect("flights: Succeeded in 10.0 s", timeout=10 * slowdown())
    terminal.expect(pexpect.EOF, timeout=10 * slowdown())
    terminal.close()
    assert terminal.exitstatus == 0


# list, get


def test_list_has_kubectls_columns(run, api):
    assert run("list") == (0, "", "there is no job in namespace default, context here\n")
    api.job("flights", **DONE)
    api.job("new")
    api.job("other", namespace="lab", **FAILED)
    listed = (
        "NAME     PHASE      WORKERS  PROGRESS  ATTEMPT  AGE\n"
        "flights  Succeeded  2/2      40/40     1        Ts\n"
        "new                                             Ts\n"
    )
    code, out, err = run("list")
    assert (code, re.sub(r"\d+s", "Ts", out), err) == (0, listed, "")
    head, *rows = run("list", "-A", "--wide")[1].splitlines()
    assert head.split() == [
        "NAMESPACE", "NAME", "PHASE", "WORKERS", "PROGRESS", "ATTEMPT", "AGE", "REASON", "ARTIFACTS", "DASHBOARD"
    ]  # fmt: skip
    assert rows[0].split()[:3] + rows[0].split()[-2:] == ["default", "flights", "Succeeded", "Completed", STORED["url"]]
    assert rows[2].split() == ["lab", "other", "Failed", "1", rows[2].split()[4], "RunnerFailed"]
    assert [job["metadata"]["name"] for job in json.loads(run("list", "--json")[1])["items"]] == ["flights", "new"]


def test_get_says_what_goes_on(run, api):
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 90))
    condition = {"type": "ClusterReady", "status": "True", "reason": "Up", "message": "2 of 2 workers"}
    job = api.job(
        phase="Running",
        attempt=1,
        startTime=started,
        message="training",
        workers={"desired": 2, "ready": 1, "restarts": 3},
        progress={"done": 3, "total": 9, "summary": "3/9"},
        conditions=[condition | {"lastTransitionTime": started}],
    )
    api.pod("flights-1-runner", "runner", job)
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such host"}}
    api.pod("w0", "worker", job, index=0, phase="Pending", containerStatuses=[{"image": "x:1", "state": waiting}])
    event = {
        "metadata": {"name": "e", "namespace": "default"},
        "involvedObject": {"uid": job["metadata"]["uid"], "kind": "DaskTrainingJob", "name": "flights"},
        "type": "Normal",
        "reason": "Started",
        "message": "attempt 1",
        "lastTimestamp": started,
    }
    api.put("/api/v1/namespaces/default/events", event)
    code, out, err = run("get", "flights")
    assert (code, err) == (0, "")
    assert re.sub(r"\b(\d+s|1 min \d\d s)\b", "T", click.unstyle(out)).splitlines() == [
        "flights: Running for T",
        "  training",
        "",
        "  Namespace  default (here)",
        "  Created    T ago",
        "  Attempt    1 of 1 at most",
        "  Workers    1 of 2 ready, 3 restarts",
        "  Progress   3/9 tasks",
        "",
        "Conditions",
        "  ✓ ClusterReady            T ago  2 of 2 workers",
        "",
        "Pods",
        "  runner    running",
        "  worker-0  ImagePullBackOff: the image x:1 can't be pulled (no such host)",
        "",
        "Events",
        "     T ago  Started: attempt 1",
        "",
        "Next",
        "  $ dask-training logs -f flights",
    ]


@pytest.mark.parametrize(("status", "mark"), [("False", "!"), ("True", "✓")])
def test_get_marks_versions_that_differ(run, api, status, mark):
    said = {"reason": "X", "message": "joblib is 1.6.0 in the runner", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    api.job(phase="Running", attempt=1, conditions=[{"type": "VersionsMatch", "status": status, **said}])
    lines = [line.split() for line in click.unstyle(run("get", "flights")[1]).splitlines()]
    [found] = [line for line in lines if "VersionsMatch" in line]
    assert found[0] == mark
    assert " ".join(found).endswith("ago joblib is 1.6.0 in the runner")


@pytest.mark.parametrize(
    ("workers", "shown"),
    [
        ({"minReplicas": 2, "maxReplicas": 8}, "1 of 3 ready (adaptive, 2 to 8)"),
        ({"minReplicas": 2, "maxReplicas": 8, "adaptive": False}, "1 of 3 ready"),
        ({"minReplicas": 8, "maxReplicas": 8}, "1 of 3 ready"),
    ],
)
def test_get_says_between_what_the_number_of_workers_moves(run, api, workers, shown):
    api.job(phase="Running", attempt=1, workers={"desired": 3, "ready": 1})
    api.objects[JOBS, "flights"]["spec"]["workers"] = workers
    lines = click.unstyle(run("get", "flights")[1]).splitlines()
    assert [line.strip() for line in lines if "Workers" in line] == [f"Workers    {shown}"]


def test_get_shows_what_could_be_better(run, api):
    message = "the script ran for 100 s, and 4 workers had nothing to do"
    fix = (
        "give the estimator or search n_jobs=-1 and name no other joblib backend; if nothing in it can run in parallel"
    )
    api.job(**DONE, advice=[{"rule": "nothing-on-workers", "message": message, "fix": fix}])
    lines = click.unstyle(run("get", "flights")[1]).splitlines()
    at = lines.index("Advice")
    assert lines[at + 1] == f"  {message}"
    assert lines[at + 2 : at + 4] == [f"  -> {fix.removesuffix(' run in parallel')}", "     run in parallel"]


def test_get_of_a_failed_job_leads_to_its_logs(run, api):
    api.job(**FAILED)
    _, out, _ = run("get", "flights", "-n", "default")
    lines = click.unstyle(out).splitlines()
    assert lines[0].startswith("flights: Failed (RunnerFailed, exit code 3) after 1 min 00 s, ")
    assert lines[1] == "  ValueError: no rows, line 7 of spec.runner.script"
    assert lines[-1] == "  $ dask-training logs flights -n default"
    assert yaml.safe_load(run("get", "flights", "--yaml")[1]) == json.loads(run("get", "flights", "--json")[1])


def test_get_of_a_job_that_no_operator_looks_at(run, api):
    job = api.job()
    api.objects[JOBS, "flights"]["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    assert job["metadata"]["name"] == "flights"
    _, _, err = run("get", "flights")
    assert err.startswith("note: no operator seems to watch namespace default: the job has no status after 10 s.\n")


def test_get_shows_what_it_may(run, api):
    api.job(phase="Running")
    message = 'User "a" cannot list resource "pods" in API group "" in the namespace "default"'
    api.faults.append(("GET", "/pods", 403, {"reason": "Forbidden", "message": message}))
    code, out, err = run("get", "flights")
    assert code == 0
    assert "flights: Running" in click.unstyle(out)
    assert err.startswith("note: its pods can't be shown: you may not list pods in namespace default")


# logs


@pytest.fixture
def pods(api, log_script):
    job = api.job(phase="Running", attempt=1)
    for name, role, index in (
        ("r", "runner", None),
        ("s", "scheduler", None),
        ("w0", "worker", 0),
        ("w1", "worker", 1),
    ):
        api.pod(name, role, job, index=index, phase="Succeeded")
        api.logs[name] = log_script(f"{name} one", f"{name} two")
    return job


def test_logs_are_the_runners_unless_another_is_asked_for(run, api, pods):
    assert run("logs", "flights") == (0, "r one\nr two\n", "")
    assert run("logs", "flights", "--role", "scheduler") == (0, "s one\ns two\n", "")
    assert run("logs", "flights", "--worker", "1", "--tail", "1") == (0, "w1 two\n", "")
    assert (
        run("logs", "flights", "--worker", "1", "--json", "--tail", "1")[1] == '{"pod": "worker-1", "line": "w1 two"}\n'
    )
    assert run("logs", "flights", "--all") == (
        0,
        (
            "runner    | r one\nrunner    | r two\nscheduler | s one\nscheduler | s two\n"
            "worker-0  | w0 one\nworker-0  | w0 two\nworker-1  | w1 one\nworker-1  | w1 two\n"
        ),
        "",
    )
    assert run("logs", "flights", "--role", "worker")[1].splitlines()[0] == "worker-0  | w0 one"


def test_logs_follow_all_pods_to_the_end(run, api, pods):
    later(1.0, api.status, **DONE)
    code, out, err = run("logs", "flights", "--all", "-f")
    assert (code, err) == (0, "")
    assert sorted(out.splitlines()) == sorted(run("logs", "flights", "--all")[1].splitlines())


def test_logs_of_a_job_that_has_not_begun(run, api):
    api.job(phase="Pending", message="quota exceeded")
    assert run("logs", "flights") == (0, "", "flights has printed nothing yet (Pending: quota exceeded)\n")
    assert run("logs", "flights", "--attempt", "3")[0] == 2
    assert "--all goes without --role and --worker" in run("logs", "flights", "--all", "--worker", "1")[2]


@pytest.fixture
def stored(api, folder, monkeypatch):
    """A finished job whose artifacts lie in a folder that takes the reader pod's place."""
    job = api.job(**DONE)
    source = folder / "source"
    for name, text in {"model.txt": "m", "logs/runner.log": "one\ntwo\n", "logs/worker-0.log": "w\n"}.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    store = ArtifactStore.from_url(str(folder / "bucket"))
    for attempt in (1, 2):
        prefix = reader.run_prefix(job, attempt)
        store.store(source, prefix=prefix, size_limit_bytes=None, info={"phase": "Succeeded"})
    api.status(attempt=2)
    opened = []

    def open_store(connection, body, say=None):
        opened.append(body["metadata"]["name"])
        return ArtifactStore.from_url(str(folder / "bucket"))

    monkeypatch.setattr(reader, "open_store", open_store)
    return opened


def test_logs_of_pods_that_are_gone_are_the_stored_ones(run, stored):
    gone = "the pods are gone; reading the stored logs …\n"
    assert run("logs", "flights") == (0, "one\ntwo\n", gone)
    assert run("logs", "flights", "-f", "--tail", "1") == (0, "two\n", gone)
    assert run("logs", "flights", "--all") == (
        0,
        "runner    | one\nrunner    | two\nworker-0  | w\n",
        gone,
    )
    assert run("logs", "flights", "--worker", "7") == (
        2,
        "",
        f"{gone}Error: no such log was stored; there are: runner, worker-0\n",
    )


# wait, scale, suspend, resume, delete


def test_wait(run, api):
    api.job(phase="Running")
    assert run("wait", "flights", "--timeout", "0.2s") == (
        124,
        "",
        "Error: flights is Running, not Failed or Succeeded, after 0.2 s\n",
    )
    assert run("wait", "flights", "--for", "running") == (0, "", "flights: Running\n")
    later(0.3, api.status, **FAILED)
    assert run("wait", "flights", "--timeout", "5m") == (
        3,
        "",
        "flights: Failed (RunnerFailed): ValueError: no rows, line 7 of spec.runner.script\n",
    )
    when_watched(api, api.remove, JOBS, "flights")
    assert run("wait", "flights", "--for", "deleted", "--timeout", "5m") == (0, "", "flights is gone\n")


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("0.5s", 0.5)])
def test_durations_are_kubectls(text, seconds):
    assert DURATION.convert(text, None, None) == seconds


def test_durations_that_are_none():
    with pytest.raises(click.BadParameter, match="is no duration"):
        DURATION.convert("soon", None, None)


def test_changing_a_job(run, api):
    api.job(phase="Running")
    assert run("scale", "flights", "5") == (0, "flights has 5 workers now (before: 2)\n", "")
    said = "flights is being suspended; go on with: dask-training resume flights\n"
    assert run("suspend", "flights") == (0, said, "")
    assert run("resume", "flights") == (0, "flights resumed\n", "")
    assert run("resume", "flights") == (0, "flights is not suspended (Running)\n", "")
    api.status(phase="Succeeded")
    code, _, err = run("scale", "flights", "1")
    assert code == 2
    assert "flights has ended (Succeeded): nothing of it runs any more" in click.unstyle(err)
    code, out, err = run("delete", "fligths", "flights")
    assert (code, out) == (2, "flights deleted\n")
    assert "did you mean flights?" in err


# artifacts


def test_artifacts_of_a_job_on_the_cluster(run, stored, folder):
    code, out, err = run("artifacts", "get", "flights", "results")
    assert (code, err) == (0, "reading flights from the cluster (namespace default, context here) …\n")
    assert re.fullmatch(r"3 files \(11 B\) of bucket/default/flights/uid-\d+/2 in results\n", out)
    assert (folder / "results" / "model.txt").read_text() == "m"
    assert run("artifacts", "verify", "flights/1")[0] == 0
    rows = [line.split() for line in run("artifacts", "ls", "flights")[1].splitlines()]
    assert [row[0] for row in rows] == ["RUN", "flights/1", "flights/2"]
    files = [line.split()[-1] for line in run("artifacts", "ls", "flights/2")[1].splitlines()]
    assert files == ["logs/runner.log", "logs/worker-0.log", "model.txt"]


def test_what_is_here_comes_first_unless_the_cluster_is_asked_for(run, stored, folder):
    local = ArtifactStore.from_url(str(folder / "artifacts"))
    (folder / "own").mkdir()
    (folder / "own" / "here.txt").write_text("here")
    local.store(folder / "own", prefix="flights/20260101-000000-aaaa", size_limit_bytes=None)
    assert run("artifacts", "get", "flights", "a")[1].endswith("artifacts/flights/20260101-000000-aaaa in a\n")
    assert stored == []
    for option in (["--cluster"], ["-n", "default"], ["--context", "here"]):
        assert run("artifacts", "get", "flights", "b", *option)[0] == 0
    assert len(stored) == 3


def test_what_is_nowhere_says_where_it_was_looked_for(run, api, stored, monkeypatch):
    nowhere = "there is neither a run fligths below artifacts nor a folder fligths"
    assert run("artifacts", "get", "fligths", "out") == (
        2,
        "",
        (
            f"Error: {nowhere};\non the cluster: there is no job fligths in namespace default (context here); "
            "did you mean flights?\n"
        ),
    )
    api.installed = False
    assert f"Error: {nowhere};\non the cluster it could not be looked for: " in run("artifacts", "ls", "fligths")[2]
    monkeypatch.setenv("KUBECONFIG", "none")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert run("artifacts", "ls", "fligths")[2] == f"Error: {nowhere}\n"


def test_artifacts_ls_of_the_cluster_needs_no_pod(run, api, stored):
    api.job("new", phase="Running")
    assert run("artifacts", "ls", "--cluster") == (
        0,
        "JOB      ATTEMPT  RESULT     FILES     SIZE\nflights  2        Succeeded      3  2.0 KiB\n",
        "",
    )
    assert json.loads(run("artifacts", "ls", "--cluster", "--json")[1])["jobs"][0]["job"] == "flights"
    assert stored == []
    assert run("artifacts", "get", "new", "out") == (2, "", "Error: new has kept nothing yet: it is Running\n")


# Completion and failures.


def test_names_of_jobs_are_completed_from_the_cluster(api, folder, monkeypatch):
    api.job("flights")
    api.job("frogs", namespace="lab")

    def completed(words: str, index: int) -> list[str]:
        environment = {"_DASK_TRAINING_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(index)}
        environment = os.environ | environment
        done = subprocess.run([PROGRAM], env=environment, capture_output=True, text=True, timeout=30, check=True)
        assert done.stderr == ""
        return [line.partition(",")[2] for line in done.stdout.splitlines() if line]

    def completed_soon(words: str, index: int) -> list[str]:
        """Who does not answer within 1.5 s is not waited for."""
        deadline = give_up_at(10)
        while not (found := completed(words, index)) and time.monotonic() < deadline:
            pass
        return found

    assert completed_soon("dask-training logs f", 2) == ["flights"]
    assert completed_soon("dask-training get -n lab f", 4) == ["frogs"]
    assert completed("dask-training delete flights f", 3) == []
    api.close()
    assert completed("dask-training logs f", 2) == []


def test_a_cluster_that_is_not_there_is_two_lines(run, api):
    api.close()
    code, out, err = run("list")
    assert (code, out) == (75, "")
    assert re.fullmatch(
        r"Error: the cluster can't be reached at http://127\.0\.0\.1:\d+ \(context here\): .*refused\n"
        r"Is it running, and is this the context you mean\? kubectl config get-contexts\n",
        err,
    )


def test_what_may_not_be_done_has_its_own_exit_code(run, api):
    message = 'User "a" cannot list resource "dasktrainingjobs" in API group "x" in the namespace "default"'
    api.faults.append(("GET", "dasktrainingjobs", 403, {"reason": "Forbidden", "message": message}))
    assert run("list")[0] == 77
