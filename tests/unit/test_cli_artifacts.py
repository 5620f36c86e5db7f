"""`dask-training artifacts` and the completion of what it takes, over runs in a folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pexpect
import pytest

from dask_training.api import ExitCode
from dask_training.artifacts import ArtifactStore
from dask_training.cli.app import run_command_line

PROGRAM = Path(sys.executable).parent / "dask-training"
OLD, NEW = "20260101-000000-aaaa", "20260102-000000-bbbb"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Two runs of one job, one of another, one that was never finished; job files and scripts."""
    made = tmp_path_factory.mktemp("made")
    store = ArtifactStore.from_url(str(made / "artifacts"))

    def keep(run: str, files: dict[str, bytes], **info: str) -> None:
        source = tmp_path_factory.mktemp("source")
        for name, content in files.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(content)
        store.store(source, prefix=run, size_limit_bytes=None, info=info)

    keep(f"flights/{OLD}", {"metrics.json": b"{}"}, phase="Failed", reason="RunnerFailed")
    time.sleep(1.05)  # manifests know whole seconds
    latest = {"model.joblib": b"m" * 2048, "logs/runner.log": b"log\n", "roc.png": b"p"}
    keep(f"flights/{NEW}", latest, phase="Succeeded")
    keep(f"trains/{OLD}", {"model.joblib": b"t"}, phase="Succeeded")
    (made / "artifacts" / "broken" / OLD).mkdir(parents=True)
    (made / "jobs").mkdir()
    for name in ("job.yaml", "other.yml", "train.py", "notes.txt", "two words.yaml", "jobs/deep.yaml"):
        (made / name).write_text("")
    return made


