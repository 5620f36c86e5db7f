"""Running a case: its contenders take turns, each with a client of its own, and must all find the same."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib
import psutil
from bench.backends import JOBLIB_NAMES, LOKY, UPSTREAM, connected
from bench.machine import machine
from bench.processes import Cluster, cluster
from bench.workloads import counted
from bench.workloads.cases import DASK_ML, DASK_ML_ALONE, ON_CLUSTER, SEQUENTIAL, Case, Layout
from bench.workloads.searches import Result, Search, Workload, same
from bench.workloads.traffic import moved

from dask_training import dask_ml_compat

PACKAGES = ("joblib", "distributed", "dask-ml", "scikit-learn", "numpy")
LIMIT_SECONDS = 90  # of a run; on a machine of its own none takes a tenth of it
MOST_FAILURES = 3  # of joblib's own Dask backend, in a run: with calls inside calls it loses one now and then
Clusters = Mapping[Layout, Cluster]
Contender = tuple[str, Layout]


class BenchError(Exception):
    """What was measured is not what should have been."""


def measure(
    cases: Iterable[Case], *, quick: bool, rounds: int | None, say: Callable[[str], None]
) -> Iterator[tuple[Case, dict[str, Any]]]:
    """Each case with all that was measured of it, as JSON-ready values, as soon as it is.

    Raises BenchError if a contender finds something else than the others.
    """
    chosen = list(cases)
    layouts = {layout for case in chosen for layout in _layouts(case, quick=quick)}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        os.environ[counted.FOLDER] = folder  # all processes inherit it
        launcher = "bench.workloads.counted_process"
        clusters = {each: stack.enter_context(cluster(*each, launcher=launcher)) for each in sorted(layouts)}
        for (workers, _), each in clusters.items():
            with connected(each.address, workers) as client:
                dask_ml_compat.install(client)
        for case in chosen:
            say(case.title)
            yield case, _measure(case, clusters, quick=quick, rounds=rounds, say=say)


def _layouts(case: Case, *, quick: bool) -> tuple[Layout, ...]:
    return ((2, 1),) if quick else case.layouts


def _measure(
    case: Case, clusters: Clusters, *, quick: bool, rounds: int | None, say: Callable[[str], None]
) -> dict[str, Any]:
    where = machine(PACKAGES) | {"busyBefore": psutil.cpu_percent(interval=0.2 if quick else 1.0) / 100}
    small, workload = case.quick(), case.quick() if quick else case.make()
    contenders = _contenders(case, _layouts(case, quick=quick))
    if not quick:
        for contender in contenders:
            _one(contender, clusters, small)
    found: list[dict[str, Any]] = []
    for turn in range(rounds or (1 if quick else case.rounds)):
        for contender in contenders[turn % len(contenders) :] + contenders[: turn % len(contenders)]:
            if contender[0] == LOKY and not quick:
                _start_loky(contender[1])  # another number of processes was used last
            found.append({"round": turn} | _one(contender, clusters, workload))
            say(f"  {_told(found[-1])}")
    check(case.name, found)
    return {"machine": where, "quick": quick, "calls": workload.calls, "runs": found}


def check(name: str, runs: Sequence[Mapping[str, Any]]) -> None:
    """Raises BenchError if a run found something else than the first."""
    first = runs[0]
    for run in runs:
        if not same(run["result"], first["result"]):
            raise BenchError(f"{name}: {_told(run)} found {run['result']}, but {_told(first)} {first['result']}")


def _contenders(case: Case, layouts: tuple[Layout, ...]) -> list[Contender]:
    """Each with each layout that makes a difference to it; loky with one process is the sequential run."""
    chosen: list[Contender] = []
    for name in case.contenders:
        if name in ON_CLUSTER:
            chosen += [(name, layout) for layout in layouts]
        elif name == LOKY:
            chosen += [(name, layout) for layout in layouts if layout != (1, 1)]
        else:
            chosen.append((name, (1, 1)))
    return chosen


def _one(contender: Contender, clusters: Clusters, workload: Workload) -> dict[str, Any]:
    """One run, all other clusters paused: its seconds, what it found, and what it cost."""
    name, (workers, threads) = contender
    told = {"contender": name, "workers": workers, "threads": threads}
    with contextlib.ExitStack() as stack:
        for layout, each in clusters.items():
            if name not in ON_CLUSTER or layout != (workers, threads):
                stack.enter_context(each.paused())
        if name not in ON_CLUSTER:
            return told | _timed(lambda: _call(name, workers * threads, workload))
        client = stack.enter_context(connected(clusters[workers, threads].address, workers))
        failures: list[str] = []
        while True:
            before = moved(client)
            try:
                told |= _timed(lambda: _call(name, workers * threads, workload))
            except Exception as error:
                if name != UPSTREAM or len(failures) == MOST_FAILURES:
                    raise
                failures.append(f"{type(error).__name__}: {error}")
                continue
            after = moved(client)
            return told | {"failures": failures} | {key: after[key] - before[key] for key in after}


def _start_loky(layout: Layout) -> None:
    """All of loky's processes, each with the imports of this module: it starts them as tasks come."""
    number = layout[0] * layout[1]
    with tempfile.TemporaryDirectory() as folder, joblib.parallel_config("loky", n_jobs=number):
        joblib.Parallel(batch_size=1)(joblib.delayed(_meet)(Path(folder), number) for _ in range(number))


def _meet(folder: Path, number: int) -> None:
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + LIMIT_SECONDS
    while len(list(folder.iterdir())) < number and time.monotonic() < deadline:
        time.sleep(0.01)


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Raises TimeoutError in what takes too long: a call whose tasks are lost may wait for ever."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"not done after {LIMIT_SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _timed(call: Callable[[], Result]) -> dict[str, Any]:
    fits = counted.fits()
    gc.collect()
    with _limited():
        start = time.perf_counter()
        result = call()
        seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "fits": {kind: number - fits.get(kind, 0) for kind, number in counted.fits().items()},
        "result": result,
    }


def _call(name: str, slots: int, workload: Workload) -> Result:
    if name in {DASK_ML, DASK_ML_ALONE}:
        assert isinstance(workload, Search)
        return workload.with_dask_ml("synchronous" if name == DASK_ML_ALONE else None)
    with joblib.parallel_config(JOBLIB_NAMES.get(name, SEQUENTIAL), n_jobs=slots if name == LOKY else -1):
        return workload.with_joblib()


def _told(run: Mapping[str, Any]) -> str:
    return f"round {run['round'] + 1}, {run['contender']}, {run['workers']} x {run['threads']}: {run['seconds']:.2f} s"
