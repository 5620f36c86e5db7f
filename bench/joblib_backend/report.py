"""The results as a Markdown page."""

from __future__ import annotations

from typing import Any

from bench.backends import OURS, UPSTREAM
from bench.joblib_backend.cases import BACKENDS, CASES, Case
from bench.machine import colophon

PACKAGES = ("joblib", "distributed", "scikit-learn", "numpy")


def verdicts(case: Case, result: dict[str, Any]) -> list[tuple[str, float, float]]:
    """(what, measured, at most) for each figure that the case has to reach."""
    median = result["median"]
    found = [(f"x {backend}", median[OURS] / median[backend], limit) for backend, limit in case.limits.items()]
    if case.seconds is not None:
        found.append(("s", median[OURS], case.seconds))
    return found


def markdown(results: dict[str, Any], where: dict[str, Any], command: str, note: str) -> str:
    """The page that docs/benchmarks keeps."""
    lines = [
        "# The joblib backend, measured",
        "",
        "Ours, joblib's own Dask backend (upstream), loky and threads on the same two cores, in one run: two workers",
        "of one thread (no nanny, loopback TCP), everything warm, the backends taking turns. Medians, in seconds.",
        "",
        "| what | rounds | ours | upstream | loky | threading | figure to reach | reached |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    shown = [case for case in CASES if case.name in results]
    for case in shown:
        result = results[case.name]
        times = " | ".join(f"{result['median'][backend]:.3f}" for backend in BACKENDS)
        figures = verdicts(case, result)
        wanted = ", ".join(f"<= {limit:g} {what}" for what, _, limit in figures) or "-"
        got = (
            ", ".join(f"{'yes' if value <= limit else 'no'}: {value:.3f} {what}" for what, value, limit in figures)
            or "-"
        )
        lines.append(f"| {case.title} | {len(result['seconds'][OURS])} | {times} | {wanted} | {got} |")
    with_memory = [case for case in shown if "peakMemoryBytes" in results[case.name]]
    if with_memory:
        lines += [
            "",
            "What the runner's process held at its peak beyond what it held before, in MB (a fresh process each):",
            "",
            "| what | ours | upstream | loky | threading | not above upstream's |",
            "| --- | ---: | ---: | ---: | ---: | --- |",
        ]
        for case in with_memory:
            peaks = results[case.name]["peakMemoryBytes"]
            cells = " | ".join(f"{peaks[backend] / 1e6:.0f}" for backend in BACKENDS)
            lines.append(f"| {case.title} | {cells} | {'yes' if peaks[OURS] <= peaks[UPSTREAM] else 'no'} |")
    *made, last = colophon(where, command)
    lines += ["", *made, f"{last} {note}".rstrip(), ""]
    return "\n".join(line.rstrip() for line in lines)
