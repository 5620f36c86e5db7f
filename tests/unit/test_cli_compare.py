"""`dask-training compare`: runs that are kept in folders here, side by side."""

import json

import msgspec
import pytest

from dask_training.artifacts import ArtifactStore
from dask_training.cli.app import run_command_line
from dask_training.costs import Amounts, Prices, ResourceSeconds
from dask_training.runner import run_summary
from dask_training.runner.run_summary import (
    AttemptSummary,
    BytesMoved,
    JobIdentity,
    JoblibWork,
    Tasks,
    ThreadSeconds,
    Timings,
    WorkersUsed,
)

PRICES = Prices(currency="EUR", cpu_hour=36.0)
BASE = AttemptSummary(
    job=JobIdentity(name="flights", namespace="default", uid="u", attempt=1),
    reason="Completed",
    exit_code=0,
    start_time="2026-01-02T03:04:05.000Z",
    completion_time="2026-01-02T03:05:05.000Z",
    timings=Timings(startup=5.0, script=50.0, total=60.0),
    workers=WorkersUsed(replicas=2, threads=1, memory_limit=2**30, lost=0),
    tasks=Tasks(done=80, seconds=80.0, mean_seconds=1.0),
    moved=BytesMoved(received=2**21, scattered=2**20, peak_worker_memory=300 * 2**20),
    joblib=JoblibWork(calls=1, tasks=80, batches=80, seconds=79.0),
    thread_seconds=ThreadSeconds(available=100.0, busy=80.0),
    resource_seconds=ResourceSeconds.of({"workers": Amounts(cpu=100.0, memory_gib=50.0)}),
    cost=PRICES.cost_of(Amounts(cpu=100.0)),
    metrics={"accuracy": 0.91, "best": "rbf"},
)
ENVIRONMENT = {
    "python": "3.11.9",
    "packages": {"scikit-learn": "1.9.1", "numpy": "2.4.0"},
    "spec": {"workers": {"replicas": 2}, "runner": {"script": "sha256:aa", "args": ["--small"]}},
}


