"""The command line without a cluster: help, start-up, bad input, completion, and what becomes of errors."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

import dask_training.local
from dask_training import __version__
from dask_training.api import ExitCode, Phase, Reason
from dask_training.cli import app
from dask_training.cli.app import COMMANDS, run_command_line
from dask_training.cli.interrupts import Interrupts
from dask_training.errors import PortTakenError, StoreDeniedError
from dask_training.runner.events import Finished, Output, from_json

JOB = """\
apiVersion: dask-training.io/v1alpha1
kind: DaskTrainingJob
metadata:
  name: flights
spec:
  runner:
    script: |
      print("hello")
"""
BAD = JOB.replace("flights", "Flights!").replace("  runner:", "  wrokers: {}\n  runner:")
HEAVY = ("distributed", "dask", "joblib", "sklearn", "pandas", "numpy", "kubernetes")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.yaml").write_text(JOB)
    (tmp_path / "bad.yaml").write_text(BAD)
    return tmp_path


@pytest.fixture
def run(capfd):
    """Runs a command in this process: its exit code, standard output and standard error."""

    def command(*arguments: str) -> tuple[int, str, str]:
        code = run_command_line(arguments)
        out, err = capfd.readouterr()
        return code, out, err

    return command


@pytest.fixture
def local(monkeypatch):
    """Puts a function in the place of `run_locally`; what it is called with is what it is given."""

    def replace(function) -> None:
        monkeypatch.setattr(dask_training.local, "run_locally", function)

    return replace


def finished(**fields) -> Finished:
    defaults = {"phase": Phase.SUCCEEDED, "reason": Reason.COMPLETED, "message": "", "exit_code": 0}
    return Finished(**(defaults | fields))


def python(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False, **options
    )


# Help, version, start-up.


def test_the_lazy_table_says_what_the_commands_say():
    for name, (place, line) in COMMANDS.items():
        module, attribute = place.split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert command.name == name
        assert command.get_short_help_str(limit=200).rstrip(".") == line.rstrip(".")


@pytest.mark.parametrize(
    "command",
    [
        *([name] for name in COMMANDS),
        ["artifacts", "ls"],
        ["artifacts", "get"],
        ["artifacts", "verify"],
    ],
)
def test_each_command_has_help_with_its_exit_codes_and_fits_a_terminal(run, command):
    code, out, err = run(*command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: dask-training {' '.join(command)}")
    assert "Exit codes:" in out or command == ["artifacts"]
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "\\b" not in out
    assert not any(line.startswith("      FILES") for line in out.splitlines())


def test_the_help_of_run_lists_every_exit_code(run):
    _, out, _ = run("run", "--help")
    said = out[out.index("Exit codes:") :]
    on_clusters = {ExitCode.UNREACHABLE, ExitCode.FORBIDDEN}
    assert [code for code in set(ExitCode) - on_clusters if f" {int(code)} " not in f"{said} "] == []


def test_the_help_of_the_group_names_all_commands_and_examples(run):
    code, out, _ = run("--help")
    assert code == 0
    for name, (_, line) in COMMANDS.items():
        assert f"  {name} " in out
        assert line in out
    assert "dask-training run job.yaml" in out


def test_the_version_is_the_packages(run):
    assert run("--version") == (0, f"dask-training {__version__}\n", "")


def test_without_a_command_there_is_help_and_the_code_of_wrong_usage(run):
    code, out, err = run()
    assert code == 2
    assert "Commands:" in out + err


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["validate", "job.yaml"], ["artifacts", "ls"]])
def test_nothing_heavy_is_imported_where_it_is_not_needed(folder, arguments):
    (folder / "artifacts").mkdir()
    code = (
        "import sys; from dask_training.cli.app import run_command_line;"
        f"code = run_command_line({arguments}); print(*sys.modules, sep=','); sys.exit(code)"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.splitlines()[-1].split(","))
    assert "dask_training.cli.app" in loaded
    assert loaded & set(HEAVY) == set()
    if "--help" in arguments:
        assert loaded & {"yaml", "jsonschema", "rich", "fsspec"} == set()


def test_help_is_there_at_once():
    """In CPU seconds, less than which it can't take: how long it waits for a core is not ours."""
    python("-m", "dask_training.cli", "--help")  # once, for the .pyc files
    used = []
    for _ in range(3):
        before = os.times()
        assert python("-m", "dask_training.cli", "--help").returncode == 0
        after = os.times()
        used.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(used) < 0.35


