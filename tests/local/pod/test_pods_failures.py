"""Jobs that go wrong, in pods: each end is told apart, and what there is is kept."""

import json
import signal
import time

import psutil
import pytest
from machine import slowdown

LONG = "import time\nprint('started', flush=True)\ntime.sleep(300)\n"


@pytest.mark.parametrize(
    ("script", "code", "reason", "message"),
    [
        ("import sys; sys.exit(7)", 7, "RunnerFailed", "called sys.exit(7)"),
        (
            "x = 1\nraise ValueError('bad data')",
            1,
            "RunnerFailed",
            "ValueError: bad data, line 2 of spec.runner.script",
        ),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", 139, "RunnerKilled", "was killed by SIGSEGV"),
        ("raise ValueError('x' * 10_000_000)", 1, "RunnerFailed", "ValueError: xxx"),
    ],
)
def test_a_script_that_fails_is_told_with_its_code(pods, script, code, reason, message):
    attempt = pods(script)
    runner = attempt.run()
    assert runner.process.returncode == code
    said = runner.termination
    assert (said.reason, said.exit_code, said.succeeded) == (reason, code, False)
    assert message in said.message
    assert (runner.root / "dev/termination-log").stat().st_size <= 4096
    assert said.artifacts.files >= 5
    assert (attempt.kept() / "logs/scheduler.log").exists()


def test_a_child_that_the_kernel_kills_for_memory_is_named_with_its_limit(pods):
    """The kernel's own count decides: without it a SIGKILL is anybody's."""
    attempt = pods(
        "import os, pathlib, signal\n"
        "root = pathlib.Path(os.environ['DASK_TRAINING_ROOT'])\n"
        "(root / 'sys/fs/cgroup/memory/memory.oom_control').write_text('under_oom 0\\noom_kill 1\\n')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n",
        env={"DASK_TRAINING_MEMORY_LIMIT": str(512 * 1024**2)},
    )
    attempt.start_cluster()
    folder = attempt.tmp / attempt.uid[:4] / "runner/sys/fs/cgroup/memory"
    folder.mkdir(parents=True)
    (folder / "memory.oom_control").write_text("under_oom 0\noom_kill 0\n")
    runner = attempt.start("runner")
    assert runner.wait() == 137
    assert runner.termination.reason == "RunnerOOMKilled"
    assert "memory limit of 512Mi (spec.runner.resources.limits.memory)" in runner.termination.message
    assert attempt.kept()


def test_a_worker_that_is_killed_costs_nothing_but_time(pods, wait_until):
    attempt = pods(
        "import time\nfrom joblib import Parallel, delayed\n"
        "print(sum(Parallel(n_jobs=2)(delayed(lambda n: (time.sleep(0.5), n)[1])(n) for n in range(12))))\n"
    )
    attempt.start_cluster(2)
    runner = attempt.start("runner")
    wait_until(lambda: attempt.status()[1].get("processing", 0) > 1)
    killed = attempt.worker(0)
    killed.kill()
    killed.wait()
    attempt.start("worker", "forest-12345-1-worker-0")
    assert runner.wait() == 0, runner.printed
    assert "66" in runner.printed.splitlines()
    assert "66" in (attempt.kept() / "logs/runner.log").read_text()


def test_a_scheduler_that_is_killed_ends_the_attempt(pods, wait_until):
    attempt = pods(LONG)
    attempt.start_cluster()
    runner = attempt.start("runner")
    wait_until(lambda: "started" in runner.printed)
    attempt.pods["scheduler"].kill()
    assert runner.wait(20) == 69
    assert runner.termination.reason == "SchedulerFailed"
    assert attempt.worker(0).wait(10) == 69  # the kubelet starts it again
    assert "Not available" in (attempt.kept() / "performance_report.html").read_text()
    summary = json.loads((attempt.kept() / "summary.json").read_text())
    assert summary["reason"] == "SchedulerFailed"
    assert not summary.keys() & {"tasks", "bytes", "threadSeconds"}, "nobody knows"
    assert summary["resourceSeconds"]["byRole"]["workers"]["cpu"] > 0, "it ran for as long as the runner"


