"""Rounds: each contender's job by turns, on a machine that has come to rest."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from bench.cluster import OPERATOR, BenchError, Cluster, Operator, busy, settle, until
from bench.startup import peer
from bench.startup.contenders import CONTENDERS, OURS, Contender
from bench.startup.peer import NAMESPACE
from bench.startup.record import Recorder, Seen
from bench.startup.report import told_lines
from bench.startup.stages import ended, missing, stages, whole
from bench.startup.writes import SYSTEM, Writes, difference, service_account

LIMIT = 240.0  # seconds that a job may take
AFTERMATH = 2.0  # seconds in which writes that a job's end causes are still counted


def measure(
    cluster: Cluster,
    operator: Operator,
    names: list[str],
    *,
    rounds: int,
    warm_up: bool,
    trace: bool,
    install: bool = True,
    say: Callable[[str], None],
) -> dict[str, list[dict[str, Any]]]:
    """Rounds (and one more of each with the logs of all pods as traces) as JSON-ready values.

    `install`: dask-kubernetes, for the time of the run, if it takes part. Raises BenchError. What was installed and
    made is gone in any case.
    """
    writes = Writes(cluster)
    writers = [service_account("ours", operator.namespace, operator.service_account), *SYSTEM]
    with contextlib.ExitStack() as stack:
        if set(names) - {OURS}:
            if install:
                stack.enter_context(peer.installed(cluster, operator.runtime_image, say))
            writers.append(service_account("peer", peer.HOME, peer.RELEASE))
        stack.enter_context(cluster.namespace(NAMESPACE))
        stack.enter_context(writes.counted(writers, NAMESPACE))
        found: dict[str, list[dict[str, Any]]] = {"rounds": [], "traces": []}
        for turn in range(0 if warm_up else 1, rounds + 1 + trace):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                load = settle() if warm_up else busy()  # a quick run shows that it works, not how fast
                done = _round(cluster, operator, CONTENDERS[name], turn, writes, load, all_logs=turn > rounds)
                counted = 0 < turn <= rounds
                say(_line(done) + ("" if counted else " (not counted)"))
                found["rounds"] += [done] if counted else []
                found["traces"] += [done] if turn > rounds else []
    return found


def _round(
    cluster: Cluster,
    operator: Operator,
    contender: Contender,
    turn: int,
    writes: Writes,
    load: float,
    *,
    all_logs: bool,
) -> dict[str, Any]:
    job = f"r{turn:02}-{contender.name}"
    before = writes.read()
    path = f"/apis/{contender.api_version}/namespaces/{NAMESPACE}/{contender.plural}"
    body = contender.make(job, operator.runtime_image)
    with Recorder(cluster, NAMESPACE, contender, job, all_logs=all_logs) as recorder:
        began = time.time()
        recorder.mark("apply", began)
        cluster.api.request("POST", path, body=body)
        recorder.mark("applied", time.time())
        over = recorder.wait(lambda seen: ended(seen, contender), LIMIT)
        time.sleep(AFTERMATH)
        seen = recorder.seen
    _check(seen, contender, job, over=over)
    done = {
        "round": turn,
        "contender": contender.name,
        "stages": stages(seen, contender),
        "writes": difference(before, writes.read()),
        "busyBefore": round(load, 3),
        "applied": began,
        "seen": [each | {"at": round(each["at"] - began, 4)} for each in seen],
        "operatorLog": _operator_log(cluster, operator, began, job) if contender.name == OURS else [],
    }
    cluster.delete(f"{path}/{job}")
    until(lambda: not cluster.api.list(f"/api/v1/namespaces/{NAMESPACE}/pods"), 120, "the job's pods are not gone")
    return done


def _check(seen: list[Seen], contender: Contender, job: str, *, over: bool) -> None:
    """A benchmark of failures would be none."""
    lacking = missing(stages(seen, contender), contender)
    told = {stage for each in seen if each["source"] == "status" for stage in each["stages"]}
    if over and not lacking and "failed" not in told:
        return
    runners = {each["pod"] for each in seen if each["source"] == "pod" and each["role"] == "runner"}
    log = [each["line"] for each in seen if each["source"] == "log" and each["pod"] in runners][-100:]
    why = "failed" if "failed" in told else f"did not reach: {', '.join(sorted(lacking)) or 'its end'}"
    events = [each for each in seen if each["source"] != "log"][-40:]
    began = seen[0]["at"] if seen else 0.0
    events = [each | {"at": each["at"] - began} for each in events]
    lines = "\n  ".join(["what was seen last:", *told_lines(events), "the runner's log:", *log])
    raise BenchError(f"job {job} {why}; {lines}")


def _operator_log(cluster: Cluster, operator: Operator, since: float, job: str) -> list[str]:
    """What our operator said of the job, each line with its time."""
    pods = f"/api/v1/namespaces/{operator.namespace}/pods"
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since))
    lines: list[str] = []
    for pod in cluster.api.list(pods, labelSelector=OPERATOR):
        path = f"{pods}/{pod['metadata']['name']}/log"
        containers = [each["name"] for each in pod["spec"]["containers"]]
        text = cluster.api.text(path, query={"sinceTime": stamp, "timestamps": "true", "container": containers[0]})
        lines += [line for line in text.splitlines() if job in line]
    return sorted(lines)


def _line(done: dict[str, Any]) -> str:
    found = done["stages"]
    short = ("running", "workers", "task", "fitted", "verdict", "gone")
    times = ", ".join(f"{stage} {found[stage]:.2f}" for stage in short)
    return f"{done['round']:>2} {done['contender']:<10} {times}; {whole(found):.2f} s in all"