# Validate.


def test_a_valid_file_is_said_to_be_valid(run):
    assert run("validate", "job.yaml") == (0, "job.yaml: DaskTrainingJob flights is valid\n", "")


def test_all_problems_of_a_file_are_shown_with_their_lines(run):
    code, out, err = run("validate", "bad.yaml", "job.yaml")
    assert code == ExitCode.BAD_JOB_FILE
    assert out == "job.yaml: DaskTrainingJob flights is valid\n"
    lines = err.splitlines()
    assert lines[0].startswith("bad.yaml:4: metadata.name: ")
    assert lines[1] == "     4 |   name: Flights!"
    assert lines[2].startswith("bad.yaml:6: spec.wrokers: ")
    assert "workers" in lines[2]
    assert lines[3] == "     6 |   wrokers: {}"
    assert lines[4] == "bad.yaml: 2 problems"


def test_validate_speaks_json(run):
    code, out, err = run("validate", "--json", "job.yaml", "bad.yaml")
    assert (code, err) == (ExitCode.BAD_JOB_FILE, "")
    good, bad = map(json.loads, out.splitlines())
    assert good == {
        "file": "job.yaml",
        "valid": True,
        "jobs": [{"name": "flights", "namespace": "default", "mode": "Batch"}],
        "problems": [],
    }
    assert [(problem["path"], problem["line"]) for problem in bad["problems"]] == [
        ("metadata.name", 4),
        ("spec.wrokers", 6),
    ]


def test_validate_reads_standard_input():
    done = python("-m", "dask_training.cli", "validate", "-", input=JOB)
    assert (done.returncode, done.stdout) == (0, "standard input: DaskTrainingJob flights is valid\n")


def test_verbose_validate_says_what_this_machine_leaves_out(run, folder):
    (folder / "job.yaml").write_text(JOB.replace("spec:\n", "spec:\n  serviceAccountName: me\n  mode: Batch\n"))
    code, out, _ = run("validate", "--verbose", "job.yaml")
    assert code == 0
    assert "serviceAccountName" in out


# Bad input of run, and of init where it is the same.


def test_the_likeliest_mistakes_get_a_helpful_message(run, folder):
    (folder / "train.py").write_text("print()")
    (folder / "nb.ipynb").write_text("{}")
    (folder / "jobs").mkdir()
    (folder / "jobs" / "only.yaml").write_text(JOB)
    (folder / "latin.yaml").write_bytes(b"# a\n# \xe9\n")
    for arguments, said in {
        ("run", "jbo.yaml"): "Error: no such file: jbo.yaml; did you mean job.yaml?\n",
        ("run", "none/x.yaml"): "Error: no such file: none/x.yaml; there is no folder none either\n",
        ("run", "jobs"): "Error: jobs is a folder; did you mean jobs/only.yaml?\n",
        ("run", "."): "Error: . is a folder; did you mean job.yaml?\n",
        ("run", "train.py"): (
            "Error: train.py is a Python script, not a job file. Did you mean to write a job file for it first?\n"
            "  dask-training init train.py -o train.yaml\n"
            "  dask-training run train.yaml\n"
        ),
        ("validate", "nb.ipynb"): (
            "Error: nb.ipynb is a notebook; make a script of it first: jupyter nbconvert --to script nb.ipynb\n"
        ),
        ("run", "latin.yaml"): "Error: latin.yaml:2: is not UTF-8 text (byte 6: 0xe9)\n",
        ("run", "a\0b"): "Error: can't read a\0b: embedded null byte\n",
    }.items():
        assert run(*arguments) == (2, "", said)


def test_a_job_of_dask_kubernetes_is_recognised(run, folder):
    (folder / "dask.yaml").write_text(
        "apiVersion: kubernetes.dask.org/v1\nkind: DaskJob\nmetadata: {name: x}\nspec: {job: {}, cluster: {}}\n"
    )
    code, out, err = run("run", "dask.yaml")
    assert (code, out) == (ExitCode.BAD_JOB_FILE, "")
    assert "DaskJob" in err.splitlines()[0]
    assert "That is a job for dask-kubernetes' operator." in err
    assert "dask-training init train.py -o job.yaml" in err


