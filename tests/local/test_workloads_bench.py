"""The workloads' benchmark works: all contenders do the same work, and its files can be read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.image import imread

ROOT = Path(__file__).parents[2]
CASES = ["svc", "pca", "slowinc", "taxi", "wine"]
ON_CLUSTER = {"upstream", "ours", "dask_ml"}


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workloads")
    command = [sys.executable, "-m", "bench.workloads", "--quick", "--output", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=560)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def found(output):
    return {name: json.loads((output / f"{name}.json").read_text()) for name in CASES}


def runs(found, case, contender):
    return [run for run in found[case]["runs"] if run["contender"] == contender]


@pytest.mark.timeout(600)
def test_all_contenders_find_the_same(found):
    for name in CASES:
        results = [run["result"] for run in found[name]["runs"]]
        if name == "slowinc":
            assert all(result == {"values": list(range(1, 11))} for result in results)
            continue
        assert len({str(sorted(result["bestParams"].items())) for result in results}) == 1, name
        for result in results:
            assert result["meanScores"] == pytest.approx(results[0]["meanScores"], abs=1e-9), name
            assert result["bestScore"] == pytest.approx(max(result["meanScores"]), abs=1e-9), name
        assert 0.5 < results[0]["bestScore"] <= 1, name


def test_each_case_has_its_contenders(found):
    joblib = {"sequential", "loky", "upstream", "ours"}
    assert {name: {run["contender"] for run in found[name]["runs"]} - joblib for name in CASES} == {
        "svc": {"dask_ml"},
        "pca": {"dask_ml", "dask_ml alone"},
        "slowinc": set(),
        "taxi": {"dask_ml", "dask_ml alone"},
        "wine": {"dask_ml"},
    }
    for result in found.values():
        assert {run["contender"] for run in result["runs"]} >= joblib
        for contender in ON_CLUSTER & {run["contender"] for run in result["runs"]}:
            assert [run["workers"] for run in result["runs"] if run["contender"] == contender] == [2]


def test_dask_ml_fits_the_taxi_preprocessing_once_for_each_fold_and_the_best(found):
    expected = {"preprocessing": 12 * 3 + 1, "model": 12 * 3 + 1}
    for contender in ("sequential", "loky", "upstream", "ours"):
        assert [run["fits"] for run in runs(found, "taxi", contender)][-1] == expected
    for contender in ("dask_ml", "dask_ml alone"):
        assert [run["fits"] for run in runs(found, "taxi", contender)][-1] == expected | {"preprocessing": 3 + 1}


def test_bytes_and_tasks_are_those_of_the_runs(found):
    data = 200 * 20 * 8  # the small SVC grid's: rows, columns, bytes of a number
    [ours], [upstream], [dask_ml] = (runs(found, "svc", name) for name in ("ours", "upstream", "dask_ml"))
    assert 2 * data <= ours["scattered"] <= 4 * data  # a copy for each worker
    assert ours["received"] >= ours["scattered"]
    assert 2 <= ours["tasks"] <= 6 * 3
    assert upstream["tasks"] >= 2
    assert dask_ml["tasks"] >= 6 * 3
    assert dask_ml["received"] >= data
    assert all("received" not in run for run in runs(found, "svc", "loky"))


def test_the_page_has_all_cases_and_its_plots(output, found):
    page = (output / "workloads.md").read_text()
    assert page.count("\n## ") == len(CASES) + 1
    assert "**Tiny sizes, to see that the program works; no measurement:**" in page
    assert "with 4 fits of preprocessing in the place of 37" in " ".join(page.split())
    assert "80 cores were not run" in page
    tables = [line for line in page.splitlines() if line.startswith("|")]
    assert sum(line.startswith("| our Dask backend |") for line in tables) == len(CASES)
    for name in ("workloads-speedup.png", "workloads-bytes.png"):
        assert f"](plots/{name})" in page
        picture = imread(output / "plots" / name)
        assert min(picture.shape[:2]) > 300
        assert picture[..., :3].std() > 0.01  # something is drawn


def test_table_and_plots_are_made_again_from_the_files_of_the_cases(output):
    kept = output / "workloads.md"
    before = kept.read_text()
    kept.unlink()
    command = [sys.executable, "-m", "bench.workloads", "--again", "--output", str(output)]
    subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    assert kept.read_text() == before