@pytest.fixture(autouse=True)
def folder(made, tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))  # this machine's cluster is no part of it
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capfd):
    def command(*arguments: str) -> tuple[int, str, str]:
        code = run_command_line(["artifacts", *arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return command


def rows(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines()]


# ls


def test_ls_lists_all_runs_the_latest_last(run):
    code, out, err = run("ls")
    assert (code, err) == (0, "")
    head, first, *rest = rows(out)
    assert head == ["RUN", "KEPT", "RESULT", "FILES", "SIZE"]
    assert first[0] == f"flights/{OLD}"
    assert first[3:] == ["Failed:", "RunnerFailed", "1", "2", "B"]
    assert {row[0] for row in rest} == {f"flights/{NEW}", f"trains/{OLD}"}
    assert next(row for row in rest if row[0] == f"flights/{NEW}")[3:] == ["Succeeded", "3", "2.0", "KiB"]


def test_ls_of_a_job_lists_its_runs_by_names_that_can_be_given_again(run):
    _, out, _ = run("ls", "flights")
    assert [row[0] for row in rows(out)[1:]] == [f"flights/{OLD}", f"flights/{NEW}"]
    assert rows(run("ls", rows(out)[2][0])[1]) == [
        ["4", "B", "logs/runner.log"],
        ["2.0", "KiB", "model.joblib"],
        ["1", "B", "roc.png"],
    ]


@pytest.mark.parametrize("place", [f"flights/{NEW}", f"artifacts/flights/{NEW}", f"./artifacts/flights/{NEW}/"])
def test_ls_of_a_run_lists_its_files_however_it_is_named(run, place):
    assert [row[-1] for row in rows(run("ls", place)[1])] == ["logs/runner.log", "model.joblib", "roc.png"]


def test_ls_takes_urls(run, folder):
    _, out, _ = run("ls", f"file://{folder}/artifacts/flights/{NEW}")
    assert [row[-1] for row in rows(out)] == ["logs/runner.log", "model.joblib", "roc.png"]
    _, out, _ = run("ls", f"file://{folder}/artifacts")
    assert rows(out)[1][0] == f"file://{folder}/artifacts/flights/{OLD}"


def test_ls_speaks_json(run, folder):
    runs = json.loads(run("ls", "--json")[1])["runs"]
    first = runs[0]
    assert (first["run"], first["verdict"], first["files"]) == (f"flights/{OLD}", "Failed: RunnerFailed", 1)
    listed = json.loads(run("ls", f"flights/{NEW}", "--json")[1])
    assert listed["files"][1]["path"] == "model.joblib"
    assert listed["files"][1]["size"] == 2048
    assert len(listed["files"][1]["sha256"]) == 64


def test_a_folder_of_the_jobs_sources_does_not_hide_its_runs(run, folder):
    (folder / "flights").mkdir()
    assert rows(run("ls", "flights")[1])[1][0] == f"flights/{OLD}"


def test_places_that_are_not_there_are_wrong_usage_with_what_there_is(run, folder):
    assert run("ls", "fligths") == (
        2,
        "",
        "Error: there is neither a run fligths below artifacts nor a folder fligths; did you mean flights?\n",
    )
    assert run("verify", "broken") == (
        2,
        "",
        "Error: broken has no complete run: a run is complete when its manifest.json is there\n",
    )
    assert run("ls", "broken") == (0, "broken has no complete run\n", "")
    code, _, err = run("get", "artifacts", "out")
    assert code == 2
    assert "has runs of several jobs" in err
    shutil.rmtree(folder / "artifacts")
    code, _, err = run("ls")
    assert code == 2
    assert "there is no folder artifacts here" in err


# get


def test_get_copies_the_latest_run_and_the_copy_verifies(run, folder):
    assert run("get", "flights", "out") == (0, f"3 files (2.0 KiB) of artifacts/flights/{NEW} in out\n", "")
    assert (folder / "out" / "model.joblib").read_bytes() == b"m" * 2048
    assert run("verify", "./out")[0] == 0


def test_get_copies_the_files_that_names_and_patterns_choose_and_no_more(run, folder):
    code, out, _ = run("get", "flights", "out", "model.joblib", "logs/*", "--json")
    assert code == 0
    assert json.loads(out)["files"] == ["out/logs/runner.log", "out/model.joblib"]
    assert sorted(path.name for path in (folder / "out").rglob("*") if path.is_file()) == ["model.joblib", "runner.log"]
    assert [path.name for path in (folder / "out").iterdir() if path.name.startswith(".")] == []


def test_get_names_a_file_that_is_not_there(run, folder):
    code, _, err = run("get", "flights", "out", "model.jolbib")
    assert (code, err) == (2, "Error: the run has no file model.jolbib; did you mean model.joblib?\n")
    assert not (folder / "out").exists()


def test_get_of_a_damaged_file_fails_and_leaves_none_of_it(run, folder):
    (folder / "artifacts" / "flights" / NEW / "model.joblib").write_bytes(b"x" * 2048)
    code, out, err = run("get", "flights", "out")
    assert (code, out) == (ExitCode.ARTIFACT_STORE, "")
    assert "'model.joblib' has another content than the manifest says" in err
    assert not (folder / "out" / "model.joblib").exists()
    code, _, _ = run("get", "flights", "out", "model.joblib")
    assert code == ExitCode.ARTIFACT_STORE


# verify


def test_verify_says_that_all_is_well(run):
    assert run("verify", f"flights/{NEW}") == (
        0,
        f"artifacts/flights/{NEW}: 3 files, 2.0 KiB: all are as the manifest says\n",
        "",
    )


def test_verify_names_each_file_that_is_not_as_it_was(run, folder):
    place = folder / "artifacts" / "flights" / NEW
    (place / "model.joblib").write_bytes(b"m" * 2047)
    (place / "roc.png").unlink()
    code, out, err = run("verify", "flights")
    assert (code, out) == (ExitCode.ARTIFACT_STORE, "")
    assert err.splitlines()[-1] == f"artifacts/flights/{NEW}: 2 of 3 files differ from the manifest"
    assert any("'model.joblib' has 2047 bytes" in line for line in err.splitlines())
    assert any("'roc.png' is missing" in line for line in err.splitlines())
    code, out, _ = run("verify", "flights", "--json")
    assert code == ExitCode.ARTIFACT_STORE
    assert (json.loads(out)["verified"], len(json.loads(out)["problems"])) == (False, 2)


def test_a_manifest_that_is_no_manifest_is_an_error_of_the_store(run, folder):
    (folder / "artifacts" / "flights" / NEW / "manifest.json").write_text("{")
    code, _, err = run("verify", f"flights/{NEW}")
    assert code == ExitCode.ARTIFACT_STORE
    assert "is not a manifest of this version" in err
    assert "Traceback" not in err


# Completion.


def completed(shell: str, *words: str, cwd: Path) -> list[str]:
    """What *shell*'s script gets for *words*, the last of which is to be completed: values alone."""
    environment = {
        **os.environ,
        "_DASK_TRAINING_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": " ".join(["dask-training", *words]),
        "COMP_CWORD": words[-1] if shell == "fish" else str(len(words)),
    }
    done = subprocess.run([PROGRAM], env=environment, cwd=cwd, capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr == ""
    lines = done.stdout.strip().splitlines()
    if shell == "zsh":
        return lines[1::3]
    return [line.split(",", 1)[1].split("\t")[0] for line in lines]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_options_files_and_runs(folder, shell):
    assert completed(shell, "va", cwd=folder) == ["validate"]
    assert "--dashboard-port" in completed(shell, "run", "--", cwd=folder)
    assert completed(shell, "run", "j", cwd=folder) == ["job.yaml", "jobs"]
    assert completed(shell, "run", "jobs/", cwd=folder) == ["jobs/deep.yaml"]
    assert completed(shell, "init", "t", cwd=folder) == ["train.py"]
    assert completed(shell, "artifacts", "verify", "fl", cwd=folder) == ["flights", f"flights/{NEW}", f"flights/{OLD}"]
    assert completed(shell, "artifacts", "get", "tr", cwd=folder) == ["trains", f"trains/{OLD}"]
    assert completed(shell, "artifacts", "ls", "art", cwd=folder) == ["artifacts"]


def test_job_names_are_completed_from_the_file(folder):
    job = (
        "apiVersion: dask-training.io/v1alpha1\nkind: DaskTrainingJob\nmetadata: {name: %s}\n"
        "spec: {runner: {script: x}}\n"
    )
    (folder / "job.yaml").write_text("---\n".join(job % name for name in ("alpha", "beta")))
    assert completed("bash", "run", "job.yaml", "--name", "a", cwd=folder) == ["alpha"]
    assert completed("bash", "run", "notes.txt", "--name", "a", cwd=folder) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_each_shell_says_how_to_install_it(shell):
    done = subprocess.run([PROGRAM, "completion", shell], capture_output=True, text=True, timeout=30, check=True)
    assert "# Keep it" in done.stdout
    assert "_DASK_TRAINING_COMPLETE" in done.stdout
    assert f"dask-training completion {shell}" in done.stdout
    if shell == "zsh":
        assert done.stdout.startswith("#compdef dask-training\n")


@pytest.fixture
def bash(folder):
    """A bash with the completion as its user would install it."""
    environment = {**os.environ, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}", "PS1": "", "TERM": "dumb"}
    shell = pexpect.spawn(
        "bash", ["--norc", "--noprofile"], env=environment, cwd=str(folder), encoding="utf-8", timeout=20
    )
    shell.setwinsize(50, 200)
    shell.sendline("PS1='$ '; bind 'set bell-style none'; eval \"$(dask-training completion bash)\"; echo rea''dy")
    shell.expect_exact("ready")
    yield shell
    shell.sendcontrol("c")
    shell.sendline("exit")
    shell.expect(pexpect.EOF)
    shell.close()


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("dask-training val", "dask-training validate "),
        ("dask-training run jobs", "dask-training run jobs/"),
        ("dask-training run jobs/", "dask-training run jobs/deep.yaml "),
        ("dask-training run o", "dask-training run other.yml "),
        ("dask-training run tw", "dask-training run two\\ words.yaml "),
        ("dask-training artifacts verify flights/20260102", f"dask-training artifacts verify flights/{NEW} "),
    ],
)
def test_completion_works_in_a_real_bash(bash, typed, line):
    bash.send(f"{typed}\t")
    bash.expect_exact(line.rstrip(" "))
    bash.send("|")  # shows whether a space came before it
    bash.expect_exact(line.removeprefix(line.rstrip(" ")) + "|")
