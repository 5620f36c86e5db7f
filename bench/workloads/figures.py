"""What follows from the runs of a case: speed-ups within a round, Amdahl's serial share, the overhead of a call."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from bench.backends import LOKY
from bench.workloads.cases import ON_CLUSTER, SEQUENTIAL, Case, Layout
from scipy.optimize import nnls

Run = Mapping[str, Any]
ALONE: Layout = (1, 1)


@dataclass(frozen=True)
class Spread:
    """Some rounds' values."""

    middle: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Median, minimum and maximum of at least one value."""
        found = list(values)
        return cls(statistics.median(found), min(found), max(found))


@dataclass(frozen=True)
class Amdahl:
    """t(n) = one * (serial + (1 - serial) / n), fitted to all rounds; `error`: root mean square, as a share of t(1)."""

    one: float
    serial: float
    error: float

    def speedup(self, slots: float) -> float:
        """Against one slot of the same contender."""
        return 1 / (self.serial + (1 - self.serial) / slots)


def contenders(runs: Sequence[Run]) -> list[tuple[str, Layout]]:
    """Which there are, in the order in which they were measured first."""
    return list(dict.fromkeys((run["contender"], (run["workers"], run["threads"])) for run in runs))


def of(runs: Sequence[Run], name: str, layout: Layout = ALONE) -> list[Run]:
    """The runs of a contender with a layout, by round."""
    found = [run for run in runs if (run["contender"], run["workers"], run["threads"]) == (name, *layout)]
    return sorted(found, key=lambda run: run["round"])


def ratios(runs: Sequence[Run], name: str, layout: Layout, base: str = SEQUENTIAL, at: Layout = ALONE) -> Spread:
    """How many times faster it was than the base in the same round."""
    pairs = zip(of(runs, base, at), of(runs, name, layout), strict=True)
    return Spread.of(other["seconds"] / run["seconds"] for other, run in pairs)


def median(runs: Sequence[Run], name: str, layout: Layout, key: str) -> float:
    """The median of a figure."""
    return statistics.median(run[key] for run in of(runs, name, layout))


def amdahl(case: Case, runs: Sequence[Run], name: str, cores: int) -> Amdahl | None:
    """The fit by least squares; None with a single number of slots.

    Where tasks need a core each, only slots that have one count: beyond them, Amdahl's law says nothing.
    """
    points = [
        (run["workers"] * run["threads"], run["seconds"])
        for run in runs
        if run["contender"] == name or (name == LOKY and run["contender"] == SEQUENTIAL)
    ]
    points = [(slots, seconds) for slots, seconds in points if slots <= cores or not case.busy]
    if len({slots for slots, _ in points}) < 2:
        return None
    slots, seconds = np.array(points, dtype=float).T
    terms = np.column_stack([np.ones_like(slots), 1 / slots])
    (fixed, shared), _ = nnls(terms, seconds)
    one = fixed + shared
    error = float(np.sqrt(np.mean((terms @ [fixed, shared] - seconds) ** 2)) / one)
    return Amdahl(float(one), float(fixed / one), error)


@dataclass(frozen=True)
class Cost:
    """What a joblib call costs a contender beyond the work: seconds, and bytes that workers receive."""

    work: float
    overhead: float
    received: float


def cost(runs: Sequence[Run], name: str, layout: Layout, calls: int, cores: int) -> Cost:
    """Per call: the sequential run's seconds, and how much longer than its fair share of cores the contender took."""
    work = median(runs, SEQUENTIAL, ALONE, "seconds") / calls
    slots = layout[0] * layout[1]
    taken = median(runs, name, layout, "seconds") / calls
    received = median(runs, name, layout, "received") / calls if name in ON_CLUSTER else 0.0
    return Cost(work, taken - work / min(slots, cores), received)
