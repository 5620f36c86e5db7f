"""The workloads benchmark reckons right; that it measures is test_workloads_bench.py's in tests/local."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2]))  # bench is no package of the distribution

from bench.workloads.cases import CASES
from bench.workloads.figures import Spread, amdahl, cost, ratios
from bench.workloads.measure import BenchError, check
from bench.workloads.report import markdown

SVC, SLOWINC = (next(case for case in CASES if case.name == name) for name in ("svc", "slowinc"))


def run(contender, seconds, workers=1, threads=1, turn=0, **more):
    found = {"contender": contender, "workers": workers, "threads": threads, "seconds": seconds, "round": turn}
    traffic = {"tasks": 3, "received": 4e6, "scattered": 1e6, "throughScheduler": 0}
    return found | {"fits": {}, "result": {"values": [1]}} | (traffic if contender == "ours" else {}) | more


def law(one, serial, slots):
    return one * (serial + (1 - serial) / slots)


def test_amdahls_serial_share_is_found_again():
    runs = [run("ours", law(20, 0.25, n), n, turn=turn) for n in (1, 2, 4) for turn in range(3)]
    fit = amdahl(SLOWINC, runs, "ours", cores=2)
    assert fit.serial == pytest.approx(0.25)
    assert fit.one == pytest.approx(20)
    assert fit.error == pytest.approx(0, abs=1e-9)
    assert fit.speedup(1e9) == pytest.approx(4)


def test_workers_without_a_core_are_left_out_of_the_fit_where_tasks_need_one():
    runs = [run("ours", law(20, 0.1, n), n) for n in (1, 2)] + [run("ours", 11, 4)]
    assert amdahl(SVC, runs, "ours", cores=2).serial == pytest.approx(0.1)
    assert amdahl(SLOWINC, runs, "ours", cores=2).serial > 0.2
    assert amdahl(SVC, runs, "ours", cores=1) is None


def test_a_serial_share_is_never_negative():
    fit = amdahl(SVC, [run("ours", 10), run("ours", 4, 2)], "ours", cores=2)
    assert fit.serial == 0
    assert fit.error > 0


def test_loky_with_one_process_is_the_sequential_run():
    fit = amdahl(SVC, [run("sequential", 10), run("loky", 6, 2)], "loky", cores=2)
    assert (fit.one, fit.serial) == (pytest.approx(10), pytest.approx(0.2))


def test_ratios_are_taken_within_a_round():
    slow, fast = 3.0, 1.0  # the machine's other users
    runs = [run("sequential", 10 * slow), run("ours", 5 * slow, 2)]
    runs += [run("sequential", 10 * fast, turn=1), run("ours", 5 * fast, 2, turn=1)]
    assert ratios(runs, "ours", (2, 1)) == Spread(2.0, 2.0, 2.0)


def test_a_calls_overhead_is_what_it_took_beyond_its_share_of_the_cores():
    paid = cost([run("sequential", 10), run("ours", 6, 2)], "ours", (2, 1), calls=100, cores=2)
    assert (paid.work, paid.overhead, paid.received) == (pytest.approx(0.1), pytest.approx(0.01), pytest.approx(4e4))


def test_contenders_that_find_something_else_are_an_error():
    runs = [run("sequential", 1), run("ours", 1, 2, result={"values": [2]})]
    with pytest.raises(BenchError, match=r"svc: round 1, ours, 2 x 1: 1.00 s found .*\[2\].* but .*sequential.*\[1\]"):
        check("svc", runs)
    scores = [{"bestParams": {"C": 1}, "bestScore": 0.9, "meanScores": [0.9, value]} for value in (0.5, 0.5 + 1e-6)]
    with pytest.raises(BenchError, match="svc"):
        check("svc", [run("sequential", 1, result=scores[0]), run("ours", 1, result=scores[1])])


@pytest.mark.parametrize(
    ("ours", "busy", "expected", "not_expected"),
    [
        (2.0, 0.02, "None did.", "Under load"),
        (9.0, 0.02, "| our Dask backend | loky | 2.25 |", "Under load"),
        (9.0, 0.7, "**Under load:** others had up to 70% of the cores", "Others had at most"),
    ],
)
def test_the_page_says_where_dask_loses_and_what_ran_beside_it(ours, busy, expected, not_expected):
    where = {"cores": 2, "busyBefore": busy, "time": "2026-11-21T12:00:00", "processor": "p", "system": "s"}
    where |= {"python": "3", "packages": {"joblib": "1"}}
    runs = [run("sequential", 8), run("loky", 4, 2), run("ours", 8), run("ours", ours, 2)]
    results = {"svc": {"machine": where, "quick": False, "calls": 36, "runs": runs}}
    page = markdown(results, "command", "A note.", images="plots")
    assert expected in page
    assert not_expected not in page
    assert "A note." in page
    assert max(len(line) for line in page.splitlines() if not line.startswith("|")) <= 120
