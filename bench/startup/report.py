"""The results as a Markdown page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.cluster import Cluster, Operator, run
from bench.machine import colophon
from bench.machine import machine as this_machine
from bench.startup.contenders import CONTENDERS, OURS, TUNED
from bench.startup.peer import VERSION
from bench.startup.stages import STAGES, figures, median, p95, whole

Round = Mapping[str, Any]


def machine(cluster: Cluster, operator: Operator) -> dict[str, Any]:
    """Where it ran, and with what: Python and the packages are the runtime image's."""
    code = (
        "from importlib.metadata import version as v; import platform;"
        "print(platform.python_version(), *(v(n) for n in ('distributed', 'scikit-learn', 'dask-training')))"
    )
    inside = run(
        "docker", "run", "--rm", "--network", "none", "--entrypoint", "python", operator.runtime_image, "-c", code
    ).split()
    return this_machine() | {
        "kubernetes": cluster.version,
        "python": inside[0],
        "packages": dict(zip(("distributed", "scikit-learn", "dask-training"), inside[1:], strict=True))
        | {"dask-kubernetes": VERSION},
        "images": {"operator": operator.image, "runtime": operator.runtime_image},
    }


def markdown(
    rounds: Sequence[Round], where: Mapping[str, Any], command: str, note: str, *, traces: Sequence[Round] = ()
) -> str:
    """The page that docs/benchmarks keeps."""
    names = [name for name in CONTENDERS if any(each["contender"] == name for each in rounds)]
    number = sum(each["contender"] == OURS for each in rounds)
    before = [each["busyBefore"] for each in rounds]
    busy = f"the cores {median(before):.0%} busy before a job (median; at most {max(before):.0%})"
    times = "one round" if number == 1 else f"{number} rounds"
    *made, last = colophon(where, command, f"kind with Kubernetes {where['kubernetes']},")
    lines = [
        "# From apply to gone, measured",
        "",
        "One job on one kind cluster: the same script (a forest of 50 trees on 2,000 x 20, two workers of one",
        "thread) as our DaskTrainingJob and as dask-kubernetes' DaskJob, the latter with the readiness probe",
        "of its documentation (first after 5 s, then every 10 s) and with a quick one (0 s, 1 s). The same image for",
        f"all pods, jobs by turns, {times} of each; {busy}.",
        "",
        "Seconds after the request to create the job was sent, median / p95:",
        "",
        *_stage_table(rounds, names),
        "",
        "The pods' stages are what watches on the host saw; the script's are its own stamps (a container has the",
        "host's clock); the exit is containerd's. A DaskJob's runner pod stays, Completed, and is not waited for. Ours",
        "has TLS and a NetworkPolicy, and stores logs and reports; a DaskJob has no TLS and stores nothing.",
        "",
        "## Figures to reach",
        "",
        "| what | figure | measured | reached |",
        "| --- | --- | ---: | --- |",
    ]
    for what, value, limit, unit in figures(rounds):
        got = f"{value:.0f}" if not unit else f"{value:.2f}{unit}"
        lines.append(f"| {what} | <= {limit:g}{unit} | {got} | {'yes' if value <= limit else 'no'} |")
    lines += [
        "",
        "## Where the time goes",
        "",
        "Seconds from one stage to the next, medians.",
        "",
        *_step_table(rounds, names),
        "",
        *_trace(traces),
        "## Writes to the API server",
        "",
        "Requests per job, medians, counted by the API server itself: a FlowSchema for each writer and verb in the",
        "benchmark's namespace, apiserver_flowcontrol_dispatched_requests_total before and after. Events apart.",
        "",
        *_write_table(rounds, names),
        "",
        *made,
        f"{last} {note}".rstrip(),
        "",
    ]
    return "\n".join(line.rstrip() for line in lines)


def _of(rounds: Iterable[Round], name: str) -> list[Mapping[str, float]]:
    return [each["stages"] for each in rounds if each["contender"] == name]


def _stage_table(rounds: Sequence[Round], names: list[str]) -> Iterable[str]:
    yield _row("stage", *(CONTENDERS[name].title for name in names), *(["ours / tuned"] if TUNED in names else []))
    yield _row("---", *("---:" for _ in names), *(["---:"] if TUNED in names else []))
    for stage, title in STAGES.items():
        yield _stage_row(title, {n: [each[stage] for each in _of(rounds, n) if stage in each] for n in names})
    yield _stage_row("**the whole job**", {name: [whole(each) for each in _of(rounds, name)] for name in names})


def _stage_row(title: str, times: Mapping[str, list[float]]) -> str:
    cells = [f"{median(each):.2f} / {p95(each):.2f}" if each else "-" for each in times.values()]
    if TUNED in times:
        both = times[OURS] and times[TUNED]
        cells.append(f"{median(times[OURS]) / median(times[TUNED]):.2f}x" if both else "-")
    return _row(title, *cells)