@pytest.fixture
def keep(tmp_path, monkeypatch):
    """Keeps a run below ./artifacts with these records."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))

    def make(run, summary=BASE, environment=ENVIRONMENT):
        files = tmp_path / "files" / run
        files.mkdir(parents=True)
        (files / "environment.json").write_text(json.dumps(environment))
        if summary is not None:
            content = summary if isinstance(summary, bytes) else summary.to_json()
            (files / run_summary.FILE).write_bytes(content)
        ArtifactStore.from_url(str(tmp_path / "artifacts")).store(files, prefix=f"flights/{run}", size_limit_bytes=None)

    return make


@pytest.fixture
def compare(capsys):
    def run(*arguments):
        code = run_command_line(["compare", *arguments])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def faster():
    return msgspec.structs.replace(
        BASE,
        timings=Timings(startup=5.0, script=25.0, total=35.0),
        workers=WorkersUsed(replicas=4, threads=1, memory_limit=2**30, lost=1),
        tasks=Tasks(done=80, seconds=84.0, mean_seconds=1.05),
        thread_seconds=ThreadSeconds(available=100.0, busy=84.0),
        resource_seconds=ResourceSeconds.of({"workers": Amounts(cpu=120.0, memory_gib=50.0)}),
        cost=PRICES.cost_of(Amounts(cpu=120.0)),
        metrics={"accuracy": 0.93, "rows": 1000},
    )


def test_two_runs_are_shown_with_what_has_changed(keep, compare):
    keep("a")
    spec = {"workers": {"replicas": 4}, "runner": {"script": "sha256:aa"}}
    keep("b", faster(), {**ENVIRONMENT, "packages": {"scikit-learn": "1.9.2", "numpy": "2.4.0"}, "spec": spec})
    code, out, err = compare("flights/a", "flights/b")
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == "flights/a flights/b CHANGE"
    assert lines[1:] == [
        "Result reason Completed Completed",
        "exit code 0 0",
        "Metrics accuracy 0.91 0.93 +0.02",
        "best rbf -",
        "rows - 1,000",
        "Time startup 5.0 s 5.0 s",
        "script 50.0 s 25.0 s -50 %",
        "total 1 min 00 s 35.0 s -42 %",
        "Workers replicas 2 4 +100 %",
        "threads 1 1",
        "lost - 1",
        "busy 80 % 84 % +5 %",
        "Tasks done 80 80",
        "mean time 1.0 s 1.1 s +5 %",
        "joblib tasks 80 80",
        "Data received by workers 2.0 MiB 2.0 MiB",
        "put by the script 1.0 MiB 1.0 MiB",
        "peak of a worker 300 MiB 300 MiB",
        "Resources CPU seconds 100 120 +20 %",
        "GiB seconds 50 50",
        "cost 1.00 EUR 1.20 EUR +20 %",
        "Packages scikit-learn 1.9.1 1.9.2",
        "Job workers.replicas 2 4 +100 %",
        'runner.args ["--small"] (default)',
    ]


def test_all_of_it_is_to_be_had_as_json(keep, compare):
    keep("a")
    keep("b", faster())
    keep("c")
    code, out, _ = compare("flights/a", "flights/b", "flights/c", "--json")
    document = json.loads(out)
    assert code == 0
    assert [run["run"] for run in document["runs"]] == ["flights/a", "flights/b", "flights/c"]
    assert run_summary.read(document["runs"][1]["summary"]) == faster()
    assert document["differences"]["metrics"]["accuracy"] == [0.91, 0.93, 0.91]
    assert document["differences"]["time"]["total"] == [60.0, 35.0, 60.0]
    assert "packages" not in document["differences"]


def test_a_run_whose_scheduler_was_lost_is_compared_in_what_is_known(keep, compare):
    keep("a")
    lost = msgspec.structs.replace(
        BASE, reason="SchedulerFailed", exit_code=69, tasks=None, moved=None, thread_seconds=None, cost=None
    )
    keep("b", lost, {})
    code, out, err = compare("flights/a", "flights/b")
    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "Result reason Completed SchedulerFailed" in lines
    assert "cost 1.00 EUR -" in lines
    assert not any(line.startswith(("Packages", "Job")) for line in lines), "nothing is known of one of them"
    assert "flights/b has no record of its tasks: its scheduler was lost" in err


def test_what_can_not_be_set_side_by_side_is_said(keep, compare):
    keep("a")
    dollars = Prices(currency="USD", cpu_hour=36.0).cost_of(Amounts(cpu=100.0))
    keep("b", msgspec.structs.replace(BASE, resource_basis="used", cost=dollars))
    _, out, err = compare("flights/a", "flights/b")
    assert "1.00 EUR" in out
    assert "1.00 USD" in out
    assert "what pods reserved on a cluster, and what processes used" in err
    assert "different currencies: EUR, USD" in err


@pytest.mark.parametrize(
    ("summary", "said"),
    [
        (None, "has no summary.json: it was kept by an older dask-training"),
        (b"{}", "missing required field `job`"),
        (b"not JSON", "summary.json can't be read"),
        (b'{"version": 9}', "version 9, and this dask-training knows 1: install a newer one"),
    ],
)
def test_a_run_without_a_summary_that_can_be_read_is_refused(keep, compare, summary, said):
    keep("a")
    keep("b", summary)
    code, out, err = compare("flights/a", "flights/b")
    assert (code, out) == (2, "")
    assert said in err
    assert "flights/b" in err


def test_one_run_is_not_enough(keep, compare):
    keep("a")
    code, _, err = compare("flights/a")
    assert code == 2
    assert "name two runs at least: dask-training compare flights/a RUN" in err


def test_names_from_elsewhere_do_not_rule_the_terminal(keep, compare):
    keep("a")
    keep("b", msgspec.structs.replace(BASE, metrics={"\x1b[2Jaccuracy": 1.0, "text": "\x1b]0;title\x07x"}))
    _, out, _ = compare("flights/a", "flights/b")
    assert "\x1b" not in out
    assert "\x07" not in out
