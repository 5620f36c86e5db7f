"""The results as a Markdown page."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from bench.backends import LOKY, OURS, UPSTREAM
from bench.machine import colophon
from bench.workloads.cases import CASES, DASK_ML, DASK_ML_ALONE, ON_CLUSTER, SEQUENTIAL, TITLES, Case, Layout
from bench.workloads.figures import ALONE, Amdahl, Cost, Spread, amdahl, contenders, cost, median, of, ratios

BUSY = 0.1  # share of the cores taken by others, from which on a run counts as one under load
PLOTS = {
    "workloads-speedup.png": "Speed-up over the sequential run against the number of workers",
    "workloads-bytes.png": "Bytes received by the workers",
}
Results = Mapping[str, Any]  # case -> what `measure` found


def shown(results: Results) -> list[Case]:
    """The cases that there are results of, in their order."""
    return [case for case in CASES if case.name in results]


def markdown(results: Results, command: str, note: str, images: str) -> str:
    """The page that docs/benchmarks keeps; `images` is the plots' folder, seen from it."""
    cores = max(result["machine"]["cores"] for result in results.values())
    lines = [
        "# The blogs' workloads, measured",
        "",
        *_prose(f"""
            The examples that people know Dask's training from, each done sequentially, by joblib's processes (loky),
            by joblib's own Dask backend, by [ours](../joblib-backend.md) and, where it applies, by dask_ml's search
            ([repaired](../dask-ml.md)). Clusters of 1, 2 and 4 workers of one thread: separate processes, no nanny,
            loopback TCP, everything warm, a new client for each run, so that data travel each time. Contenders take
            turns; all others are paused. The machine has {cores} cores: **with more workers than that it is
            oversubscribed**, which shows what too many workers cost and not how as many cores would do. All
            contenders find the same best candidate and the same scores, or the program ends with an error.
            """),
        *_loaded(results),
        *_prose(f"""
            Seconds are medians. *Times faster* is the sequential run's time over this one's in the same round:
            median (least - most). *Efficiency* is that over the number of workers, of which at most {cores} have a
            core. *Received* are all bytes that came in on the workers' connections, *put* those of data that the
            script's process sent to workers ahead of tasks, once for each copy; *tasks* are Dask's, each often a
            batch of joblib's calls. Medians.
            """),
    ]
    for name, title in PLOTS.items():
        lines += [f"![{title}]({images}/{name})", ""]
    for case in shown(results):
        lines += _case(case, results[case.name], cores)
    lines += _losses(results, cores)
    last = results[shown(results)[-1].name]
    *made, end = colophon(last["machine"], command)
    return "\n".join(line.rstrip() for line in [*lines, *made, f"{end} {note}".rstrip(), ""])


def _loaded(results: Results) -> Iterable[str]:
    most = max(results[case.name]["machine"]["busyBefore"] for case in shown(results))
    quick = [case.title for case in shown(results) if results[case.name]["quick"]]
    if quick:
        yield from _prose(f"**Tiny sizes, to see that the program works; no measurement:** {'; '.join(quick)}.")
    if most > BUSY:
        yield from _prose(
            f"""
            **Under load:** others had up to {most:.0%} of the cores when a case began. The ratios within a round
            bear that better than the seconds, and neither well.
            """
        )
    else:
        yield from _prose(f"Others had at most {most:.0%} of the cores when a case began.")


def _case(case: Case, result: Mapping[str, Any], cores: int) -> Iterable[str]:
    runs, calls = result["runs"], result["calls"]
    rounds = len(of(runs, SEQUENTIAL))
    yield from (f"## {case.title}", "", *_prose(case.about))
    length = median(runs, SEQUENTIAL, ALONE, "seconds") / calls
    yield f"{calls} calls of {_duration(length)} each; {'one round' if rounds == 1 else f'{rounds} rounds'}."
    yield ""
    counted = [kind for kind in ("preprocessing", "model") if any(run["fits"].get(kind) for run in runs)]
    titles = {"preprocessing": "fits of preprocessing", "model": "fits of the model"}
    yield _row(
        "",
        "workers",
        "s",
        "times faster",
        "efficiency",
        *(titles[kind] for kind in counted),
        "tasks",
        "received",
        "put",
    )
    yield _row("---", *["---:"] * (7 + len(counted)))
    for name, layout in contenders(runs):
        yield _line(case, runs, name, layout, counted, cores)
    yield ""
    yield from _amdahl(case, runs, cores)
    yield from _said(runs)


def _line(case: Case, runs: Any, name: str, layout: Layout, counted: list[str], cores: int) -> str:
    first, speed = of(runs, name, layout)[0], ratios(runs, name, layout)
    workers = "-" if name in {SEQUENTIAL, DASK_ML_ALONE} else _layout(layout)
    slots = layout[0] * layout[1]
    fair = min(slots, cores) if case.busy else slots
    traffic = ["-"] * 3
    if name in ON_CLUSTER:
        traffic = [
            f"{median(runs, name, layout, 'tasks'):.0f}",
            _bytes(median(runs, name, layout, "received")),
            _bytes(median(runs, name, layout, "scattered")),
        ]
    return _row(
        TITLES[name],
        workers,
        f"{median(runs, name, layout, 'seconds'):.2f}",
        _spread(speed),
        f"{speed.middle / fair:.0%}",
        *(str(first["fits"].get(kind, 0)) for kind in counted),
        *traffic,
    )


