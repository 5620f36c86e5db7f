"""From what was seen of a job to when each stage was reached, in seconds after it was applied. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.startup.contenders import OURS, PODS, TUNED, Contender

STAGES = {
    "applied": "the API server has answered",
    "created": "all four pods exist",
    "running": "all four pods seen running",
    "script": "the script's first line",
    "workers": "both workers registered, seen by the script",
    "task": "first scikit-learn task on a worker",
    "fitted": "end of fit",
    "artifacts": "artifacts stored",
    "exit": "the runner has exited",
    "exit seen": "its exit seen in its pod's status",
    "verdict": "verdict in status",
    "gone": "last pod of the cluster gone",
}
SCRIPT_STAGES = ("script", "imported", "connected", "workers", "fit", "task", "fitted", "done")

Seen = Mapping[str, Any]


def ended(seen: Iterable[Seen], contender: Contender) -> bool:
    """Whether the verdict is there and no pod is left that should not be, or the job has failed."""
    pods = {each["pod"]: each for each in seen if each["source"] == "pod"}
    left = [
        pod
        for pod in pods.values()
        if pod["change"] != "DELETED" and not (contender.keeps_runner and pod["role"] == "runner")
    ]
    told = {stage for each in seen if each["source"] == "status" for stage in each["stages"]}
    if "failed" in told:
        return True
    wanted = {"verdict"} if contender.keeps_runner else {"verdict", "complete"}
    return len(pods) >= PODS and not left and wanted <= told


def stages(seen: Sequence[Seen], contender: Contender) -> dict[str, float]:
    """Seconds after the request to create the job was sent, for each stage that was seen."""
    found: dict[str, float] = {}

    def note(stage: str, at: float) -> None:
        found.setdefault(stage, at)

    for each in sorted(seen, key=lambda each: float(each["at"])):
        if each["source"] in {"bench", "script"}:
            note(each["stage"], each["at"])
        elif each["source"] == "status":
            for stage in each["stages"]:
                note(stage, each["at"])
    pods = [each for each in seen if each["source"] == "pod"]
    created = _first(pods, lambda _: True)
    running = _first(pods, lambda each: "running" in each["containers"] or each["phase"] in {"Succeeded", "Failed"})
    if len(created) >= PODS:
        found["created"] = sorted(created.values())[PODS - 1]
    if len(running) >= PODS:
        found["running"] = sorted(running.values())[PODS - 1]
    runner = [each for each in pods if each["role"] == "runner"]
    over = _first(runner, lambda each: "terminated" in each["containers"] or each["phase"] in {"Succeeded", "Failed"})
    if over:
        found["exit seen"] = min(over.values())
    found |= _container_stages(seen)
    leaving = [each for each in pods if not (contender.keeps_runner and each["role"] == "runner")]
    deleting = [each["at"] for each in leaving if each["deleting"]]
    if deleting:
        found["deleting"] = min(deleting)
    gone = [each["at"] for each in leaving if each["change"] == "DELETED"]
    if gone:
        found["gone"] = max(gone)
    start = found.pop("apply")
    return {stage: at - start for stage, at in found.items()}


def _container_stages(seen: Sequence[Seen]) -> dict[str, float]:
    """What containerd saw: the last of four containers start, the runner's exit, the last exit of all that went."""
    roles = {name: each["role"] for each in seen if each["source"] == "pod" for name in each["ids"] if name}
    told = [each for each in seen if each["source"] == "containerd" and each["container"] in roles]
    starts = sorted(each["at"] for each in told if each["what"] == "start")
    exits = {each["container"]: each["at"] for each in told if each["what"] == "exit"}
    found = {"started": starts[PODS - 1]} if len(starts) >= PODS else {}
    runner = [at for name, at in exits.items() if roles[name] == "runner"]
    if runner:
        found["exit"] = min(runner)
    if exits:
        found["stopped"] = max(exits.values())
    return found


def _first(pods: Iterable[Seen], true: Any) -> dict[str, float]:
    found: dict[str, float] = {}
    for each in sorted(pods, key=lambda each: float(each["at"])):
        if true(each):
            found.setdefault(each["pod"], each["at"])
    return found


def missing(found: Mapping[str, float], contender: Contender) -> set[str]:
    """The stages that should have been seen and were not."""
    return set(STAGES) - set(found) - ({"artifacts"} if contender.name != OURS else set())


def median(values: Iterable[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def p95(values: Iterable[float]) -> float:
    """What 95 of 100 do not pass, interpolated between those that were measured."""
    ordered = sorted(values)
    place = 0.95 * (len(ordered) - 1)
    low, high = math.floor(place), math.ceil(place)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def whole(found: Mapping[str, float]) -> float:
    """The whole job: its verdict is in status, and its cluster is gone."""
    return max(found["verdict"], found["gone"])


def operator_writes(round_: Mapping[str, Any]) -> int:
    """Requests of the contender's operator that write, events apart."""
    own = "ours-" if round_["contender"] == OURS else "peer-"
    counts: Mapping[str, int] = round_["writes"]
    return sum(count for name, count in counts.items() if name.startswith(own) and not name.endswith("-events"))


def figures(rounds: Iterable[Mapping[str, Any]]) -> list[tuple[str, float, float, str]]:
    """(what, measured, at most, unit) for each figure that our job has to reach, medians of all rounds."""
    every = list(rounds)
    ours = [each["stages"] for each in every if each["contender"] == OURS]
    tuned = [each["stages"] for each in every if each["contender"] == TUNED]
    found = [
        ("apply -> first scikit-learn task on a worker", median(each["task"] for each in ours), 3.0, " s"),
        ("end of fit -> verdict in status", median(each["verdict"] - each["fitted"] for each in ours), 2.0, " s"),
        ("end of fit -> last pod gone", median(each["gone"] - each["fitted"] for each in ours), 3.5, " s"),
    ]
    if tuned:
        ratio = median(map(whole, ours)) / median(map(whole, tuned))
        found.append(("the whole job against the tuned DaskJob", ratio, 0.5, "x"))
    writes = max(operator_writes(each) for each in every if each["contender"] == OURS)
    found.append(("API writes per job with two workers (the most of all rounds)", writes, 14, ""))
    return found
