"""The benchmark's command works."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.timeout(240)
def test_the_quick_benchmark_measures_all_backends(tmp_path):
    command = [sys.executable, "-m", "bench.joblib_backend", "--quick", "--no-memory", "--output", str(tmp_path)]
    cases = ["sleep", "forest-grid"]
    for case in cases:
        command += ["--only", case]
    subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    [file] = tmp_path.glob("*.json")
    found = json.loads(file.read_text())
    assert list(found["results"]) == cases
    for result in found["results"].values():
        assert set(result["median"]) == {"ours", "upstream", "loky", "threading"}
        assert all(seconds > 0 for seconds in result["median"].values())
    assert found["machine"]["cores"] >= 1


@pytest.mark.timeout(300)
def test_the_quick_benchmark_measures_memory_and_prints_a_table(tmp_path):
    command = [sys.executable, "-m", "bench.joblib_backend", "--quick", "--only", "noop", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    [file] = tmp_path.glob("*.json")
    peaks = json.loads(file.read_text())["results"]["noop"]["peakMemoryBytes"]
    assert set(peaks) == {"ours", "upstream", "loky", "threading"}
    assert all(0 <= peak < 500_000_000 for peak in peaks.values())
    assert "| 2,000 no-op tasks | 1 |" in done.stdout
    assert "not above upstream's" in done.stdout
