"""Running the cases: times in interleaved rounds, memory in a fresh process each."""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import joblib
import psutil
from bench.backends import JOBLIB_NAMES, connected
from bench.joblib_backend.cases import BACKENDS, CASES, Case
from bench.processes import ENVIRONMENT, ROOT, cluster

WORKERS = 2


def run(case: Case, backend: str, *, quick: bool) -> float:
    """Seconds that a case takes under a backend."""
    call: Callable[[], Any] = case.quick if quick else case.run
    gc.collect()
    with joblib.parallel_config(JOBLIB_NAMES[backend]):
        start = time.perf_counter()
        call()
        return time.perf_counter() - start


def times(case: Case, backends: Iterable[str], *, quick: bool, rounds: int) -> dict[str, list[float]]:
    """Seconds of each round, after one warm-up with the quick size; the backends take turns."""
    found: dict[str, list[float]] = {backend: [] for backend in backends}
    for backend in found:
        run(case, backend, quick=True)
    for turn in range(rounds):
        for backend in list(found)[turn % len(found) :] + list(found)[: turn % len(found)]:
            found[backend].append(run(case, backend, quick=quick))
    return found


def peak_memory(case: Case, backend: str, address: str, *, quick: bool) -> int:
    """Bytes that the process at its largest held more than before the case: the process that a user's script is."""
    command = [
        sys.executable,
        "-m",
        "bench.joblib_backend.measure",
        case.name,
        backend,
        address,
        "quick" if quick else "full",
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | ENVIRONMENT, cwd=ROOT)
    return int(json.loads(done.stdout.splitlines()[-1]))


def _reset_peak() -> None:
    with open("/proc/self/clear_refs", "w") as file:  # noqa: PTH123 - a kernel's switch, not a file
        file.write("5")


def _peak_rss() -> int:
    with open("/proc/self/status") as file:  # noqa: PTH123 - as above
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) * 1024


def _measure_peak(case_name: str, backend: str, address: str, size: str) -> int:
    case = next(case for case in CASES if case.name == case_name)
    with connected(address, WORKERS):
        run(case, backend, quick=True)
        gc.collect()
        before = psutil.Process().memory_info().rss
        _reset_peak()
        run(case, backend, quick=size == "quick")
        return _peak_rss() - before


def measure(
    names: Iterable[str], *, quick: bool, rounds: int | None, memory: bool, say: Callable[[str], None]
) -> dict[str, Any]:
    """All results as JSON-ready values."""
    results: dict[str, Any] = {}
    with cluster(WORKERS) as running:
        for case in (case for case in CASES if case.name in names):
            with connected(running.address, WORKERS):
                seconds = times(case, BACKENDS, quick=quick, rounds=rounds or case.rounds)
            medians = {backend: statistics.median(taken) for backend, taken in seconds.items()}
            say(f"{case.title}: " + ", ".join(f"{backend} {median:.3f} s" for backend, median in medians.items()))
            results[case.name] = {"title": case.title, "seconds": seconds, "median": medians}
            if memory and case.memory:
                peaks = {backend: peak_memory(case, backend, running.address, quick=quick) for backend in BACKENDS}
                say(
                    "    peak memory: " + ", ".join(f"{backend} {peak / 1e6:.0f} MB" for backend, peak in peaks.items())
                )
                results[case.name]["peakMemoryBytes"] = peaks
    return results


if __name__ == "__main__":
    print(json.dumps(_measure_peak(*sys.argv[1:])))
