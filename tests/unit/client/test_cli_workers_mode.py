"""The commands on a job of mode Workers, which has neither a runner nor artifacts."""

import click
import pytest

from dask_training.cli.app import run_command_line

JOBS = "/apis/dask-training.io/v1alpha1/namespaces/default/dasktrainingjobs"
MEMBERS = [
    {"index": 0, "id": "g-0", "state": "running"},
    {"index": 1, "id": "g-1", "state": "failed", "exitCode": 3, "message": "ValueError: no\nmore"},
    {"index": 2, "id": "g-2", "state": "timedout", "message": "it had not started after 60 s"},
]


@pytest.fixture
def group(api):
    def make(**status):
        job = api.job("group", **status)
        job["spec"]["mode"] = "Workers"
        api.objects[JOBS, "group"]["spec"]["mode"] = "Workers"
        return job

    return make


@pytest.fixture
def run(api, capfd):
    """Runs a command in this process: its exit code, standard output and standard error."""

    def command(*arguments):
        code = run_command_line(arguments)
        out, err = capfd.readouterr()
        return code, out, err

    return command


def test_get_names_the_workers_those_that_failed_first(run, api, group):
    workers = {"desired": 3, "ready": 1, "members": MEMBERS}
    group(phase="Running", attempt=1, workers=workers, progress={"done": 2, "total": 3, "summary": "2/3"})
    lines = click.unstyle(run("get", "group")[1]).splitlines()
    assert "  Progress   2/3 workers are over" in lines
    start = lines.index("Workers")
    assert lines[start + 1 : start + 4] == [
        "  worker 1    failed (exit code 3): ValueError: no",
        "  worker 2    timedout: it had not started after 60 s",
        "  worker 0    running",
    ]


def test_get_shows_some_of_many(run, api, group):
    members = [{"index": number, "id": f"g-{number}", "state": "running"} for number in range(100)]
    group(phase="Running", attempt=1, workers={"desired": 100, "ready": 100, "members": members})
    assert "  and 80 more" in run("get", "group")[1].splitlines()


def test_logs_are_those_of_all_workers(run, api, group, log_script):
    job = group(phase="Running", attempt=1)
    for index in range(2):
        api.pod(f"w{index}", "worker", job, index=index, phase="Succeeded")
        api.logs[f"w{index}"] = log_script(f"w{index} one")
    assert run("logs", "group") == (0, "worker-0  | w0 one\nworker-1  | w1 one\n", "")
    assert run("logs", "group", "--worker", "1") == (0, "w1 one\n", "")


def test_logs_that_went_with_the_pods_are_not_looked_for_in_a_store(run, api, group):
    group(phase="Succeeded", attempt=1, startTime="2026-01-01T00:00:00Z", completionTime="2026-01-01T00:01:00Z")
    code, out, err = run("logs", "group")
    assert (code != 0, out) == (True, "")
    assert "in mode Workers nothing is stored" in err
    assert "logs group" not in run("get", "group")[1]
