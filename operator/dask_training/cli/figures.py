"""Runs side by side, as figures: what each one says of the same thing. Pure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from dask_training.cli.amounts import cost_line
from dask_training.cli.run_records import RunRecords
from dask_training.cli.watch.text import duration, number, plain, size
from dask_training.runner.run_summary import AttemptSummary

Show: TypeAlias = Callable[[Any], str]
_LONGEST = 40
_NONE = "-"
_DEFAULT = "(default)"


@dataclass(frozen=True)
class Figure:
    """One thing that runs can be compared by: a value for each, None where it is not known, and how to show one.

    `relative`: its change is told in per cent. `absent` stands for what is not known.
    """

    section: str
    name: str
    values: tuple[Any, ...]
    show: Show = number
    relative: bool = True
    absent: str = _NONE

    @property
    def differs(self) -> bool:
        """Whether the runs do not all say the same."""
        return any(value != self.values[0] for value in self.values[1:])

    def cells(self) -> list[str]:
        """The values, for people."""
        return [self.absent if value is None else _short(self.show(value)) for value in self.values]

    def change(self) -> str:
        """From the first run to the last, where both are numbers; "" where they are equal or nothing to subtract."""
        first, last = self.values[0], self.values[-1]
        if not (_is_number(first) and _is_number(last)) or first == last:
            return ""
        if not self.relative:
            return f"{last - first:+,.4g}"
        return f"{100 * (last - first) / abs(first):+,.0f} %" if first else ""


def figures(runs: Sequence[RunRecords]) -> list[Figure]:
    """All figures of these runs that any of them knows; of packages and specs those that differ."""
    found = [
        figure for figure in (*_of_result(runs), *_of_work(runs)) if any(each is not None for each in figure.values)
    ]
    packages, specs = [run.packages for run in runs], [run.spec for run in runs]
    found += [each for each in _by_name("Packages", packages, plain) if each.differs and all(packages)]
    jobs = [dataclasses.replace(each, absent=_DEFAULT) for each in _by_name("Job", specs, _as_json)]
    found += [each for each in jobs if each.differs and all(specs)]
    return found


def notes(runs: Sequence[RunRecords]) -> list[str]:
    """What has to be known to read the figures."""
    said = []
    bases = [run.summary.resource_basis for run in runs]
    if len(set(bases)) > 1:
        said.append(
            "resource seconds are of two kinds: what pods reserved on a cluster, and what processes used on a machine"
        )
    currencies = {run.summary.cost.currency for run in runs if run.summary.cost}
    if len(currencies) > 1:
        said.append(f"costs are in different currencies: {', '.join(sorted(currencies))}")
    said += [
        f"{run.name} has no record of its tasks: its scheduler was lost" for run in runs if run.summary.tasks is None
    ]
    return said


def _of_result(runs: Sequence[RunRecords]) -> Iterator[Figure]:
    summaries = [run.summary for run in runs]
    yield _figure("Result", "reason", summaries, lambda each: each.reason, show=plain)
    yield _figure("Result", "exit code", summaries, lambda each: each.exit_code, relative=False)
    for figure in _by_name("Metrics", [run.summary.metrics for run in runs], number):
        yield Figure(figure.section, figure.name, figure.values, number, relative=False)


def _of_work(runs: Sequence[RunRecords]) -> Iterator[Figure]:
    summaries = [run.summary for run in runs]

    def of(section: str, name: str, get: Callable[[AttemptSummary], Any], show: Show = number) -> Figure:
        return _figure(section, name, summaries, get, show=show)

    yield of("Time", "startup", lambda run: run.timings.startup, duration)
    yield of("Time", "script", lambda run: run.timings.script, duration)
    yield of("Time", "total", lambda run: run.timings.total, duration)
    yield of("Workers", "replicas", lambda run: run.workers.replicas)
    yield of("Workers", "threads", lambda run: run.workers.threads)
    yield of("Workers", "restarts", lambda run: run.workers.restarts or None)
    yield of("Workers", "lost", lambda run: run.workers.lost or None)
    yield of("Workers", "busy", _busy_share, lambda share: f"{100 * share:.0f} %")
    yield of("Tasks", "done", lambda run: run.tasks and run.tasks.done)
    yield of("Tasks", "failed", lambda run: (run.tasks and run.tasks.failed) or None)
    yield of("Tasks", "mean time", lambda run: run.tasks and run.tasks.mean_seconds, _short_time)
    yield of("Tasks", "joblib tasks", lambda run: (run.joblib and run.joblib.tasks) or None)
    yield of("Data", "received by workers", lambda run: run.moved and run.moved.received, size)
    yield of("Data", "put by the script", lambda run: run.moved and run.moved.scattered, size)
    yield of("Data", "spilled to disk", lambda run: (run.moved and run.moved.spilled) or None, size)
    yield of("Data", "peak of a worker", lambda run: run.moved and run.moved.peak_worker_memory, size)
    yield of("Resources", "CPU seconds", lambda run: run.resource_seconds.cpu, _whole)
    yield of("Resources", "GiB seconds", lambda run: run.resource_seconds.memory_gib, _whole)
    yield of("Resources", "GPU seconds", lambda run: run.resource_seconds.gpu or None, _whole)
    yield _cost(summaries)


def _cost(summaries: Sequence[AttemptSummary]) -> Figure:
    costs = [each.cost for each in summaries]
    currencies = {cost.currency for cost in costs if cost is not None}
    if len(currencies) > 1:
        shown = tuple(cost and cost_line({"amount": cost.amount, "currency": cost.currency}) for cost in costs)
        return Figure("Resources", "cost", shown, str)
    currency = next(iter(currencies), "")
    amounts = tuple(float(cost.amount) if cost else None for cost in costs)
    return Figure("Resources", "cost", amounts, lambda amount: cost_line({"amount": amount, "currency": currency}))


def _figure(
    section: str,
    name: str,
    summaries: Sequence[AttemptSummary],
    get: Callable[[AttemptSummary], Any],
    *,
    show: Show = number,
    relative: bool = True,
) -> Figure:
    return Figure(section, name, tuple(get(each) for each in summaries), show, relative)


def _busy_share(run: AttemptSummary) -> float | None:
    threads = run.thread_seconds
    return min(threads.busy / threads.available, 1.0) if threads and threads.available else None


def _by_name(section: str, tables: Sequence[Mapping[str, Any]], show: Show) -> list[Figure]:
    names = dict.fromkeys(name for table in tables for name in table)
    return [Figure(section, plain(name), tuple(table.get(name) for table in tables), show) for name in names]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_json(value: Any) -> str:
    return plain(value if isinstance(value, str) else json.dumps(value))


def _short_time(seconds: float) -> str:
    return duration(seconds) if seconds >= 1 else f"{seconds * 1000:,.3g} ms"


def _whole(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 10 else f"{amount:,.2f}"


def _short(text: str) -> str:
    first = text.split("\n", 1)[0]
    return first if len(first) <= _LONGEST else f"{first[: _LONGEST - 1]}…"