def _amdahl(case: Case, runs: Any, cores: int) -> Iterable[str]:
    fits = {name: amdahl(case, runs, name, cores) for name, _ in contenders(runs) if name in {LOKY, *ON_CLUSTER}}
    told = [f"{TITLES[name]} {_serial(fit)}" for name, fit in fits.items() if fit]
    if told:
        up_to = f"up to {cores} workers" if case.busy else "all numbers of workers"
        yield from _prose(
            f"""
            Amdahl's law, fitted by least squares to all rounds with {up_to}; the share of one worker's time that
            stays serial (in brackets: how far off the fit is): {", ".join(told)}.
            """
        )


def _serial(fit: Amdahl) -> str:
    return f"{fit.serial:.0%} ({fit.error:.0%})"


def _said(runs: Any) -> Iterable[str]:
    """What the figures of this case say about the blogs' claims."""
    names = {name for name, _ in contenders(runs)}
    alone = of(runs, UPSTREAM)
    if alone and not any(run["tasks"] for run in alone):
        yield from _prose(
            """
            With one worker of one thread, joblib's own Dask backend sends nothing to it: it computes in the script's
            process.
            """
        )
    failures = [failure for run in runs for failure in run.get("failures", [])]
    if failures:
        kinds = sorted({failure.split(":")[0] for failure in failures})
        yield from _prose(
            f"""joblib's own Dask backend failed {len(failures)} times ({", ".join(kinds)}) and was run again; the
            times are those of the runs that did not fail."""
        )
    if DASK_ML_ALONE in names:
        fewer = [of(runs, name)[0]["fits"].get("preprocessing", 0) for name in (SEQUENTIAL, DASK_ML_ALONE)]
        yield from _prose(
            f"""
            In a single process dask_ml's search took {1 / ratios(runs, DASK_ML_ALONE, ALONE).middle:.2f} of
            scikit-learn's time, with {fewer[1]} fits of preprocessing in the place of {fewer[0]}.
            """
        )


def _losses(results: Results, cores: int) -> Iterable[str]:
    yield from ("## Where Dask loses, and why", "")
    yield from _prose(
        """
            Runs on a cluster of as many workers as there are cores that took longer than the best that needs no
            cluster. A call's *work* is its share of the sequential run; its *overhead* is what it took beyond that
            work spread over the cores, which has in it what stays serial (the refit of a search's best candidate).
            """
    )
    rows = [row for case in shown(results) for row in _lost(case, results[case.name], cores)]
    if rows:
        yield _row("", "on the cluster", "the best without", "times its time", "work of a call", "overhead", "received")
        yield _row("---", "---", "---", *["---:"] * 4)
        yield from rows
    else:
        yield "None did."
    yield ""
    yield from _prose(
        """
            A call that goes to a worker is pickled, sent, scheduled and unpickled, and its result comes back the
            same way; data that loky's processes map from shared memory go through a socket to workers. That is
            nothing where the call's work is many times its overhead, and decides where it is not. dask_ml's search
            sends each fit, each score and each split of the data as tasks of their own: it gains where what it
            leaves out (fits of preprocessing) is much work, and loses where it is none. And on one machine a cluster
            can't win by much: it has the same cores as loky. [When not to use this](../when-not-to-use.md) says what
            to take.
            """
    )


def _lost(case: Case, result: Mapping[str, Any], cores: int) -> Iterable[str]:
    runs, calls = result["runs"], result["calls"]
    layout = (min(cores, max(workers for _, (workers, threads) in contenders(runs) if threads == 1)), 1)
    others = [each for each in contenders(runs) if each[0] not in ON_CLUSTER and each[1] in {ALONE, layout}]
    best = min(others, key=lambda each: median(runs, *each, "seconds"))
    for name in (OURS, UPSTREAM, DASK_ML):
        if not of(runs, name, layout):
            continue
        slower = 1 / ratios(runs, name, layout, *best).middle
        if slower > 1:
            paid: Cost = cost(runs, name, layout, calls, cores)
            yield _row(
                case.title,
                TITLES[name],
                TITLES[best[0]],
                f"{slower:.2f}",
                _duration(paid.work),
                _duration(paid.overhead),
                _bytes(paid.received),
            )


def _prose(text: str) -> Iterable[str]:
    """A paragraph, and an empty line after it."""
    yield from textwrap.wrap(" ".join(text.split()), 118, break_long_words=False, break_on_hyphens=False)
    yield ""


def _layout(layout: Layout) -> str:
    workers, threads = layout
    return str(workers) if threads == 1 else f"{workers} x {threads}"


def _spread(spread: Spread) -> str:
    if spread.least == spread.most:
        return f"{spread.middle:.2f}"
    return f"{spread.middle:.2f} ({spread.least:.2f} - {spread.most:.2f})"


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if abs(seconds) < 1 else f"{seconds:.2f} s"


def _bytes(number: float) -> str:
    return f"{number / 1e6:.1f} MB" if number >= 1e5 else f"{number / 1e3:.1f} kB"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
