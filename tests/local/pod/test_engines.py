"""The pods of mode Workers: code that runs without Dask, and what is said of its end."""

import signal
import sys
from pathlib import Path

import pytest

LONG = "import time\nprint('started', flush=True)\ntime.sleep(300)\n"


@pytest.fixture
def engine(pods):
    """Starts one engine with that runner; `env` is its pod's."""

    def start(env=None, code=None, **runner):
        attempt = pods(spec={"runner": runner}, env=env or {})
        root = attempt.tmp / attempt.uid[:4] / "engine"
        for folder, files in (code or {}).items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                (root / folder / name).write_text(text)
        return attempt.start("engine")

    return start


def ended(pod, code=0):
    assert pod.wait(30) == code, pod.printed
    said = pod.termination
    assert said is not None
    assert (said.exit_code, said.script_exit_code, said.succeeded) == (code, code, code == 0)
    return said


def test_a_script_runs_with_its_arguments_the_job_s_modules_and_the_threads_of_its_cpu_request(engine):
    script = (
        "import os, sys, helper\n"
        "print(sys.argv[1:], helper.VALUE, __name__)\n"
        "print(os.environ['OMP_NUM_THREADS'], os.environ['LOKY_MAX_CPU_COUNT'])\n"
        "print(os.environ['MKL_NUM_THREADS'], os.listdir('.'))\n"
    )
    pod = engine(
        {"DASK_TRAINING_THREADS": "3", "MKL_NUM_THREADS": "1"},
        {"code": {"helper.py": "VALUE = 'ours'"}},
        script=script,
        args=["--rounds", "3"],
    )
    assert ended(pod).reason == "Completed"
    assert pod.printed.splitlines() == ["['--rounds', '3'] ours __main__", "3 3", "1 []"]


def test_a_script_from_a_config_map_and_a_module_run_as_well(engine):
    pod = engine(code={"script": {"train.py": "print('from a file')"}}, scriptFile="train.py")
    ended(pod)
    assert pod.printed == "from a file\n"
    pod = engine(code={"code": {"job.py": "import sys\nprint(__name__, sys.argv[1])"}}, module="job", args=["x"])
    ended(pod)
    assert pod.printed.endswith("__main__ x\n")


def test_output_comes_as_it_is_printed_and_byte_for_byte(engine, wait_until):
    script = (
        "import sys, time\n"
        "sys.stdout.buffer.write(b'raw \\xff\\r')\n"
        "print('now')\n"
        "print('err', file=sys.stderr)\n"
        "time.sleep(300)\n"
    )
    pod = engine(script=script)
    wait_until(lambda: b"err\n" in pod.output.read_bytes())
    assert b"raw \xff\rnow\n" in pod.output.read_bytes()


@pytest.mark.parametrize(
    ("script", "code", "message"),
    [
        ("x = 1\nraise ValueError('bad data')", 1, "ValueError: bad data, line 2 of spec.runner.script"),
        ("import sys; sys.exit(3)", 3, "spec.runner.script called sys.exit(3)"),
        ("import sys; sys.exit('no luck')", 1, "spec.runner.script called sys.exit(1): no luck"),
        ("import not_there", 1, "No module named 'not_there', line 1 of spec.runner.script\nAdd the package"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", 139, "ended with exit code 139 (SIGSEGV)"),
        ("import os; os._exit(4)", 4, "spec.runner.script ended with exit code 4"),
        ("raise ValueError('x' * 10_000_000)", 1, "ValueError: xxx"),
    ],
)
def test_code_that_fails_is_told_with_its_last_line(engine, script, code, message):
    pod = engine(script=script)
    said = ended(pod, code)
    assert said.reason == "RunnerFailed"
    assert message in said.message
    assert (pod.root / "dev/termination-log").stat().st_size <= 4096
    assert "runpy" not in pod.printed, "a traceback begins with the user's own line"


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (
            ["sh", "-c", "echo fine; echo first >&2; echo 'no such host' >&2; exit 5"],
            5,
            "command sh ended with exit code 5: no such host",
        ),
        (["not-there-at-all"], 127, "spec.runner.command: can't start not-there-at-all: No such file or directory"),
        ([sys.executable, "-c", "raise KeyError('k')"], 1, "ended with exit code 1: KeyError: 'k'"),
    ],
)
def test_a_command_that_fails_is_told_with_the_last_line_of_its_errors(engine, command, code, message):
    said = ended(engine(command=command), code)
    assert said.reason == "RunnerFailed"
    assert message in said.message