def test_python_on_standard_input_is_recognised():
    done = python("-m", "dask_training.cli", "run", "-", input="import os\nprint(os.name)\n")
    assert done.returncode == ExitCode.BAD_JOB_FILE
    assert "This looks like Python; 'dask-training init'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bad_job_file_starts_nothing(run, local):
    local(lambda *_: pytest.fail("started"))
    code, out, err = run("run", "bad.yaml")
    assert (code, out) == (ExitCode.BAD_JOB_FILE, "")
    assert err.startswith("bad.yaml:4: metadata.name: ")
    assert "     6 |   wrokers: {}\n" in err


def test_a_bad_job_file_is_one_finished_event_in_json(run, local):
    local(lambda *_: pytest.fail("started"))
    code, out, err = run("run", "bad.yaml", "--json")
    assert (code, err) == (ExitCode.BAD_JOB_FILE, "")
    (line,) = out.splitlines()
    event = from_json(line)
    assert (event.reason, event.exit_code) == (Reason.VALIDATION_FAILED, ExitCode.BAD_JOB_FILE)
    assert "spec.wrokers" in event.message


def test_several_jobs_need_a_name(run, folder, local):
    (folder / "two.yaml").write_text(f"{JOB}---\n{JOB.replace('flights', 'trains')}")
    started = []
    local(lambda job_file, job, *rest: started.append(job.name) or finished())
    code, _, err = run("run", "two.yaml")
    assert code == ExitCode.BAD_JOB_FILE
    assert "flights, trains" in err
    assert run("run", "two.yaml", "--name", "trains")[0] == 0
    assert started == ["trains"]


@pytest.mark.parametrize(
    "arguments", [["--json", "--quiet"], ["--no-dashboard", "--dashboard-port", "8787"], ["--workers", "0"]]
)
def test_options_that_make_no_sense_are_wrong_usage(run, arguments):
    code, out, err = run("run", "job.yaml", *arguments)
    assert (code, out) == (2, "")
    assert "Error: " in err


# Run: options, outputs, codes.


def test_options_reach_the_run(run, local, folder):
    (folder / "src").mkdir()
    seen = []
    local(lambda job_file, job, options, listener, stop: seen.append(options) or finished())
    arguments = ["--workers", "5", "--artifacts", "kept", "--code", "src", "--dashboard-port", "8788", "--", "--n", "3"]
    assert run("run", "job.yaml", *arguments)[0] == 0
    assert run("run", "job.yaml", "--no-dashboard")[0] == 0
    assert run("run", "job.yaml")[0] == 0
    full, without, default = seen
    assert full == dask_training.local.LocalOptions(
        artifacts_root=Path("kept"), dashboard_port=8788, code=Path("src"), workers=5, args=("--n", "3")
    )
    assert without.dashboard_port is None
    assert default == dask_training.local.LocalOptions()


@pytest.mark.parametrize("code", [0, 1, 3, 69, 124, 137])
def test_the_exit_code_is_the_runs(run, local, code):
    reason = Reason.RUNNER_FAILED if code else Reason.COMPLETED
    phase = Phase.FAILED if code else Phase.SUCCEEDED
    local(lambda *_: finished(phase=phase, reason=reason, exit_code=code))
    assert run("run", "job.yaml")[0] == code


def test_output_goes_to_its_own_stream(run, local):
    def job(job_file, job, options, listener, stop):
        listener(Output(line="to out"))
        listener(Output(line="to err", stream="stderr"))
        listener(end := finished())
        return end

    local(job)
    code, out, err = run("run", "job.yaml")
    assert (code, out) == (0, "to out\n")
    assert err.startswith("to err\n\nflights: Succeeded")


def test_json_ends_with_the_finished_event(run, local):
    def job(job_file, job, options, listener, stop):
        listener(Output(line="x"))
        listener(end := finished())
        return end

    local(job)
    code, out, err = run("run", "job.yaml", "--json")
    assert (code, err) == (0, "")
    assert [json.loads(line)["type"] for line in out.splitlines()] == ["output", "finished"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreDeniedError("read-only: choose another"), ExitCode.ARTIFACT_STORE),
        (PortTakenError("port 8787 is taken: choose another with --dashboard-port"), ExitCode.USAGE),
    ],
)
def test_expected_errors_are_their_message_without_a_traceback(run, local, error, code):
    def fail(*_):
        raise error

    local(fail)
    assert run("run", "job.yaml") == (code, "", f"Error: {error}\n")
    got, out, err = run("run", "job.yaml", "--json")
    assert (got, err) == (code, "")
    assert from_json(out).exit_code == code


