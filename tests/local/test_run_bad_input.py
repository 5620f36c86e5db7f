"""What bad input gets: one clear message, the right exit code, logs kept, nothing left (the fixture sees to that)."""

import http.server
import json
import math
import os
import signal
import subprocess
import threading
import time

import pytest
from machine import give_up_at, slowdown

LOGS = {"logs/runner.log", "logs/scheduler.log", "logs/worker-0.log"}
RECORDS = {"metrics.json", "summary.json", "environment.json", "performance_report.html", "profile.html"}


def test_invalid_yaml_names_line_and_column(run_job):
    run = run_job("kind: DaskTrainingJob\nspec:\n\trunner: {}\n")
    assert run.exit_code == 65
    assert run.finished["reason"] == "ValidationFailed"
    assert run.finished["message"] == "standard input:3: invalid YAML at column 1: a tab; indent with spaces"
    assert run.stderr == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "DaskJob"}, "DaskTrainingJob"),
        ({"apiVersion": "dask-training.io/v1"}, "apiVersion: must be dask-training.io/v1alpha1, got"),
        ({"spec": {"runner": {"script": "1"}, "wrokers": {}}}, "unknown field 'wrokers'; did you mean 'workers'?"),
        (
            {"spec": {"runner": {"script": "1"}, "workers": {"replicas": "two"}}},
            "spec.workers.replicas: must be a whole",
        ),
        ({"spec": {"runner": {"script": "print('a'\n"}}}, "spec.runner.script"),
        (
            {"spec": {"runner": {"scriptFrom": {"configMap": {"name": "gone", "key": "a.py"}}}}},
            "there is no ConfigMap 'gone' in this file",
        ),
        ({"spec": {"mode": "Session"}}, "needs Kubernetes"),
    ],
    ids=["kind", "version", "unknown-field", "type", "does-not-parse", "no-such-script", "mode"],
)
def test_a_bad_job_file_is_refused_before_anything_starts(run_job, make_job, change, message):
    run = run_job({**make_job(script="1"), **change})
    assert run.exit_code == 65, run.finished
    assert [event["type"] for event in run.events] == ["finished"]
    assert message in run.finished["message"]
    assert run.stderr == ""


def test_a_script_that_raises_shows_its_own_traceback_and_line(run_job, make_job):
    script = "def learn(x):\n    raise ValueError(f'bad {x}')\n\nlearn('rows')\n"
    run = run_job(make_job(script=script))
    assert run.exit_code == 1
    assert run.finished["reason"] == "RunnerFailed"
    assert run.finished["message"] == "ValueError: bad rows, line 2 of spec.runner.script"
    trace = [line for line in run.output.splitlines() if line.startswith("  File")]
    assert [line.partition(", line ")[2] for line in trace] == ["4, in <module>", "2, in learn"]
    assert run.kept() >= LOGS | RECORDS
    assert "ValueError: bad rows" in (run.folder / "logs" / "runner.log").read_text()


def test_an_exception_in_a_task_arrives_as_itself(run_job, make_job):
    script = "from joblib import Parallel, delayed\nParallel()(delayed(int)(text) for text in ['1', 'x'])\n"
    run = run_job(make_job(script=script))
    assert run.exit_code == 1
    assert run.finished["message"].startswith("ValueError: invalid literal for int() with base 10: 'x', line 2 of")


def test_a_missing_module_comes_with_what_to_do(run_job, make_job):
    run = run_job(make_job(script="import no_such_module_at_all\n"))
    assert run.exit_code == 1
    assert "Add the package that has it to spec.packages" in run.finished["message"]


@pytest.mark.parametrize(
    ("statement", "code", "reason", "message"),
    [
        ("import sys; sys.exit(3)", 3, "RunnerFailed", "spec.runner.script called sys.exit(3)"),
        ("import sys; sys.exit('no data')", 1, "RunnerFailed", "called sys.exit(1)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137, "RunnerKilled", "was killed by SIGKILL"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", 139, "RunnerKilled", "was killed by SIGSEGV"),
        ("import os; os._exit(9)", 9, "RunnerFailed", "ended with exit code 9"),
    ],
    ids=["exit", "exit-text", "SIGKILL", "SIGSEGV", "_exit"],
)
def test_a_script_that_ends_otherwise_is_told_apart(run_job, make_job, statement, code, reason, message):
    run = run_job(make_job(script=f"import os\nopen(os.environ['ARTIFACTS_DIR'] + '/part.csv', 'w')\n{statement}\n"))
    assert run.exit_code == code
    assert run.finished["reason"] == reason
    assert message in run.finished["message"]
    assert LOGS | RECORDS | {"part.csv"} <= run.kept()


