"""What the workers API is asked for and what it answers, without any worker."""

from __future__ import annotations

import datetime
import inspect
import threading
import time
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from dask_training import workers
from dask_training.errors import CodeError
from dask_training.runner import console, dask_commands
from dask_training.workers import project, session
from dask_training.workers.functions import Response
from dask_training.workers.launcher import Refused
from dask_training.workers.records import Status, Table, Worker
from dask_training.workers.request import plain_name

NOW = datetime.datetime(2026, 11, 21, 10, 0, tzinfo=datetime.UTC)


def parameters(function) -> list[tuple[str, object]]:
    return [(name, each.default) for name, each in inspect.signature(function).parameters.items()]


def test_signatures_are_those_of_cml():
    required = inspect.Parameter.empty
    assert parameters(workers.launch_workers) == [
        ("n", required),
        ("cpu", required),
        ("memory", required),
        ("nvidia_gpu", 0),
        ("kernel", "python3"),
        ("script", ""),
        ("code", ""),
        ("env", {}),
        ("name", None),
        ("accelerator_label_id", None),
        ("resource_profile_id", None),
        ("resource_group_id", None),
    ]
    assert parameters(workers.list_workers) == []
    assert parameters(workers.await_workers) == [
        ("ids", required),
        ("wait_for_completion", True),
        ("timeout_seconds", 60),
    ]
    (stop,) = inspect.signature(workers.stop_workers).parameters.values()
    assert (stop.name, stop.kind) == ("worker_id", inspect.Parameter.VAR_POSITIONAL)


def test_run_dask_cluster_takes_the_words_of_both_helpers():
    names = inspect.signature(workers.run_dask_cluster).parameters
    assert list(names)[:5] == ["n", "cpu", "memory", "nvidia_gpu", "scheduler_port"]  # cdsw_dask_utils
    assert {"num_workers", "cpu", "memory", "nvidia_gpu", "dashboard_port"} <= set(names)  # dask_utils
    with pytest.raises(TypeError, match=r"needs n \(or num_workers\), cpu and memory"):
        workers.run_dask_cluster(2)
    with pytest.raises(ValueError, match="cpu must be more than 0"):
        workers.run_dask_cluster(num_workers=2, cpu=0, memory=2)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"n": 0}, ValueError, "n must be a whole number, at least 1, got 0"),
        ({"n": 1.5}, ValueError, "n must be a whole number, at least 1, got 1.5"),
        ({"n": True}, ValueError, "n must be a number, got True"),
        ({"n": 1001}, ValueError, "n must be at most 1000, got 1001"),
        ({"cpu": 0}, ValueError, r"cpu must be more than 0 \(cores\), got 0"),
        ({"cpu": "much"}, ValueError, "cpu must be a number, got 'much'"),
        ({"memory": -1}, ValueError, r"memory must be more than 0 \(GB\), got -1"),
        ({"memory": float("nan")}, ValueError, "memory must be a number, got nan"),
        ({"nvidia_gpu": -1}, ValueError, "nvidia_gpu must be a whole number, at least 0, got -1"),
        ({"kernel": "scala"}, ValueError, "kernel must be 'python3' or 'r', got 'scala'"),
        ({"kernel": "python2"}, ValueError, "kernel must be 'python3' or 'r', got 'python2'"),
        ({"code": " \n"}, ValueError, "give script=, a file of the project, or code=, the text to run"),
        ({"script": "no.py"}, FileNotFoundError, "there is no script no.py in"),
        ({"script": "../outside.py"}, ValueError, "it must be a file of the project"),
        ({"env": "A=1"}, TypeError, "env must be a dict of names and values, got 'A=1'"),
        ({"env": {"A B": "1"}}, ValueError, "env has 'A B', which is no name of an environment variable"),
        ({"env": {"A": None}}, ValueError, r"env\['A'\] is None: give text, or leave it out"),
        ({"resource_profile_id": 3}, ValueError, "resource_profile_id names something of a Cloudera workbench"),
        (
            {"accelerator_label_id": 1, "resource_group_id": 2},
            ValueError,
            "accelerator_label_id, resource_group_id names",
        ),
    ],
)
def test_arguments_that_cannot_be_used(tmp_path, monkeypatch, changes, error, message):
    (tmp_path / "outside.py").write_text("")
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    with pytest.raises(error, match=message):
        workers.launch_workers(**{"n": 1, "cpu": 1, "memory": 1, "code": "1"} | changes)
    assert workers.list_workers() == []


