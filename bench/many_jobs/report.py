"""The results as a Markdown page. Pure."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.machine import colophon

# What the project's design asks for with a thousand jobs: milliseconds, seconds and megabytes.
IDLE_MS, MANY_MS, PODS_SECONDS = 50, 1000, 60
MEMORY_MB = {"idle": 110, "many": 180, "most": 330}


def percentile(values: Sequence[float], share: float) -> float:
    """The least of sorted values that so large a share of them does not exceed."""
    return values[max(0, math.ceil(share * len(values)) - 1)]


def figures(found: Mapping[str, Any]) -> Iterable[tuple[str, float, float, str]]:
    """Each figure to reach: what, what was measured, at the most what, the unit."""
    jobs, more = found["jobs"], found["suspended"]
    pods = f"{jobs:,} jobs applied at once -> all {4 * jobs:,} pods made"
    described = {"idle": "no jobs", "many": f"{jobs:,} running", "most": f"{more:,} suspended jobs more"}
    yield "a job is there -> first write, nothing else to do, p99", _p99(found["idle"]), IDLE_MS, "ms"
    yield f"the same with {jobs:,} jobs running, p99", _p99(found["many"]), MANY_MS, "ms"
    yield pods, found["burst"]["podsSeconds"], PODS_SECONDS, "s"
    for when, what in described.items():
        yield f"the operator's memory with {what}", found[when]["memory"] / 1e6, MEMORY_MB[when], "MB"


def _p99(part: Mapping[str, Any]) -> float:
    return 1000 * percentile(part["latencies"], 0.99)


def markdown(found: Mapping[str, Any], command: str, note: str) -> str:
    """The page that docs/benchmarks keeps."""
    where = found["machine"]
    *made, last = colophon(where, command, f"kind with Kubernetes {where['kubernetes']},")
    parts = [
        "# Many jobs at once, measured",
        _paragraph(
            "The operator as the chart installs it, newly started, and jobs with two workers each, whose pods come to",
            "nodes of [kwok](https://kwok.sigs.k8s.io): they are said to run, and there are none. All else is real:",
            "API server, etcd, scheduler and garbage collector, which share the machine's cores with the operator and",
            "the benchmark. Nothing answers when the operator asks the jobs' schedulers how far they are, which is the",
            "worst that can be.",
        ),
        "\n".join(_figure_table(found)),
        _paragraph(
            "The first write is the job's status, as a watch beside the operator sees it; p99 of",
            f"{len(found['idle']['latencies'])} jobs that come one after the other. Memory is what the operator's",
            "process holds (VmRSS) when all has come to rest.",
        ),
        _paragraph(*_course(found)),
        "\n".join(_pod_table(found["burst"]["podsAfter"])),
        _paragraph(*_shares(burst_of=found["burst"], cores=where["cores"])),
        f"Others had {found['busyBefore']:.0%} of the cores before it began.",
        "\n".join([*made, f"{last} {note}".rstrip()]),
    ]
    return "\n\n".join(parts) + "\n"


def _paragraph(*text: str) -> str:
    return textwrap.fill(" ".join(text), 118, break_long_words=False, break_on_hyphens=False)


def _figure_table(found: Mapping[str, Any]) -> Iterable[str]:
    yield "| what | figure to reach | measured | reached |"
    yield "| --- | ---: | ---: | --- |"
    for what, value, limit, unit in figures(found):
        reached = "yes" if value <= limit else "no"
        yield f"| {what} | {limit:g} {unit} | {value:.{0 if value >= 10 else 1}f} {unit} | {reached} |"


def _course(found: Mapping[str, Any]) -> Iterable[str]:
    burst, jobs = found["burst"], found["jobs"]
    peak, all_jobs = found["most"]["peakMemory"] / 1e6, jobs + found["suspended"]
    median, p99 = (percentile(burst["latencies"], share) for share in (0.5, 0.99))
    yield f"The {jobs:,} jobs were created within {burst['appliedSeconds']:.1f} s, {burst['requestsAtOnce']} requests"
    yield f"at once; each had its first write after {median:.1f} s (median; p99 {p99:.1f} s). The operator's process"
    yield f"held {peak:.0f} MB at the most, and was started again {found['restarts']} times."
    yield f"Deleted with all {all_jobs:,} jobs, the namespace was gone after {found['goneSeconds']:.0f} s."


def _shares(burst_of: Mapping[str, Any], cores: int) -> Iterable[str]:
    """Who had the cores until the last pod was there."""
    spent = sorted(burst_of["cpuSeconds"].items(), key=lambda each: -each[1])
    total = sum(seconds for _, seconds in spent)
    told = ", ".join(f"{name} {seconds:.0f}" for name, seconds in spent if seconds >= 0.01 * total)
    yield f"CPU seconds until the last pod was there: {total:.0f} of {cores * burst_of['podsSeconds']:.0f} that {cores}"
    yield f"cores have in that time: {told}."


def _pod_table(counts: Sequence[tuple[float, int]]) -> Iterable[str]:
    """About ten of them, the last among them."""
    yield "| s after the first request | pods that are there |"
    yield "| ---: | ---: |"
    for seconds, number in counts[len(counts) // 10 - 1 :: max(1, len(counts) // 10)]:
        yield f"| {seconds:.1f} | {number:,} |"