STEPS = (
    ("apply -> all pods exist", "", "created"),
    ("-> all containers started (containerd)", "created", "started"),
    ("-> both workers registered, all imported", "started", "workers"),
    ("-> first task on a worker", "workers", "task"),
    ("-> end of fit", "task", "fitted"),
    ("-> the runner has exited", "fitted", "exit"),
    ("-> exit seen in the pod's status", "exit", "exit seen"),
    ("-> verdict in status", "exit seen", "verdict"),
    ("-> first pod seen being deleted", "verdict", "deleting"),
    ("-> last container stopped (containerd)", "deleting", "stopped"),
    ("-> last pod of the cluster gone", "stopped", "gone"),
)


def _step_table(rounds: Sequence[Round], names: list[str]) -> Iterable[str]:
    yield _row("step", *(CONTENDERS[name].title for name in names))
    yield _row("---", *("---:" for _ in names))
    for title, start, end in STEPS:
        steps = [[each[end] - (each[start] if start else 0) for each in _of(rounds, name)] for name in names]
        yield _row(title, *(f"{median(each):.2f}" for each in steps))


def _trace(traces: Sequence[Round]) -> Iterable[str]:
    for trace in (each for each in traces if each["contender"] == OURS):
        yield from ("One job of ours in one more round, with the logs of all its pods:", "")
        yield from (_row("s", "what"), _row("---:", "---"))
        yield from (_row(f"{at:.2f}", what) for at, what in milestones(trace))
        yield ""


def _write_table(rounds: Sequence[Round], names: list[str]) -> Iterable[str]:
    counts = {name: [each["writes"] for each in rounds if each["contender"] == name] for name in names}
    yield _row("who", *(CONTENDERS[name].title for name in names))
    yield _row("---", *("---:" for _ in names))

    def cell(name: str, prefix: str, *, events: bool) -> str:
        sums = [
            sum(n for key, n in each.items() if key.startswith(f"{prefix}-") and key.endswith("-events") == events)
            for each in counts[name]
        ]
        return f"{median(sums):g}"

    own = {name: "ours" if name == OURS else "peer" for name in names}
    yield _row("**the operator**", *(cell(name, own[name], events=False) for name in names))
    verbs = sorted(
        {key.split("-", 1)[1] for name in names for each in counts[name] for key in each if key.startswith(own[name])}
    )
    for verb in (verb for verb in verbs if verb != "events"):
        yield _row(
            f"- {verb}", *(f"{median(each.get(f'{own[name]}-{verb}', 0) for each in counts[name]):g}" for name in names)
        )
    yield _row("its events", *(cell(name, own[name], events=True) for name in names))
    for who, title in (
        ("controllers", "Kubernetes' controllers"),
        ("scheduler", "the scheduler"),
        ("kubelet", "the kubelet"),
    ):
        yield _row(title, *(cell(name, who, events=False) for name in names))


def milestones(trace: Round) -> list[tuple[float, str]]:
    """What happened when in one job of ours, from the logs of all its pods and containerd: (seconds, what)."""
    seen = trace["seen"]
    roles = {each["pod"]: each["role"] for each in seen if each["source"] == "pod"}
    by_id = {name: roles[each["pod"]] for each in seen if each["source"] == "pod" for name in each["ids"]}
    said = {"Scheduler at:": "the scheduler listens", "Registered to:": "a worker is registered"}
    found = [(trace["stages"][stage], title) for stage, title in STAGES.items() if stage in trace["stages"]]
    for each in seen:
        if each["source"] == "containerd" and each["container"] in by_id:
            found.append((each["at"], f"containerd: {each['what']} of the {by_id[each['container']]}'s container"))
        elif each["source"] == "log":
            found += [(each["at"], title) for words, title in said.items() if words in each["line"]]
        elif each["source"] == "pod" and each["change"] == "DELETED":
            found.append((each["at"], f"the {each['role']}'s pod is gone"))
    return sorted(found)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def timeline(round_: Round) -> Iterable[str]:
    """All that was seen of one job, in order: for finding out what takes the time."""
    yield from told_lines(round_["seen"])
    for line in round_["operatorLog"]:
        yield f"operator  {line}"


def told_lines(seen: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """A line of text for each thing seen."""
    names = {each: pod["pod"] for pod in seen if pod["source"] == "pod" for each in pod["ids"]}
    for each in seen:
        yield f"{each['at']:8.3f}  {_told(each, names)}"


def _told(each: Mapping[str, Any], names: Mapping[str, str]) -> str:
    match each["source"]:
        case "pod":
            state = [each["change"], str(each["phase"]), *each["conditions"], *each["containers"]]
            return f"pod {each['pod']}: {' '.join(state)}{' deleting' if each['deleting'] else ''}"
        case "event":
            return f"event {each['about']}: {each['reason']} {each['message']}"
        case "status":
            status = each["status"]
            said = [str(status[name]) for name in ("phase", "jobStatus", "reason", "message") if status.get(name)]
            return f"status: {' '.join(each['stages']) or each['change']} ({', '.join(said)})"
        case "containerd":
            return f"containerd: {each['what']} {names.get(each['container'], each['container'][:12])}"
        case "log":
            return f"log {each['pod']}: {each['line']}"
        case _:
            return f"{each['source']}: {each['stage']}"
