"""The scaling example without a cluster: what it makes of the times that it measures."""

import numpy as np
import pandas as pd
import pytest
from example_runs import EXAMPLES
from joblib.parallel import get_active_backend
from modules import load_module


@pytest.fixture(scope="module")
def example():
    """The script, as a module."""
    return load_module(EXAMPLES / "scaling" / "train.py")


def times(**seconds):
    """A table as `measure` makes it, of one piece of work: sequential=8.0, dask={1: 8.5, 2: 4.5}."""
    lines = [
        {"work": "some", "backend": backend, "workers": workers, "tasks": 9, "seconds": value}
        for backend, values in seconds.items()
        for workers, value in (values if isinstance(values, dict) else {1: values}).items()
    ]
    return pd.DataFrame(lines)


def test_the_full_size_is_that_of_the_blogs(example):
    works = example.works_of(example.SIZES["full"])
    assert list(works) == example.WORKS
    assert works["svc_grid"].title == "SVC with probabilities, 5,000 rows x 20: 144 fits"
    assert works["pca_logistic"].title == "PCA and LogisticRegression, 10,000 rows x 500: 96 fits"
    assert [works[name].tasks for name in ("small_grid", "slow_increment")] == [144, 10]


def test_workers_are_doubled_up_to_all(example):
    assert [example.steps(most) for most in (1, 2, 4)] == [[1], [1, 2], [1, 2, 4]]
    assert example.steps(5) == [1, 2, 4, 5]
    assert example.steps(80) == [1, 2, 4, 8, 16, 32, 64, 80]


def test_loky_gets_no_more_processes_than_there_are_cores_or_workers(example, monkeypatch):
    monkeypatch.setattr(example.joblib, "cpu_count", lambda: 4)

    def settings(workers):
        return [(each.backend, each.workers) for each in example.settings_for(workers)]

    three = example.Workers({f"tls://{number}": 1 for number in range(3)}, {"here": 4})
    assert settings(three) == [("sequential", 1), ("loky", 2), ("loky", 3), ("dask", 1), ("dask", 2), ("dask", 3)]
    eight = example.Workers({f"tls://{number}": 1 for number in range(8)}, {"here": 4, "there": 8})
    assert [each for each in settings(eight) if each[0] == "loky"] == [("loky", 2), ("loky", 4)]
    assert settings(None) == [("sequential", 1), ("loky", 2), ("loky", 4)]


def test_the_report_names_workers_machines_and_cores(example):
    one = example.Workers({"tls://a": 2}, {"here": 4})
    assert one.described == "1 worker of 2 thread(s) on 1 machine with 4 cores"
    two = example.Workers({"tls://a": 1, "tls://b": 1}, {"here": 4, "there": 8})
    assert two.described == "2 workers of 1 thread(s) on 2 machines with 4 + 8 cores"


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_amdahls_law_is_found_again(example, share):
    law = {n: 10 * (1 - share + share / n) for n in (1, 2, 4, 8)}
    found = example.fit_amdahl(times(sequential=9.0, dask=law)).iloc[0]
    assert found["parallel_share"] == pytest.approx(share)
    assert found["limit"] == pytest.approx(1 / (1 - share))
    assert found["points"] == 4


def test_one_worker_of_loky_is_the_process_itself(example):
    found = example.fit_amdahl(times(sequential=8.0, loky={2: 5.0}))
    assert found["parallel_share"].to_list() == pytest.approx([0.75])  # 8 * (0.25 + 0.75 / 2) = 5


def test_amdahls_law_has_no_negative_share_and_needs_two_points(example):
    assert example.fit_amdahl(times(sequential=1.0, dask={1: 1.0, 2: 3.0}))["parallel_share"].to_list() == [0]
    assert example.fit_amdahl(times(sequential=1.0, dask={1: 1.0})).empty


def test_the_exponent_is_found_again(example):
    rows = np.array([1000, 2000, 4000])
    assert example.exponent_of(pd.DataFrame({"rows": rows, "cpu_seconds": 3e-9 * rows**2.2})) == pytest.approx(2.2)


@pytest.mark.parametrize(
    ("dask", "said"),
    [
        (9.0, "Dask **lost** to one process (9.00 s against 6.00 s, 1.5 times as long), and **lost** to loky"),
        (5.0, "Dask beat one process (5.00 s against 6.00 s, 1.2 times as fast), and **lost** to loky"),
        (4.2, "and was level with loky (4.20 s against 4.00 s)"),
        (2.0, "and beat loky (2.00 s against 4.00 s, 2.0 times as fast)."),
    ],
)
def test_it_says_when_dask_lost(example, dask, said):
    assert said in example.verdict("some", times(sequential=6.0, loky={2: 4.0}, dask={1: 99.0, 2: dask}))


def test_it_says_so_when_there_is_no_dask(example):
    assert "Dask was not measured" in example.verdict("some", times(sequential=6.0, loky={2: 4.0}))


def test_it_says_when_the_machine_was_busy(example, monkeypatch):
    monkeypatch.setattr(example.os, "cpu_count", lambda: 4)
    assert example.busy_with(1.9) == "When this began, 1.9 processes ran or waited for a core where the script runs."
    assert "Measure again when it is quiet" in example.busy_with(2.1)


def test_results_that_differ_between_backends_are_told(example):
    def run():
        return [1.0, 2.0 if type(get_active_backend()[0]).__name__ == "SequentialBackend" else 2.1], 0.0

    works = {"odd": example.Work("odd", 2, run), "even": example.Work("even", 2, lambda: ([3.0], 0.0))}
    settings = [
        example.Setting("sequential", 1, {"n_jobs": 1}),
        example.Setting("threading", 2, {"n_jobs": 2}),
    ]
    table, results, differ = example.measure(works, settings)
    assert differ == ["odd with threading, 2 workers"]
    assert results == {"odd": [1.0, 2.0], "even": [3.0]}
    assert table[["work", "backend", "workers"]].to_numpy().tolist() == [
        ["odd", "sequential", 1], ["odd", "threading", 2], ["even", "sequential", 1], ["even", "threading", 2],
    ]  # fmt: skip
    rows = pd.DataFrame({"rows": [1000, 2000], "cpu_seconds": [0.1, 0.4]})
    report = example.report_of(works, table, example.fit_amdahl(table), rows, "3 cores", 0.5, differ)
    assert "RESULTS DIFFER: odd with threading, 2 workers." in report
    assert "Measured with 3 cores" in report
    assert "rows^2.00" in report