def test_ids_that_are_none_of_this_sessions():
    for function in (workers.await_workers, workers.stop_workers):
        with pytest.raises(ValueError, match="this session has no worker 'w-1'; it has: none"):
            function(["w-1"])
        with pytest.raises(ValueError, match="workers are given by id, or by their dict, got 5"):
            function([5])
    with pytest.raises(ValueError, match="timeout_seconds must not be negative, got -1"):
        workers.await_workers([], timeout_seconds=-1)


def test_what_a_quota_refused_is_a_failure_without_an_id():
    refused = Refused(("dask-1-worker-0", "dask-1-worker-1"), "exceeded quota: small").as_dicts()
    assert refused[0] == {
        "engineId": "dask-1-worker-0",
        "k8sMessage": "exceeded quota: small",
        "message": "exceeded quota: small",
    }
    assert workers.await_workers(refused) == {"workers": [], "failures": refused}


def test_configure_refuses_what_is_no_folder(tmp_path):
    with pytest.raises(ValueError, match="project must be a folder"):
        workers.configure(project=tmp_path / "none")


def test_settings_from_the_environment(monkeypatch):
    from dask_training.workers import state

    monkeypatch.setenv("DASK_TRAINING_WORKERS_LOCAL", "false")
    monkeypatch.setenv("DASK_TRAINING_WORKERS_PACKAGES", "tabulate rich==14")
    monkeypatch.setenv("DASK_TRAINING_WORKERS_NAMESPACE", "lab")
    found = state.from_environment()
    assert (found.local, found.packages, found.namespace, found.context) == (
        False,
        ("tabulate", "rich==14"),
        "lab",
        None,
    )
    monkeypatch.setenv("DASK_TRAINING_WORKERS_LOCAL", "yes")
    with pytest.raises(ValueError, match="DASK_TRAINING_WORKERS_LOCAL must be true or false, got 'yes'"):
        state.from_environment()


@pytest.mark.parametrize(
    ("text", "name"),
    [("Dask Scheduler", "dask-scheduler"), ("7 dwarfs", "w-7-dwarfs"), ("ä", "w"), ("a" * 50, "a" * 20)],
)
def test_names_become_those_of_kubernetes(text, name):
    assert plain_name(text) == name


# The table.


def worker(**fields) -> Worker:
    return Worker(**{"id": "w-0", "label": "w-0", "created_at": NOW} | fields)


def test_a_workers_dict():
    later = NOW + datetime.timedelta(seconds=2.5)
    assert worker().as_dict() == {
        "id": "w-0",
        "app_url": "",
        "status": "scheduling",
        "created_at": "2026-11-21T10:00:00.000Z",
        "running_at": None,
        "finished_at": None,
        "duration": 0.0,
        "ip_address": "unknown",
        "exit_code": None,
        "message": "",
    }
    ended = worker(
        status=Status.FAILED, running_at=NOW, finished_at=later, ip_address="10.0.0.7", exit_code=3
    ).as_dict()
    assert (ended["duration"], ended["finished_at"], ended["exit_code"]) == (2.5, "2026-11-21T10:00:02.500Z", 3)


def test_what_has_ended_stays_so():
    table = Table()
    assert table.put(worker(status=Status.STOPPED))
    assert not table.update("w-0", status=Status.RUNNING)
    assert table.get("w-0").status is Status.STOPPED
    assert not table.update("w-1", status=Status.RUNNING)


def test_waiting_ends_with_the_change_and_not_with_a_poll(monkeypatch):
    table = Table()
    table.put(worker())
    wait = table._changed.wait
    monkeypatch.setattr(table._changed, "wait", lambda _: wait(60))  # a poll would come in a minute
    began = time.monotonic()
    threading.Timer(0.1, lambda: table.update("w-0", status=Status.SUCCEEDED)).start()
    (found,) = table.wait(["w-0"], lambda each: each.is_final, None)
    assert found.status is Status.SUCCEEDED
    assert 0.05 < time.monotonic() - began < 30


def test_a_worker_is_ready_only_with_an_address():
    assert not worker(status=Status.RUNNING).is_ready
    assert worker(status=Status.RUNNING, ip_address="10.0.0.7").is_ready
    assert not worker(status=Status.SUCCEEDED, ip_address="10.0.0.7").is_ready


def test_the_response():
    response = Response()
    assert (repr([response]), response.status_code, response.ok) == ("[<Response [204]>]", 204, True)


# What a worker runs.


@pytest.mark.parametrize(
    ("code", "command"),
    [
        ("!dask-worker tcp://10.0.0.1:8786", "dask-worker tcp://10.0.0.1:8786"),
        ("  \n !export A=1; run\n", "export A=1; run"),
        ("!cat <<END\none\ntwo words\nEND", "cat <<END\none\ntwo words\nEND"),
        ("!pip install x\nimport x", None),
        ("print(1)\n!ls", None),
    ],
)
def test_code_that_is_one_shell_command(code, command):
    assert console._shell_command(code) == command