def test_code_that_fails_because_the_scheduler_died_is_not_to_blame(pods, wait_until):
    attempt = pods(
        "import time\nfrom joblib import Parallel, delayed\nprint('started', flush=True)\n"
        "Parallel(n_jobs=2)(delayed(time.sleep)(60) for _ in range(4))\n"
    )
    attempt.start_cluster()
    runner = attempt.start("runner")
    wait_until(lambda: attempt.status()[1].get("processing", 0) > 0)
    attempt.pods["scheduler"].kill()
    assert runner.wait(20) == 69
    assert runner.termination.reason == "SchedulerFailed"


def test_sigterm_ends_a_runner_soon_and_keeps_what_there_is(pods, wait_until):
    attempt = pods(
        "import os, time\nopen(os.environ['ARTIFACTS_DIR'] + '/partial.txt', 'w').write('x')\n"
        "try:\n    print('started', flush=True)\n    time.sleep(300)\nfinally:\n    print('cleaned up', flush=True)\n"
    )
    attempt.start_cluster()
    runner = attempt.start("runner")
    wait_until(lambda: "started" in runner.printed)
    runner.kill(signal.SIGTERM)
    assert runner.wait(10) == 143
    assert runner.termination.reason == "Interrupted"
    assert "cleaned up" in runner.printed
    assert (attempt.kept() / "partial.txt").read_text() == "x"


def test_a_runner_that_is_told_to_end_waits_for_no_reports(pods, wait_until, tmp_path):
    go = tmp_path / "go"
    attempt = pods(
        "import os, time\nopen(os.environ['ARTIFACTS_DIR'] + '/model.txt', 'w').write('x')\n"
        "print('started', flush=True)\n"
        f"while not os.path.exists({str(go)!r}):\n    time.sleep(0.02)\n"
    )
    attempt.start_cluster()
    runner = attempt.start("runner")
    wait_until(lambda: "started" in runner.printed)
    for process in psutil.Process(attempt.pods["scheduler"].process.pid).children(recursive=True):
        process.suspend()  # it takes connections, and says nothing
    [supervisor] = psutil.Process(runner.process.pid).children()
    go.touch()
    wait_until(lambda: not supervisor.children(), what="the end of the code")
    told = time.monotonic()
    runner.kill(signal.SIGTERM)
    assert runner.wait(30) in (0, 143), "as it comes: the code had just ended"
    assert time.monotonic() - told < 5 * slowdown()
    assert (attempt.kept() / "model.txt").read_text() == "x"


def test_a_scheduler_and_workers_end_at_once_on_sigterm(pods, wait_until):
    attempt = pods(LONG)
    attempt.start_cluster(2)
    wait_until(lambda: attempt.status()[1].get("workers") == 2)
    waiting = attempt.start("worker", "forest-12345-1-worker-2", DASK_SCHEDULER_ADDRESS="tls://127.0.0.1:9")
    wait_until((waiting.root / "work" / "pod.log").exists, what="the worker's init")
    attempt.pods["scheduler"].kill(signal.SIGTERM)
    assert attempt.pods["scheduler"].wait(5) == 0
    assert [attempt.worker(number).wait(5) for number in (0, 1)] == [0, 0]  # it said goodbye
    waiting.kill(signal.SIGTERM)
    assert waiting.wait(5) == 0


@pytest.mark.parametrize(
    ("spec", "env", "workers", "reason"),
    [
        ({"startupDeadlineSeconds": 2}, {}, 0, "StartupDeadlineExceeded"),
        ({"activeDeadlineSeconds": 60}, {"DASK_TRAINING_FIRST_STARTED": "before"}, 1, "DeadlineExceeded"),
    ],
)
def test_deadlines_end_an_attempt(pods, spec, env, workers, reason):
    import datetime

    if env:  # the job's first attempt began so long ago that this one has only seconds left
        before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=54)
        env = {"DASK_TRAINING_FIRST_STARTED": before.isoformat().replace("+00:00", "Z")}
    attempt = pods(LONG, spec=spec, env=env)
    runner = attempt.run(workers=workers, timeout=30)
    assert runner.process.returncode == 124
    assert runner.termination.reason == reason
    assert attempt.kept()