def test_files_of_a_failed_run_are_left_out_where_the_job_says_so(run_job, make_job):
    spec = {
        "artifacts": {"uploadPolicy": "OnSuccess"},
        "runner": {"script": "import os\nopen(os.environ['ARTIFACTS_DIR'] + '/part.csv', 'w')\n1/0\n"},
    }
    run = run_job(make_job(spec))
    assert run.kept() == LOGS | RECORDS


def test_a_script_that_never_ends_is_stopped_at_the_deadline(run_job, make_job):
    pace = slowdown()
    seconds = math.ceil(5 * pace)
    spec = {
        "activeDeadlineSeconds": seconds,
        "runner": {"script": "import time\nprint('started')\nwhile True: time.sleep(1)\n"},
    }
    run = run_job(make_job(spec))
    assert run.exit_code == 124
    assert run.finished["reason"] == "DeadlineExceeded"
    assert f"{seconds} s (spec.activeDeadlineSeconds)" in run.finished["message"]
    assert run.seconds < 10 * pace
    assert run.kept() >= LOGS | RECORDS
    assert "started" in (run.folder / "logs" / "runner.log").read_text()


def test_workers_that_do_not_come_in_time_end_the_run(run_job, make_job, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import os, time\nif os.environ.get('DASK_TRAINING_ROLE') == 'worker': time.sleep(60)\n"
    )
    spec = {"startupDeadlineSeconds": 3, "runner": {"script": "1"}}
    run = run_job(make_job(spec), env={"PYTHONPATH": str(tmp_path)})
    assert run.exit_code == 124
    assert run.finished["reason"] == "StartupDeadlineExceeded"
    assert "0 of 1 workers (spec.workers.minReplicas) were connected after 3 s" in run.finished["message"]


def test_a_script_may_print_ten_megabytes(run_job, make_job):
    script = "for i in range(100_000):\n    print(i, 'x' * 95)\nprint('y' * 300_000)\n"
    run = run_job(make_job(script=script))
    assert run.exit_code == 0
    lines = (run.folder / "logs" / "runner.log").read_text().splitlines()
    assert lines[99_999] == f"99999 {'x' * 95}"
    assert "".join(lines[100_000:]) == "y" * 300_000
    assert run.seconds < 30 * slowdown()


def test_a_script_may_write_ten_thousand_files(run_job, make_job):
    script = """
import os
for i in range(10_000):
    folder = f"{os.environ['ARTIFACTS_DIR']}/part-{i // 1000}"
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/{i}.txt", "w") as file:
        file.write(str(i))
"""
    run = run_job(make_job(script=script))
    assert run.exit_code == 0, run.finished
    assert run.finished["artifacts"]["files"] == 10_000 + len(LOGS | RECORDS)
    assert run.finished["timings"]["finalizing"] < 20 * slowdown()


def test_files_outside_the_artifacts_folder_are_named(run_job, make_job):
    run = run_job(make_job(script="open('model.bin', 'w').write('m')\n"))
    assert run.exit_code == 0
    assert "left 1 file(s) in its working folder, which are not kept: model.bin" in run.notices
    assert "ARTIFACTS_DIR" in run.notices


def test_links_out_of_the_artifacts_folder_are_refused_and_all_else_is_kept(run_job, make_job, tmp_path):
    (tmp_path / "secret").write_text("top secret")
    script = f"""
import os
os.chdir(os.environ["ARTIFACTS_DIR"])
os.symlink({str(tmp_path / "secret")!r}, "link")
os.symlink({str(tmp_path)!r}, "folder")
open("bad\\nname", "w")
open("model.bin", "w")
"""
    run = run_job(make_job(script=script))
    assert run.exit_code == 74
    assert run.finished["reason"] == "ArtifactStoreFailed"
    assert "'link' in" in run.finished["message"]
    assert "leads out of the folder" in run.finished["message"]
    assert "control character" in run.finished["message"]
    assert run.kept() == {"model.bin"} | LOGS | RECORDS


def test_artifacts_over_the_limit_are_left_out_by_name(run_job, make_job):
    spec = {
        "artifacts": {"sizeLimit": "1Mi"},
        "runner": {
            "script": "import os\nfor n, s in (('big', 2**21), ('small', 10)):\n"
            "    open(os.environ['ARTIFACTS_DIR'] + '/' + n, 'wb').write(b'x' * s)\n"
        },
    }
    run = run_job(make_job(spec))
    assert run.exit_code == 74
    assert "larger than 1Mi (spec.artifacts.sizeLimit); not kept: big" in run.finished["message"]
    assert run.kept() == {"small"} | LOGS | RECORDS


def memory(limit):
    return {"resources": {"limits": {"memory": limit}}}