def test_an_unexpected_error_is_one_line_and_where_to_report_it(run, local):
    def fail(*_):
        raise KeyError("spam")

    local(fail)
    code, out, err = run("run", "job.yaml")
    assert (code, out) == (ExitCode.INTERNAL_ERROR, "")
    assert err.splitlines()[0] == "Error: this is a fault in dask-training: KeyError: 'spam'"
    assert "report" in err.splitlines()[1]
    assert "Traceback" not in err
    code, _, err = run("run", "job.yaml", "--verbose")
    assert code == ExitCode.INTERNAL_ERROR
    assert "Traceback" in err
    assert 'raise KeyError("spam")' in err
    _, _, err = run("run", "job.yaml", "--", "--verbose")  # the script's
    assert "Traceback" not in err
    code, out, err = run("run", "job.yaml", "--json")
    assert code == ExitCode.INTERNAL_ERROR
    assert from_json(out).reason is Reason.INTERNAL_ERROR
    assert "KeyError" in err


def test_a_fault_of_the_display_is_said_after_a_run_that_goes_on(run, local, monkeypatch):
    monkeypatch.setattr("dask_training.cli.watch.lines.write", lambda *_: 1 / 0)

    def job(job_file, job, options, listener, stop):
        listener(Output(line="x"))
        time.sleep(0.1)
        listener(end := finished(exit_code=7, phase=Phase.FAILED, reason=Reason.RUNNER_FAILED))
        return end

    local(job)
    code, out, err = run("run", "job.yaml")
    assert (code, out) == (7, "")
    assert "ZeroDivisionError" in err


# Signals and closed pipes.


def waiting_job(job_file, job, options, listener, stop):
    listener(Output(line="started"))
    assert stop.wait(30)
    reason = Reason.INTERRUPTED
    listener(end := finished(phase=Phase.FAILED, reason=reason, exit_code=128 + stop.signal_number))
    return end


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run_with_its_own_code(run, local, number):
    def job(*arguments):
        threading.Timer(0.1, os.kill, (os.getpid(), number)).start()  # not before the handlers are there
        return waiting_job(*arguments)

    local(job)
    before = signal.getsignal(number)
    code, _, err = run("run", "job.yaml")
    assert code == 128 + number
    assert "stopping the job" in err
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_does_not_wait_but_one_passed_on_by_a_wrapper_is_no_second(local, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("dask_training.cli.interrupts.time", SimpleNamespace(monotonic=lambda: now[0]))

    class Feed:
        def __call__(self, event):
            events.append(event)

        def stop_waiting(self):
            events.append("patience")

    events = []
    stop = dask_training.local.StopSignal()
    with pytest.raises(KeyboardInterrupt), Interrupts(stop, Feed()) as interrupts:  # noqa: PT012 - a handler raises
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.wait(30)
        now[0] += 0.4
        os.kill(os.getpid(), signal.SIGINT)
        now[0] += 0.2
        survived = True
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
        pytest.fail("went on")
    assert survived
    assert interrupts.exit_code == 130
    assert events[0] == "patience"


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts(dask_training.local.StopSignal(), None):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


CHATTY = """
import sys, time
import dask_training.local as local
from dask_training.api import Phase, Reason
from dask_training.runner.events import Finished, Output
def job(job_file, job, options, listener, stop):
    count = 0
    while not stop.is_set() and count < 100_000:
        listener(Output(line="y" * 100)); count += 1
    stop.wait(30)  # the reader may be gone later than all this was said
    reason = Reason.INTERRUPTED if stop.is_set() else Reason.COMPLETED
    end = Finished(phase=Phase.FAILED, reason=reason, message="", exit_code=130)
    listener(end)
    return end
local.run_locally = job
from dask_training.cli import main
sys.argv = ["dask-training", "run", "job.yaml", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize("option", [[], ["--json"]])
def test_a_closed_pipe_ends_the_run_without_a_word(folder, option):
    (folder / "chatty.py").write_text(CHATTY)
    shell = f'"{sys.executable}" chatty.py {" ".join(option)} | head -n 1 >/dev/null; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert done.stdout == f"{128 + signal.SIGPIPE}\n"


def test_listing_into_a_closed_pipe_is_quiet(folder):
    shell = f'"{sys.executable}" -m dask_training.cli completion bash | true; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert done.stdout in {"0\n", "141\n"}  # who is first is chance


def test_click_and_we_agree_on_the_group():
    assert isinstance(app.cli, click.Group)
    assert app.cli.list_commands(click.Context(app.cli)) == list(COMMANDS)