def test_shell_lines_keep_the_numbers_of_the_others():
    code = "import os\nif True:\n    !echo 'a\"b' $HOME\nx = 1 != 2\n"
    names: dict = {console._RUN_LINE: (ran := []).append}
    exec(console.compile_console(code), names)
    assert ran == ["echo 'a\"b' $HOME"]
    assert names["x"] is True
    with pytest.raises(SyntaxError) as caught:
        console.compile_console("!ls\nx = 1\nnot python at all\n")
    assert caught.value.lineno == 3


@pytest.mark.parametrize(
    ("command", "given", "words"),
    [
        ("dask-worker", ["tcp://a:1"], ["worker", "--nthreads", "2", "tcp://a:1"]),
        ("dask", ["worker", "tcp://a:1", "--nthreads=4"], ["worker", "tcp://a:1", "--nthreads=4"]),
        ("dask-worker", ["--nworkers", "2", "tcp://a:1"], ["worker", "--nworkers", "2", "tcp://a:1"]),
        ("dask-scheduler", ["--port", "1"], ["scheduler", "--port", "1"]),
        ("dask", ["config", "list"], ["config", "list"]),
        ("dask", [], []),
    ],
)
def test_dasks_commands_take_as_many_threads_as_were_asked_for(command, given, words):
    assert dask_commands.arguments(command, given, "2") == words


def test_dasks_commands_can_be_run():
    commands = sorted(console.COMMANDS.iterdir())
    assert [path.name for path in commands] == ["dask", "dask-scheduler", "dask-worker"]
    assert all(path.stat().st_mode & 0o111 for path in commands)


# The project that is sent along.


def names_in(data: bytes) -> list[str]:
    with zipfile.ZipFile(BytesIO(data)) as archive:
        return archive.namelist()


@pytest.fixture
def folder(tmp_path):
    for name in (
        "train.py",
        "lib/a.py",
        "model.R",
        "data.csv",
        ".hidden.py",
        ".git/x.py",
        "venv/b.py",
        "venv/pyvenv.cfg",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    return tmp_path


def test_the_projects_code_is_sent_along(folder):
    assert names_in(project.pack_project(folder, "")) == ["lib/a.py", "model.R", "train.py"]
    assert names_in(project.pack_project(folder, "data.csv")) == ["data.csv", "lib/a.py", "model.R", "train.py"]
    assert project.pack_project(folder, "") == project.pack_project(folder, "")


@pytest.mark.parametrize("name", ["train.py", "notes.txt"])
def test_workers_run_in_the_project_even_if_it_has_no_code(tmp_path, monkeypatch, name):
    (here := tmp_path / "session").mkdir()
    (here / name).write_text("")
    (there := tmp_path / "worker").mkdir()
    (archive := there / "project.zip").write_bytes(project.pack_project(here, ""))
    monkeypatch.chdir(there)
    console._use_project(archive)
    assert Path.cwd() == there / "project"
    assert [path.name for path in Path.cwd().iterdir()] == (["train.py"] if name == "train.py" else [])


def test_a_project_that_is_too_large(folder, monkeypatch):
    import random

    noise = random.Random(0)
    (folder / "big.py").write_bytes(noise.randbytes(1_200_000))
    with pytest.raises(
        CodeError, match=r"have 1\.1 MiB packed: they are sent as a ConfigMap, which holds 1 MiB at most"
    ):
        project.pack_project(folder, "")
    monkeypatch.setattr(project, "_MAX_FILES", 2)
    with pytest.raises(CodeError, match="has more than 2 code files"):
        project.pack_project(folder, "")


# The session.


def test_a_pods_identity(monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("POD_NAME", "notebook-0")
    monkeypatch.setenv("POD_IP", "10.0.0.5")
    for name in ("CDSW_ENGINE_ID", "CDSW_IP_ADDRESS", "CDSW_CREATOR", "CDSW_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(session.getpass, "getuser", lambda: (_ for _ in ()).throw(KeyError("uid")))
    found = session.identify()
    assert (found.id, found.ip, found.in_pod) == ("notebook-0", "10.0.0.5", True)
    assert found.creator.startswith("user-")
    assert session.worker_variables(found)["CDSW_MASTER_IP"] == "10.0.0.5"


def test_what_a_cml_session_has_already_stays(monkeypatch):
    monkeypatch.setenv("CDSW_ENGINE_ID", "engine-1")
    monkeypatch.setenv("CDSW_IP_ADDRESS", "10.1.1.1")
    found = session.identify()
    assert (found.id, found.ip) == ("engine-1", "10.1.1.1")
