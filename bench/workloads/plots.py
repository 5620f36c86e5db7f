"""The results as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from bench.backends import LOKY, OURS, UPSTREAM
from bench.workloads.cases import DASK_ML, DASK_ML_ALONE, ON_CLUSTER, SEQUENTIAL, TITLES, Case
from bench.workloads.figures import Spread, amdahl, contenders, median, of, ratios
from bench.workloads.report import PLOTS, Results, shown
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLORS = {LOKY: "#8c959f", UPSTREAM: "#bf8700", OURS: "#1f6feb", DASK_ML: "#8250df", DASK_ML_ALONE: "#cf222e"}


def plot(results: Results, folder: Path) -> list[Path]:
    """Draw PLOTS into a folder, which is made; gives the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / name for name in PLOTS]
    for file, figure in zip(files, (_speedups(results), _bytes(results)), strict=True):
        figure.savefig(file, dpi=110)
    return files


def _speedups(results: Results) -> Figure:
    cases = shown(results)
    columns = min(3, len(cases))
    rows = -(-len(cases) // columns)
    figure = Figure(figsize=(4.6 * columns, 4.1 * rows), layout="constrained")
    panels = np.ravel(figure.subplots(rows, columns, squeeze=False))
    for axes, case in zip(panels, cases, strict=False):
        _speedup(axes, case, results[case.name])
    for axes in panels[len(cases) :]:
        axes.axis("off")
    return figure


def _speedup(axes: Axes, case: Case, result: Any) -> None:
    runs, cores = result["runs"], result["machine"]["cores"]
    names = [name for name in dict.fromkeys(name for name, _ in contenders(runs)) if name != SEQUENTIAL]
    for name in names:
        layouts = [layout for each, layout in contenders(runs) if each == name]
        slots = [workers * threads for workers, threads in layouts]
        found = [ratios(runs, name, layout) for layout in layouts]
        if name == LOKY:  # with one process it is the sequential run
            slots, found = [1, *slots], [Spread(1, 1, 1), *found]
        middle = [each.middle for each in found]
        errors = [[each.middle - each.least for each in found], [each.most - each.middle for each in found]]
        style = {"color": COLORS[name], "label": TITLES[name], "capsize": 3}
        marker = "D" if name == DASK_ML_ALONE else "o"
        axes.errorbar(slots, middle, yerr=errors, marker=marker, markersize=5, linewidth=1.8, **style)
    _law(axes, case, result)
    most = max(workers * threads for _, (workers, threads) in contenders(runs))
    ticks = sorted({workers * threads for _, (workers, threads) in contenders(runs)})
    ideal = np.linspace(1, most, 100)
    axes.plot(ideal, np.minimum(ideal, cores) if case.busy else ideal, color="#d0d7de", linewidth=1, label="ideal")
    axes.axhline(1, color="black", linewidth=0.6)
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_ylim(bottom=0)
    axes.set_title(case.title, fontsize=10)
    axes.set_xlabel("worker threads" + (f" ({cores} cores)" if case.busy else " (tasks sleep)"))
    axes.set_ylabel("times faster than sequential")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=7)


def _law(axes: Axes, case: Case, result: Any) -> None:
    """Amdahl's law for our backend, as far as there are cores."""
    runs, cores = result["runs"], result["machine"]["cores"]
    fit = amdahl(case, runs, OURS, cores)
    if fit is None:
        return
    most = max(workers * threads for name, (workers, threads) in contenders(runs) if name == OURS)
    slots = np.linspace(1, min(most, cores) if case.busy else most, 50)
    base = median(runs, SEQUENTIAL, (1, 1), "seconds") / fit.one
    label = f"Amdahl, ours: {fit.serial:.0%} serial"
    axes.plot(slots, [base * fit.speedup(each) for each in slots], ":", color="#1f6feb", linewidth=1.2, label=label)


def _bytes(results: Results) -> Figure:
    cases = shown(results)
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots()
    layout = (2, 1)
    names = [name for name in (UPSTREAM, OURS, DASK_ML) if name in ON_CLUSTER]
    for index, name in enumerate(names):
        drawn = [(at, case) for at, case in enumerate(cases) if of(results[case.name]["runs"], name, layout)]
        places = [at + (index - 1) * 0.27 for at, _ in drawn]
        sizes = [median(results[case.name]["runs"], name, layout, "received") / 1e6 for _, case in drawn]
        bars = axes.bar(places, sizes, width=0.25, color=COLORS[name], label=TITLES[name])
        axes.bar_label(bars, fmt="%.2g", fontsize=7)
    axes.set_yscale("log")
    axes.set_xticks(range(len(cases)), [case.title.replace(", ", ",\n") for case in cases], fontsize=8)
    axes.set_ylabel("MB received by two workers in a run")
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    axes.legend(frameon=False)
    return figure
