"""From a job's status, as it changes, to the events that a display shows. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from dask_training.api import Condition, ExitCode, Phase, Reason
from dask_training.runner.events import (
    ArtifactsStored,
    DashboardReady,
    Event,
    Finished,
    MetricsReported,
    Notice,
    PhaseChanged,
    Progress,
    Timings,
    WorkersChanged,
)
from dask_training.termination import Advice

FINAL_PHASES = frozenset({Phase.SUCCEEDED, Phase.FAILED})
_EXIT_CODES = {
    "ValidationFailed": ExitCode.BAD_JOB_FILE,
    "PackagesFailed": ExitCode.PACKAGES,
    "StartupDeadlineExceeded": ExitCode.DEADLINE,
    "DeadlineExceeded": ExitCode.DEADLINE,
    "RunnerOOMKilled": 137,
    "WorkersUnavailable": ExitCode.WORKERS_LOST,
    "WorkerOOMKilled": ExitCode.WORKERS_LOST,
    "WorkersFailed": ExitCode.WORKERS_LOST,
    "SchedulerFailed": ExitCode.WORKERS_LOST,
    "SchedulerOOMKilled": ExitCode.WORKERS_LOST,
    "SchedulerDisrupted": ExitCode.WORKERS_LOST,
    "RunnerDisrupted": ExitCode.WORKERS_LOST,
    "ArtifactStoreFailed": ExitCode.ARTIFACT_STORE,
    "InternalError": ExitCode.INTERNAL_ERROR,
}
# Where a phase begins, for one that was entered before anybody looked.
_BEGINS = {
    Phase.RUNNING: ("RunnerStarted",),
    Phase.FINALIZING: ("SuccessCriteriaMet", "FailureTarget"),
}


def phase_of(body: Mapping[str, Any]) -> Phase:
    """The job's phase; Pending for one that nobody has looked at yet."""
    text = str((body.get("status") or {}).get("phase"))
    return Phase(text) if text in Phase.__members__.values() else Phase.PENDING


def is_finished(body: Mapping[str, Any]) -> bool:
    """Whether the job has Succeeded or Failed."""
    return phase_of(body) in FINAL_PHASES


def exit_code_of(body: Mapping[str, Any]) -> int:
    """What a process that ran the finished job would exit with: the code's own exit code, or one of ExitCode."""
    status = body.get("status") or {}
    if phase_of(body) is Phase.SUCCEEDED:
        return ExitCode.OK
    reason = str(status.get("reason") or "")
    own = _code_exit_code(status)
    if own and reason not in _EXIT_CODES:
        return own
    return int(_EXIT_CODES.get(reason, own or 1))


def seconds_of(time: object) -> float | None:
    """A Kubernetes time in seconds since the epoch; None for what is no time."""
    try:
        return datetime.fromisoformat(str(time)).timestamp()
    except ValueError:
        return None


def finished_of(body: Mapping[str, Any], at: float) -> Finished:
    """The last event of a finished job."""
    status = body.get("status") or {}
    return Finished(
        at=at,
        phase=phase_of(body),
        reason=_reason(str(status.get("reason") or "")),
        message=_final_message(status),
        exit_code=exit_code_of(body),
        script_exit_code=_code_exit_code(status),
        attempt=max(1, int(status.get("attempt") or 1)),
        timings=_timings(status),
        metrics=dict(status.get("metrics") or {}),
        worker_restarts=int((status.get("workers") or {}).get("restarts") or 0),
        tasks=int((status.get("progress") or {}).get("done") or 0),
        artifacts=_artifacts(status, at),
        advice=advice_of(status),
    )


def advice_of(status: Mapping[str, Any]) -> tuple[Advice, ...]:
    """What the job's status has of advice."""
    return tuple(
        Advice(rule=str(each["rule"]), message=str(each["message"]), fix=str(each["fix"]))
        for each in status.get("advice") or ()
    )