def test_a_command_gets_its_arguments_and_the_signal(engine, wait_until):
    pod = engine(
        command=["sh", "-c", "trap 'echo leaving; exit 7' TERM; echo $1 ready; while :; do sleep 0.1; done", "-"],
        args=["it is"],
    )
    wait_until(lambda: "it is ready" in pod.printed)
    pod.kill(signal.SIGTERM)
    ended(pod, 7)
    assert "leaving" in pod.printed


def test_sigterm_ends_a_script_as_an_exception_does(engine, wait_until):
    pod = engine(script=f"try:\n    {'; '.join(LONG.splitlines())}\nfinally:\n    print('cleaned up', flush=True)\n")
    wait_until(lambda: "started" in pod.printed)
    pod.kill(signal.SIGTERM)
    ended(pod, 143)
    assert "cleaned up" in pod.printed


def test_what_the_code_leaves_running_ends_with_it_and_nothing_becomes_a_zombie(engine, wait_until):
    script = (
        "import subprocess, os, pathlib, time\n"
        "subprocess.Popen(['sh', '-c', 'sleep 0.1 & exit 0'])\n"  # its orphan comes to the pod's first process
        "left = subprocess.Popen(['sleep', '300'], start_new_session=True)\n"
        "pathlib.Path('pid').write_text(str(left.pid))\n"
    )
    pod = engine(script=script)
    ended(pod)
    pid = (pod.root / "work/job/work/pid").read_text()
    wait_until(lambda: not (Path("/proc") / pid).exists(), 5)


def test_a_kernel_that_kills_for_memory_is_named_with_the_limit(engine):
    """The kernel's own count decides: without it a SIGKILL is anybody's."""
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    counted = {"sys/fs/cgroup": {"memory.events": "oom 1\noom_kill 1\n"}}
    said = ended(engine({"DASK_TRAINING_MEMORY_LIMIT": str(64 * 1024**2)}, counted, script=kill), 137)
    assert said.reason == "WorkerOOMKilled"
    assert "memory limit of 64Mi (spec.workers.resources.limits.memory)" in said.message


def test_a_killed_engine_is_told_of(engine):
    said = ended(engine(script="import os, signal; os.kill(os.getpid(), signal.SIGKILL)"), 137)
    assert (said.reason, said.message) == ("RunnerKilled", "the engine was killed by SIGKILL")


def test_an_image_without_dask_will_do(engine, tmp_path):
    """Whatever of the runtime is imported ends the test: these stand in front of the real ones."""
    hidden = tmp_path / "hidden"
    for name in ("dask", "distributed", "joblib", "sklearn", "numpy", "cryptography", "psutil", "tornado"):
        (hidden / name).mkdir(parents=True)
        (hidden / name / "__init__.py").write_text(f"raise ModuleNotFoundError('{name} is not here', name='{name}')")
    pod = engine({"PYTHONPATH": str(hidden)}, script="print('works')")
    ended(pod)
    assert pod.printed == "works\n"


def test_packages_that_can_not_be_installed_end_the_worker_with_pip_s_reason(engine):
    env = {"DASK_TRAINING_PACKAGES": '["no-such-package-of-ours==1"]', "PIP_NO_INDEX": "1"}
    pod = engine(env, script="print('never')")
    assert pod.wait(60) == 78
    assert pod.termination.reason == "PackagesFailed"
    assert "no-such-package-of-ours" in pod.termination.message
    assert "never" not in pod.printed


def test_packages_come_before_the_code(engine, tmp_path):
    project = tmp_path / "own"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
        "[project]\nname = 'own-of-ours'\nversion = '1'\n"
    )
    (project / "backend.py").write_text(
        "import zipfile\n"
        "def build_wheel(folder, *_):\n"
        "    name = 'own_of_ours-1-py3-none-any.whl'\n"
        "    with zipfile.ZipFile(f'{folder}/{name}', 'w') as wheel:\n"
        "        info = 'own_of_ours-1.dist-info'\n"
        "        wheel.writestr('own_of_ours.py', 'VALUE = 42')\n"
        "        wheel.writestr(f'{info}/METADATA', 'Metadata-Version: 2.1\\nName: own-of-ours\\nVersion: 1\\n')\n"
        "        wheel.writestr(f'{info}/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n"
        "        wheel.writestr(f'{info}/RECORD', '')\n"
        "    return name\n"
    )
    env = {"DASK_TRAINING_PACKAGES": f'["own-of-ours @ {project.as_uri()}"]', "PIP_NO_INDEX": "1"}
    pod = engine(env, script="import own_of_ours, time\nprint(own_of_ours.VALUE)\ntime.sleep(0.01)")
    assert ended(pod).reason == "Completed"
    assert pod.printed.splitlines()[-1] == "42"