OVER_MEMORY = """
import os, time
from pathlib import Path
from joblib import Parallel, delayed

def eat(i, always):
    import numpy
    flag = Path({flag!r})
    if i == 3 and (always or not flag.exists()):
        flag.touch()
        hold = []
        for _ in range(200):
            hold.append(numpy.ones(2**21))  # 16 MiB
            time.sleep(0.01)
    return i

print("results", Parallel()(delayed(eat)(i, {always}) for i in range(6)))
"""


def test_a_worker_that_exceeds_its_memory_once_is_replaced(run_job, make_job, tmp_path):
    script = OVER_MEMORY.format(flag=str(tmp_path / "flag"), always=False)
    run = run_job(make_job(script=script, **memory("600Mi")))
    assert run.exit_code == 0, run.finished
    assert "results [0, 1, 2, 3, 4, 5]" in run.output
    assert run.finished["workerRestarts"] == 1
    assert "worker-0 was killed when it went over its memory limit of 600Mi" in run.notices
    assert [advice["rule"] for advice in run.finished["advice"]] == ["killed-for-memory"]
    assert "spec.workers.resources.limits.memory: 2Gi" in run.finished["advice"][0]["fix"]


def test_a_task_that_always_exceeds_the_memory_fails_by_name(run_job, make_job, tmp_path):
    script = OVER_MEMORY.format(flag=str(tmp_path / "flag"), always=True)
    run = run_job(make_job(script=script, **memory("600Mi")))
    assert run.exit_code == 69, run.finished
    assert run.finished["reason"] == "WorkerOOMKilled"
    assert "eat(3" in run.finished["message"]
    assert "600Mi (spec.workers.resources.limits.memory)" in run.finished["message"]
    assert run.finished["workerRestarts"] == 3
    assert run.kept() >= LOGS


def test_a_memory_limit_too_small_to_start_fails_at_once(run_job, make_job):
    run = run_job(make_job(script="1", **memory("40Mi")))
    assert run.exit_code == 69
    assert run.finished["reason"] == "WorkerOOMKilled"
    assert "memory limit of 40Mi (spec.workers.resources.limits.memory), 3 times" in run.finished["message"]
    assert run.seconds < 20 * slowdown()


def test_the_runner_has_a_memory_limit_too(run_job, make_job):
    script = "import time\nhold = []\nwhile True:\n    hold.append(b'x' * 2**24)\n    time.sleep(0.01)\n"
    run = run_job(make_job({"runner": {"script": script, **memory("400Mi")}}))
    assert run.exit_code == 137
    assert run.finished["reason"] == "RunnerOOMKilled"
    assert "400Mi (spec.runner.resources.limits.memory)" in run.finished["message"]


def test_workers_that_are_lost_for_good_end_the_run(run_job, make_job, tmp_path):
    # The workers that replace the killed one sleep before they connect, for longer than the grace time.
    flag = tmp_path / "killed"
    (tmp_path / "sitecustomize.py").write_text(
        f"import os, time\nif os.environ.get('DASK_TRAINING_ROLE') == 'worker' and os.path.exists({str(flag)!r}):\n"
        "    time.sleep(60)\n"
    )
    script = f"""
import os, signal, time
import dask_training
pid = dask_training.client().submit(os.getpid).result()
open({str(flag)!r}, "w")
os.kill(pid, signal.SIGKILL)
time.sleep(60)
"""
    run = run_job(make_job(script=script, lossGraceSeconds=2), env={"PYTHONPATH": str(tmp_path)})
    assert run.exit_code == 69
    assert run.finished["reason"] == "WorkersUnavailable"
    assert "0 of 1 workers (spec.workers.minReplicas) were connected for 2 s" in run.finished["message"]


def test_a_scheduler_that_is_lost_ends_the_run(run_job, make_job):
    script = """
import os, signal, time
import dask_training
pid = dask_training.client().run_on_scheduler(os.getpid)
os.kill(pid, signal.SIGKILL)
time.sleep(60)
"""
    run = run_job(make_job(script=script))
    assert run.exit_code == 69
    assert run.finished["reason"] == "SchedulerFailed"
    assert run.kept() >= LOGS | RECORDS
    assert "Not available" in (run.folder / "performance_report.html").read_text()
    summary = json.loads((run.folder / "summary.json").read_text())
    assert (summary["reason"], summary["exitCode"]) == ("SchedulerFailed", 69)
    assert not summary.keys() & {"tasks", "bytes", "threadSeconds"}, "nobody knows"


def test_another_attempt_follows_as_the_job_allows(run_job, make_job, tmp_path):
    script = """
import os, sys
print("attempt", os.environ["DASK_TRAINING_ATTEMPT"])
sys.exit(0 if os.environ["DASK_TRAINING_ATTEMPT"] == "2" else 7)
"""
    spec = {"backoffLimit": 2, "runner": {"script": script}}
    run = run_job(make_job(spec))
    assert run.exit_code == 0
    assert run.finished["attempt"] == 2
    assert "attempt 1 failed (RunnerFailed: spec.runner.script called sys.exit(7))" in run.notices
    assert run.folder.name.endswith("-attempt2")