class StatusEvents:
    """Remembers what was told of one job, and tells what is new in each next state of it."""

    def __init__(self) -> None:
        self._phase: tuple[Phase, int, str] | None = None
        self._workers: tuple[int, int, int] | None = None
        self._dashboard = ""
        self._progress: tuple[int, int | None] | None = None
        self._call = 1
        self._metrics: dict[str, Any] = {}
        self._attempts_told: set[int] = set()
        self._artifacts: str = ""
        self._mismatch = ""
        self.untouched = True
        """Whether no state had a status: no operator has looked at the job."""

    def of(self, body: Mapping[str, Any], now: float) -> list[Event]:
        """The events between the last state and *body*, in order; `Finished` last if the job has ended."""
        status = body.get("status") or {}
        if not status:
            return [] if self._phase else self._enter(Phase.PENDING, 1, "waiting for the operator", now)
        self.untouched = False
        phase, attempt = phase_of(body), max(1, int(status.get("attempt") or 1))
        events: list[Event] = [
            *self._ended_attempts(status, now, last=phase in FINAL_PHASES),
            *self._enter(phase, attempt, _phase_message(status, phase), self._since(body, phase, now)),
            *self._workers_of(status, now),
        ]
        if (dashboard := str(status.get("dashboardURL") or "")) and dashboard != self._dashboard:
            self._dashboard = dashboard
            events.append(DashboardReady(at=now, url=dashboard))
        events += self._progress_of(status, now)
        if (metrics := dict(status.get("metrics") or {})) and metrics != self._metrics:
            self._metrics = metrics
            events.append(MetricsReported(at=now, metrics=metrics))
        if (stored := _artifacts(status, now)) and stored.manifest_sha256 + stored.url != self._artifacts:
            self._artifacts = stored.manifest_sha256 + stored.url
            events.append(stored)
        events += self._mismatch_of(status, now)
        if phase in FINAL_PHASES:
            events.append(finished_of(body, now))
        return events

    def _enter(self, phase: Phase, attempt: int, message: str, at: float) -> list[Event]:
        if (phase, attempt, message) == self._phase:
            return []
        self._phase = (phase, attempt, message)
        return [PhaseChanged(at=at, phase=phase, message=message, attempt=attempt)]

    def _since(self, body: Mapping[str, Any], phase: Phase, now: float) -> float:
        """When a phase began that was on when we first looked; *now* for one that we saw begin."""
        if self._phase is not None and self._phase[0] is not Phase.PENDING:
            return now
        status = body.get("status") or {}
        times = [
            seconds_of(condition.get("lastTransitionTime"))
            for condition in status.get("conditions") or ()
            if condition.get("type") in _BEGINS.get(phase, ()) and condition.get("status") == "True"
        ]
        if phase is Phase.STARTING:
            times.append(seconds_of(status.get("startTime")))
        known = [time for time in times if time is not None]
        # Times in a status are whole seconds: what began just now did not begin before it was seen.
        return known[0] if known and now - known[0] > 3.0 else now

    def _workers_of(self, status: Mapping[str, Any], now: float) -> list[Event]:
        workers = status.get("workers") or {}
        desired, ready, restarts = (int(workers.get(field) or 0) for field in ("desired", "ready", "restarts"))
        counts = (desired, ready, restarts)
        if counts in {self._workers, (0, 0, 0)}:
            return []
        self._workers = counts
        return [WorkersChanged(at=now, desired=desired, ready=ready, restarts=restarts)]

    def _progress_of(self, status: Mapping[str, Any], now: float) -> list[Event]:
        progress = status.get("progress") or {}
        if "done" not in progress:
            return []
        known = (int(progress["done"]), int(progress["total"]) if progress.get("total") is not None else None)
        if known == self._progress:
            return []
        if self._progress is not None and (known[0] < self._progress[0]):
            self._call += 1
        self._progress = known
        return [Progress(at=now, done=known[0], total=known[1], call=self._call)]

    def _ended_attempts(self, status: Mapping[str, Any], now: float, *, last: bool) -> list[Event]:
        """A notice for each attempt that failed and is followed by another one."""
        notices: list[Event] = []
        current = int(status.get("attempt") or 1)
        for attempt in status.get("attempts") or ():
            number = int(attempt.get("number") or 0)
            if number in self._attempts_told or (number >= current and last):
                continue
            self._attempts_told.add(number)
            if attempt.get("reason") not in {None, "", Reason.COMPLETED, "Suspended"}:
                said = f": {attempt['message']}" if attempt.get("message") else ""
                notices.append(Notice(at=now, message=f"attempt {number} failed ({attempt['reason']}){said}"))
        return notices

    def _mismatch_of(self, status: Mapping[str, Any], now: float) -> list[Event]:
        """A notice where versions differ between the job's pods."""
        said = [
            str(condition.get("message") or "")
            for condition in status.get("conditions") or ()
            if condition.get("type") == Condition.VERSIONS_MATCH and condition.get("status") == "False"
        ]
        if not said or said[0] == self._mismatch:
            return []
        self._mismatch = said[0]
        return [Notice(at=now, message=said[0])]


def _reason(text: str) -> Reason:
    return Reason(text) if text in Reason.__members__.values() else Reason.INTERNAL_ERROR


def _phase_message(status: Mapping[str, Any], phase: Phase) -> str:
    """One line at most: the whole message of the end comes with Finished."""
    if phase in FINAL_PHASES:
        return ""
    message = str(status.get("message") or "")
    return message.splitlines()[0] if message else ""


def _final_message(status: Mapping[str, Any]) -> str:
    message = str(status.get("message") or "")
    reason = str(status.get("reason") or "")
    if reason and reason not in Reason.__members__.values():
        return f"{reason}: {message}" if message else reason
    return message


def _code_exit_code(status: Mapping[str, Any]) -> int | None:
    attempts = status.get("attempts") or ()
    code = attempts[-1].get("exitCode") if attempts else None
    return None if code is None else int(code)


def _timings(status: Mapping[str, Any]) -> Timings:
    timings = status.get("timings") or {}
    total = timings.get("total")
    if total is None:
        start, end = seconds_of(status.get("startTime")), seconds_of(status.get("completionTime"))
        total = end - start if start is not None and end is not None else 0.0
    return Timings(
        starting=timings.get("starting"),
        running=timings.get("running"),
        finalizing=timings.get("finalizing"),
        total=float(total),
    )


def _artifacts(status: Mapping[str, Any], at: float) -> ArtifactsStored | None:
    stored = status.get("artifacts") or {}
    if not stored.get("url") or not stored.get("manifestSHA256"):
        return None
    return ArtifactsStored(
        at=at,
        url=str(stored["url"]),
        files=int(stored.get("files") or 0),
        bytes=int(stored.get("bytes") or 0),
        manifest_sha256=str(stored["manifestSHA256"]),
    )
