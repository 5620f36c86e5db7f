"""`dask-training run` as its user meets it: on a real terminal, in pipes, with real clusters."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from machine import slowdown
from modules import load_module

from dask_training.api import ExitCode

ROOT = Path(__file__).parents[2]
PROGRAM = str(Path(sys.executable).parent / "dask-training")
SCRIPT = """\
import os, sys, time
from joblib import Parallel, delayed
import dask_training

def nap(number):
    time.sleep(0.1)
    return number

print("[bold]starting[/bold] \\x1b[31mred\\x1b[0m")
print("a warning", file=sys.stderr)
total = sum(Parallel(n_jobs=-1)(delayed(nap)(i) for i in range(40)))
dask_training.report(total=total)
with open(os.path.join(os.environ["ARTIFACTS_DIR"], "total.txt"), "w") as file:
    file.write(str(total))
"""


@pytest.fixture(scope="module")
def terminal():
    return load_module(ROOT / "docs" / "pictures" / "screen.py")


@pytest.fixture
def write_job(tmp_path):
    """Writes a job file for a script with `dask-training init`, as a user would; its path."""

    def write(script: str, *options: str, name: str = "train") -> Path:
        (tmp_path / f"{name}.py").write_text(script)
        command = [PROGRAM, "init", f"{name}.py", "--force", "--memory", "512Mi", *options]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)
        return tmp_path / "job.yaml"

    return write


@pytest.fixture
def on_terminal(terminal, tmp_path):
    """Runs a job file on a terminal of 100 x 30."""
    sessions = []

    def start(*options: str, **size: int):
        sessions.append(terminal.Session([PROGRAM, "run", "job.yaml", *options], cwd=tmp_path, **size))
        return sessions[-1]

    yield start
    for session in sessions:
        session.end()


def in_pipes(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROGRAM, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)


def begins_with_both(job: Path) -> None:
    """Lets the job wait for its two workers; else it may be over before the second is there."""
    job.write_text(job.read_text().replace("    replicas: 2", "    minReplicas: 2\n    replicas: 2"))


def test_a_run_on_a_terminal_shows_a_live_bar_and_then_a_summary(write_job, on_terminal, tmp_path):
    seen = tmp_path / "seen"
    last = (
        f"    while number == 39 and not os.path.exists({str(seen)!r}):\n        time.sleep(0.05)\n    return number\n"
    )
    begins_with_both(write_job(SCRIPT.replace("    return number\n", last)))
    session = on_terminal()
    busy = re.compile(r"[━╸╺]{28} (\d+) of 40 tasks \(nap\) · \d+\.\d/s · 0:\d\d left")
    screen = session.wait_for(lambda screen: busy.search("\n".join(screen.lines)), seconds=60)
    assert re.search(r". Running +\d+\.\d s · 2 of 2 workers", "\n".join(screen.lines))
    assert not screen.cursor_is_visible
    seen.touch()
    assert session.wait(seconds=60) == 0
    lines = session.screen().lines
    text = "\n".join(lines)
    assert any(line.startswith("Dashboard http://127.0.0.1:") for line in lines)
    assert re.search(r"^✓ Starting +\d", text, re.MULTILINE)
    assert "\n[bold]starting[/bold] red\n" in text
    assert "\na warning\n" in text
    assert re.search(r"\n✓ Running .*\n✓ Finalizing .*\n╭─ train: Succeeded in ", text)
    assert "Metrics    total 780" in text
    assert re.search(r"Compute .* of CPU, 40 tasks, 2 workers, peak [\d.]+ MiB per worker, 0 restarts", text)
    assert "Files      total.txt, " in text
    assert lines[-1].startswith("$ dask-training artifacts ls artifacts/train/")
    assert "tasks (nap)" not in text
    assert session.screen().cursor_is_visible


def test_ctrl_c_on_a_terminal_ends_the_run_soon_and_says_so(write_job, on_terminal):
    write_job("import time\nprint('busy')\ntime.sleep(600)\n")
    session = on_terminal()
    session.wait_for(lambda screen: "busy" in screen.lines, seconds=60)
    started = time.monotonic()
    session.write("\x03")
    assert session.wait(seconds=30) == ExitCode.INTERRUPTED
    assert time.monotonic() - started < 6 * slowdown()  # 3 s are the runner's promise
    text = "\n".join(session.screen().lines)
    assert "Ctrl-C: stopping the job; once more to stop at once" in text
    assert "train: Failed (Interrupted)" in text
    assert "Traceback" not in text
    assert session.screen().cursor_is_visible


def test_ten_megabytes_on_a_slow_terminal_do_not_slow_the_script(write_job, on_terminal):
    write_job(
        "import time, dask_training\n"
        "started = time.perf_counter()\n"
        "for i in range(100_000):\n    print(f'{i:06} ' + 'x' * 93)\n"
        "dask_training.report(seconds=time.perf_counter() - started)\n"
    )
    session = on_terminal()
    session.slow(bytes_per_second=1_500_000)
    began = time.monotonic()
    assert session.wait(seconds=120) == 0
    took = time.monotonic() - began
    lines = session.tail().lines
    seconds = float(re.search(r"seconds ([\d.]+)", "\n".join(lines))[1])
    assert took > 6  # so slow is the terminal
    assert seconds < 4 * slowdown()
    assert any(line.startswith("099999 xxx") for line in lines)


def test_a_script_that_raises_shows_its_traceback_and_the_summary_names_the_line(write_job, tmp_path):
    write_job("x = 1\ndef f():\n    raise ValueError('no rows')\nf()\n")
    done = in_pipes(tmp_path, "run", "job.yaml")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback (most recent call last):\n" in done.stderr
    assert "    raise ValueError('no rows')\n" in done.stderr
    summary = done.stderr[done.stderr.index("\ntrain: Failed (RunnerFailed)") :]
    assert "ValueError: no rows, line 3 of spec.runner.script" in summary
    assert "/logs/runner.log" in summary
    assert "dask_training/" not in done.stderr  # none of our own frames


def test_in_pipes_stdout_is_the_scripts_and_stderr_has_the_rest(write_job, tmp_path):
    begins_with_both(write_job(SCRIPT))
    done = in_pipes(tmp_path, "run", "job.yaml")
    assert done.returncode == 0
    assert done.stdout == "[bold]starting[/bold] \x1b[31mred\x1b[0m\n"
    stamped = [line[9:] for line in done.stderr.splitlines() if re.match(r"\d\d:\d\d:\d\d ", line)]
    assert stamped[0].startswith("Starting")
    assert any(re.match(r"Running \(Starting took [\d.]+ s\)", line) for line in stamped)
    assert "workers: 2 of 2 ready" in stamped
    assert "a warning\n" in done.stderr
    assert "\x1b" not in done.stderr
    assert re.search(r"^train: Succeeded in [\d.]+ s$", done.stderr, re.MULTILINE)


def test_quiet_is_one_line(write_job, tmp_path):
    write_job(SCRIPT)
    done = in_pipes(tmp_path, "run", "job.yaml", "--quiet")
    assert (done.returncode, done.stdout) == (0, "")
    assert re.fullmatch(r"train: Succeeded in [\d.]+ s; artifacts in artifacts/train/[\w-]+\n", done.stderr)


def test_a_reader_that_leaves_ends_the_run_quietly_and_nothing_goes_on(write_job, tmp_path):
    write_job("import time\nfor i in range(6000):\n    print(i)\n    time.sleep(0.1)\n")
    shell = f'"{PROGRAM}" run job.yaml 2>err | head -n 1; echo ${{PIPESTATUS[0]}}'
    started = time.monotonic()
    done = subprocess.run(["bash", "-c", shell], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == f"0\n{128 + signal.SIGPIPE}\n"
    assert "Error" not in (tmp_path / "err").read_text()
    assert time.monotonic() - started < 40 * slowdown()


def test_a_taken_port_is_said_before_anything_starts(write_job, tmp_path):
    write_job("print('ran')\n")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = in_pipes(tmp_path, "run", "job.yaml", "--dashboard-port", str(port))
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert str(port) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_script_with_modules_beside_it_runs_from_the_one_file_that_init_wrote(write_job, tmp_path):
    (tmp_path / "helper.py").write_bytes(b"import os\r\ndef pid(_):\r\n    return os.getpid()\r\n")
    job = write_job(
        "import os, helper\nfrom joblib import Parallel, delayed\n"
        "pids = set(Parallel(n_jobs=-1)(delayed(helper.pid)(i) for i in range(8)))\n"
        "print(os.getpid() not in pids)\n"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    os.replace(job, elsewhere / "job.yaml")  # noqa: PTH105 - what it says
    done = in_pipes(elsewhere, "run", "job.yaml")
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    listed = in_pipes(elsewhere, "artifacts", "ls", "train", "--json")
    assert [run["verdict"] for run in json.loads(listed.stdout)["runs"]] == ["Succeeded"]
    assert in_pipes(elsewhere, "artifacts", "verify", "train").returncode == 0
    assert "nothing to os.environ['ARTIFACTS_DIR']" in done.stderr