def test_a_package_that_does_not_exist_gives_pips_reason(run_job, make_job, tmp_path):
    spec = {"packages": ["no-such-package-at-all==1.0"], "runner": {"script": "1"}}
    run = run_job(make_job(spec), env={"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)})
    assert run.exit_code == 78
    assert run.finished["reason"] == "PackagesFailed"
    assert "No matching distribution found for no-such-package-at-all==1.0" in run.finished["message"]
    assert "no-such-package-at-all" in (run.folder / "logs" / "packages.log").read_text()


S3 = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "s3cret-canary", "AWS_ENDPOINT_URL": ""}


def s3_job(make_job, endpoint):
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s3"},
        "stringData": {**S3, "AWS_ENDPOINT_URL": endpoint},
    }
    destination = {"url": "s3://bucket/runs", "secretRef": {"name": "s3"}}
    spec = {"artifacts": {"destination": destination}, "runner": {"script": "print('trained')"}}
    return make_job(spec), secret


def test_a_store_that_does_not_answer_is_known_before_the_training(run_job, make_job):
    run = run_job(*s3_job(make_job, "http://127.0.0.1:9"))
    assert run.exit_code == 74
    assert run.finished["reason"] == "ArtifactStoreFailed"
    assert "s3://bucket/runs" in run.finished["message"]
    assert "trained" not in run.output
    assert run.seconds < 15 * slowdown()
    assert "s3cret-canary" not in run.stderr + str(run.events)


@pytest.fixture
def full_s3():
    """An S3 endpoint that takes small objects and has no space for more: answers 507 once training has begun."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        puts = 0

        def do_PUT(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            type(self).puts += 1
            self._answer(200 if type(self).puts == 1 else 507)

        def do_any(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self._answer(204 if self.command == "DELETE" else 200)

        do_DELETE = do_GET = do_HEAD = do_POST = do_any  # noqa: N815 - the names that the base class looks for

        def _answer(self, code):
            body = b"" if self.command == "HEAD" else b"<?xml version='1.0'?><R><Code>InsufficientStorage</Code></R>"
            self.send_response(code)
            self.send_header("ETag", '"0"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_full_store_keeps_the_files_on_this_machine(run_job, make_job, full_s3):
    run = run_job(*s3_job(make_job, full_s3))
    assert run.exit_code == 74, run.finished
    assert "full" in run.finished["message"] or "space" in run.finished["message"]
    assert "The files are kept on this machine instead" in run.finished["message"]
    assert run.kept() >= LOGS | RECORDS


@pytest.fixture
def read_only_folder(tmp_path):
    """A folder on a read-only mount: permissions alone do not stop root."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    if os.geteuid() == 0:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", folder], check=True)
        yield folder
        subprocess.run(["umount", folder], check=True)
    else:
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)


def test_a_read_only_store_is_known_before_the_training(run_job, make_job, read_only_folder):
    spec = {
        "artifacts": {"destination": {"url": f"file://{read_only_folder}"}},
        "runner": {"script": "print('trained')"},
    }
    run = run_job(make_job(spec))
    assert run.exit_code == 74
    assert str(read_only_folder) in run.finished["message"]
    assert "trained" not in run.output


@pytest.mark.parametrize("when", ["starting a scheduler", '"Running"', "progress"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_everything_within_three_seconds(run_job, make_job, number, code, when):
    script = """
import os, signal, subprocess, sys, time
from joblib import Parallel, delayed
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen(["sleep", "300"])
subprocess.Popen(["sleep", "301"], start_new_session=True)
open(os.environ["ARTIFACTS_DIR"] + "/part.csv", "w")
Parallel()(delayed(time.sleep)(0.2) for _ in range(500))
"""
    run = run_job(make_job(script=script, replicas=2), send=number, when=when)
    assert run.exit_code == code
    assert run.finished["reason"] == "Interrupted"
    assert run.ending < 3 * slowdown()
    if when == "progress":
        assert {"part.csv", "logs/runner.log"} <= run.kept()


def test_nothing_is_left_when_the_command_itself_is_killed(run_job, make_job, tmp_path):
    script = "import subprocess, time\nsubprocess.Popen(['sleep', '300'])\nprint('up')\ntime.sleep(300)\n"
    run = run_job(make_job(script=script, replicas=2), send=signal.SIGKILL, when='"up"')
    assert run.exit_code == -9
    # Its processes are gone (the fixture checks); its folder goes when the next run starts.
    deadline = give_up_at(5)
    while time.monotonic() < deadline and not _free(tmp_path / "tmp"):
        time.sleep(0.1)
    assert run_job(make_job(script="1")).exit_code == 0


def _free(folder):
    return len(list(folder.iterdir())) == 1