@pytest.mark.parametrize("role", ["runner", "worker", "scheduler"])
def test_packages_that_do_not_install_name_pips_reason(pods, tmp_path, role):
    attempt = pods(LONG, env={"DASK_TRAINING_PACKAGES": json.dumps([str(tmp_path / "no-such-package")])})
    pod = attempt.start(role)
    assert pod.wait() == 78
    assert pod.termination.reason == "PackagesFailed"
    assert pod.termination.exit_code == 78
    assert "no-such-package" in pod.termination.message
    if role == "runner":
        assert "no-such-package" in (attempt.kept() / "logs/packages.log").read_text()


def test_packages_are_there_in_every_pod(pods, tmp_path):
    package = tmp_path / "source"
    package.mkdir()
    (package / "pyproject.toml").write_text(
        "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
        "[project]\nname = 'answer'\nversion = '1'\n"
    )
    (package / "backend.py").write_text(BACKEND)
    attempt = pods(
        "import answer\nfrom joblib import Parallel, delayed\n"
        "def ask(_):\n    import answer\n    return answer.VALUE\n"
        "print(answer.VALUE, Parallel(n_jobs=2)(delayed(ask)(n) for n in range(2)))\n",
        env={"DASK_TRAINING_PACKAGES": json.dumps([str(package)])},
        spec={"packages": ["answer"]},
    )
    runner = attempt.run()
    assert runner.process.returncode == 0, runner.printed
    assert "42 [42, 42]" in runner.printed
    assert json.loads((attempt.kept() / "environment.json").read_text())["packages"]["answer"] == "1"


BACKEND = """\
import zipfile

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = "answer-1-py3-none-any.whl"
    with zipfile.ZipFile(f"{wheel_directory}/{name}", "w") as wheel:
        wheel.writestr("answer.py", "VALUE = 42\\n")
        wheel.writestr("answer-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: answer\\nVersion: 1\\n")
        tags = "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        wheel.writestr("answer-1.dist-info/WHEEL", tags)
        wheel.writestr("answer-1.dist-info/RECORD", "")
    return name
"""


def test_a_store_that_fails_is_known_before_the_training(pods, tmp_path):
    (tmp_path / "store").write_text("a file is in the way")
    runner = pods(LONG).run(timeout=30)
    assert runner.process.returncode == 74
    assert runner.termination.reason == "ArtifactStoreFailed"
    assert runner.termination.artifacts is None


def test_a_store_that_fails_at_the_end_says_that_the_files_are_lost(pods, tmp_path):
    attempt = pods(
        "import pathlib, shutil, os, time\nfrom dask_training import artifacts_dir\n"
        "(artifacts_dir() / 'model.txt').write_text('x')\n"
        "time.sleep(1)\n"
        f"shutil.rmtree({str(tmp_path / 'store')!r}, ignore_errors=True)\n"
        f"pathlib.Path({str(tmp_path / 'store')!r}).write_text('')\n"
    )
    runner = attempt.run(timeout=40)
    assert runner.process.returncode == 74
    assert runner.termination.reason == "ArtifactStoreFailed"
    assert "nothing else outlives the runner's pod" in runner.termination.message
    assert runner.termination.script_exit_code == 0


def test_orphans_are_reaped_and_gone_with_the_pod(pods):
    attempt = pods(
        "import os, subprocess, time, psutil\n"
        "subprocess.run(['sh', '-c', 'setsid sleep 0.1 & setsid sleep 300 & exit 0'])\n"
        "init, end = psutil.Process().parent().parent(), time.monotonic() + 30\n"
        "while len(left := [each for each in init.children() if each.pid != os.getppid()]) != 1:\n"
        "    assert time.monotonic() < end, left\n"
        "    time.sleep(0.02)\n"
        "print('left', left[0].cmdline()[-1], left[0].status())\n"
    )
    runner = attempt.run()
    assert "left 300 sleeping" in runner.printed
