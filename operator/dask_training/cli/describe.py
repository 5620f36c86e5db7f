"""A job on a cluster in human words: what goes on, what failed, what to do. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from dask_training.api import Condition, MemberState, Mode, Phase
from dask_training.cli.amounts import cost_line, resources_line
from dask_training.cli.cluster import Commands
from dask_training.cli.tables import phase_colour
from dask_training.cli.watch.text import age, duration, metrics_line, plain, plural, size
from dask_training.client.following import OPERATOR_SECONDS, no_operator
from dask_training.client.podstate import restarts_of, short_name, state_of, waiting_problem
from dask_training.client.status_events import FINAL_PHASES, advice_of, exit_code_of, phase_of, seconds_of

_EVENTS_SHOWN = 10
_WIDTH = 100
_COUNTED: dict[object, str] = {Mode.SESSION: "", Mode.WORKERS: " workers are over"}
_MEMBERS_SHOWN = 20
_BAD = (MemberState.FAILED, MemberState.TIMED_OUT)
_Body = Mapping[str, Any]


def describe(
    job: _Body, pods: Sequence[_Body], events: Sequence[_Body], commands: Commands, *, now: float, server: str = ""
) -> list[str]:
    """The lines of `dask-training get`, with colours for a terminal."""
    lines = [_headline(job, now), *_message(job)]
    lines += _table(_facts(job, now, server))
    lines += _section("Advice", _advice(job))
    lines += _section("Attempts", _attempts(job))
    lines += _section("Workers", _members(job))
    lines += _section("Conditions", _conditions(job, now))
    lines += _section("Pods", _pods(pods))
    lines += _section("Events", _events(events, now))
    lines += _section("Next", [f"  $ {command}" for command in _next(job, commands)])
    return lines


def _headline(job: _Body, now: float) -> str:
    status = job.get("status") or {}
    phase = phase_of(job)
    name = str(job["metadata"]["name"])
    shown = click.style(phase, fg=phase_colour(phase), bold=True)
    if phase in FINAL_PHASES:
        took = (status.get("timings") or {}).get("total")
        took = _seconds_between(status.get("startTime"), status.get("completionTime")) if took is None else took
        after = f" after {duration(took)}" if took is not None else ""
        ended = f" ({plain(str(status.get('reason')))}, exit code {exit_code_of(job)})" if phase is Phase.FAILED else ""
        return f"{name}: {shown}{ended}{after}, {age(status.get('completionTime'), now) or '?'} ago"
    since = _seconds_between(status.get("startTime"), None, now)
    return f"{name}: {shown}" + (f" for {duration(since)}" if since is not None else "")


def _message(job: _Body) -> list[str]:
    message = plain(str((job.get("status") or {}).get("message") or ""))
    lines = [f"  {part}" for line in message.splitlines() for part in textwrap.wrap(line, _WIDTH) or [""]]
    return [*lines, ""] if lines else [""]


def _facts(job: _Body, now: float, server: str) -> list[tuple[str, str]]:
    status, spec = job.get("status") or {}, job.get("spec") or {}
    workers = status.get("workers") or {}
    artifacts = status.get("artifacts") or {}
    wanted = spec.get("workers") or {}
    desired = workers.get("desired", wanted.get("replicas"))
    counts = f"{desired}" if phase_of(job) in FINAL_PHASES else f"{workers.get('ready', 0)} of {desired} ready"
    least, highest = int(wanted.get("minReplicas") or 1), int(wanted.get("maxReplicas") or 0)
    counts += f" (adaptive, {least} to {highest})" if highest > least and wanted.get("adaptive", True) else ""
    counts += f", {plural(workers['restarts'], 'restart')}" if workers.get("restarts") else ""
    counts += f", {workers['lost']} lost" if workers.get("lost") else ""
    kept = ""
    if artifacts.get("url"):
        files = plural(int(artifacts.get("files") or 0), "file")
        kept = f"{artifacts['url']} ({files}, {size(artifacts.get('bytes') or 0)})"
    timings = status.get("timings") or {}
    phases = [name for name in ("pending", "starting", "running", "finalizing") if timings.get(name)]
    progress = (status.get("progress") or {}).get("summary")
    reserved = status.get("resourceSeconds") or {}
    most = int(spec.get("backoffLimit") or 0) + 1
    facts = [
        ("Namespace", f"{job['metadata']['namespace']}{f' ({server})' if server else ''}"),
        ("Created", f"{age(job['metadata'].get('creationTimestamp'), now)} ago"),
        ("Attempt", f"{status['attempt']} of {most} at most" if status.get("attempt") else ""),
        ("Workers", counts),
        ("Progress", f"{progress}{_COUNTED.get(spec.get('mode'), ' tasks')}" if progress else ""),
        ("Metrics", metrics_line(status.get("metrics") or {})),
        ("Time", ", ".join(f"{name} {duration(timings[name])}" for name in phases)),
        ("Reserved", resources_line(reserved)),
        ("Cost", cost_line(status.get("cost") or {})),
        ("Artifacts", kept),
        ("Dashboard", str(status.get("dashboardURL") or "")),
        ("Image", str(status.get("image") or spec.get("image") or "")),
    ]
    return [(label, plain(text)) for label, text in facts if text]


def _advice(job: _Body) -> list[str]:
    rows = []
    for advice in advice_of(job.get("status") or {}):
        rows += textwrap.wrap(plain(advice.message), _WIDTH, initial_indent="  ", subsequent_indent="  ")
        rows += textwrap.wrap(f"-> {plain(advice.fix)}", _WIDTH, initial_indent="  ", subsequent_indent="     ")
    return rows


def _attempts(job: _Body) -> list[str]:
    attempts = (job.get("status") or {}).get("attempts") or ()
    if len(attempts) < 2 and int((job.get("status") or {}).get("attempt") or 0) < 2:
        return []
    return [
        f"  {attempt['number']}  {plain(str(attempt.get('reason') or ''))}"
        + (f": {plain(str(attempt['message'])).splitlines()[0]}" if attempt.get("message") else "")
        for attempt in attempts
    ]


def _members(job: _Body) -> list[str]:
    """The workers of mode Workers, those that failed first."""
    members = list(((job.get("status") or {}).get("workers") or {}).get("members") or ())
    members.sort(key=lambda member: member.get("state") not in _BAD)
    rows = []
    for member in members[:_MEMBERS_SHOWN]:
        state = str(member.get("state"))
        code = f" (exit code {member['exitCode']})" if member.get("exitCode") else ""
        said = plain(str(member.get("message") or "")).partition("\n")[0]
        shown = click.style(state, fg="red") if state in _BAD else state
        rows.append(f"  worker {member['index']:<4} {shown}{code}{f': {said}' if said else ''}")
    more = len(members) - len(rows)
    return [*rows, f"  and {more} more"] if more > 0 else rows


def _conditions(job: _Body, now: float) -> list[str]:
    rows = []
    for condition in (job.get("status") or {}).get("conditions") or ():
        bad = condition["type"] in {"Failed", "FailureTarget"}
        mark, colour = ("·", None) if condition["status"] != "True" else ("✗", "red") if bad else ("✓", "green")
        if condition["type"] == Condition.VERSIONS_MATCH and condition["status"] == "False":
            mark, colour = "!", "yellow"
        said = plain(str(condition.get("message") or condition.get("reason") or "")).partition("\n")[0]
        when = age(condition["lastTransitionTime"], now)
        rows.append(f"  {click.style(mark, fg=colour)} {condition['type']:<20} {when:>6} ago  {said}".rstrip())
    return rows


def _pods(pods: Sequence[_Body]) -> list[str]:
    rows = []
    width = max((len(short_name(pod)) for pod in pods), default=0)
    for pod in pods:
        restarts = restarts_of(pod)
        again = f", {plural(restarts, 'restart')}" if restarts else ""
        node = (pod.get("spec") or {}).get("nodeName")
        state = plain(f"{state_of(pod)}{again}")
        state = click.style(state, fg="red") if waiting_problem(pod) else state
        rows.append(f"  {short_name(pod):<{width}}  {state}{f'  on {node}' if node else ''}")
    return rows


def _events(events: Sequence[_Body], now: float) -> list[str]:
    rows = []
    for event in events[-_EVENTS_SHOWN:]:
        when = age(event.get("lastTimestamp") or event.get("eventTime"), now)
        about = event.get("involvedObject") or {}
        pod = f" {about.get('name')}" if about.get("kind") == "Pod" else ""
        times = f" (x{event['count']})" if int(event.get("count") or 1) > 1 else ""
        reason = str(event.get("reason") or "")
        reason = click.style(reason, fg="yellow") if event.get("type") == "Warning" else reason
        rows.append(f"  {when:>6} ago  {reason}{pod}: {plain(str(event.get('message') or '')).strip()}{times}")
    return rows


def _next(job: _Body, commands: Commands) -> Iterator[str]:
    phase = phase_of(job)
    if phase in FINAL_PHASES:
        if (job.get("spec") or {}).get("mode") != Mode.WORKERS:  # whose logs go with their pods
            yield commands.command("logs")
        if ((job.get("status") or {}).get("artifacts") or {}).get("url"):
            yield commands.fetch()
    elif (job.get("spec") or {}).get("suspend"):
        yield commands.command("resume")
    else:
        yield commands.command("logs -f")


def operator_missing(job: _Body, now: float) -> str:
    """What to say if no operator has looked at the job for too long; else ""."""
    created = seconds_of(job["metadata"].get("creationTimestamp"))
    if job.get("status") or created is None or now - created < OPERATOR_SECONDS:
        return ""
    return no_operator(str(job["metadata"]["namespace"]))


def _seconds_between(start: object, end: object, now: float | None = None) -> float | None:
    begun = seconds_of(start)
    ended = now if now is not None else seconds_of(end)
    return None if begun is None or ended is None else max(0.0, ended - begun)


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return ["", click.style(title, bold=True), *lines] if lines else []


def _table(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max((len(label) for label, _ in rows), default=0)
    return [f"  {label:<{width}}  {text}" for label, text in rows]
