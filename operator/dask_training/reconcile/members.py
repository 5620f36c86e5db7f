"""Each worker of mode Workers: where it is, by its pod; one that is over stays so, with or without its pod."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

import msgspec

from dask_training.api import MemberState, Reason, Role
from dask_training.observed import Pod
from dask_training.reconcile.outcome import Outcome, of_engine
from dask_training.reconcile.view import View
from dask_training.status import Blocker, MemberRecord, timestamp
from dask_training.status.blockers import of_pod

STUCK_SECONDS: Final = 60
_NAMED: Final = 5
_OVER: Final = (MemberState.SUCCEEDED, MemberState.FAILED, MemberState.STOPPED, MemberState.TIMED_OUT)
_BAD: Final = (MemberState.FAILED, MemberState.TIMED_OUT)
_TIMED_OUT: Final = (Reason.DEADLINE_EXCEEDED, Reason.STARTUP_DEADLINE_EXCEEDED)

Members: TypeAlias = tuple[MemberRecord, ...]


def is_over(member: MemberRecord) -> bool:
    """Whether it has ended, well or not."""
    return member.state in _OVER


def has_started(member: MemberRecord) -> bool:
    """Whether its code has been started."""
    return bool(member.running_at)


def all_members(view: View, times: list[datetime.datetime]) -> Members:
    """All workers as they are now; `times` gets the moments at which they change by time alone."""
    known = {member.index: member for member in view.status.workers.members}
    pods = {pod.index: pod for pod in view.workers}
    others_run = any(map(has_started, known.values())) or any(pod.has_run for pod in pods.values())
    return tuple(
        _Look(view, times, others_run=others_run).at(known.get(index) or _new(view, index), pods.get(index))
        for index in range(view.spec.workers.replicas)
    )


def _new(view: View, index: int) -> MemberRecord:
    name = view.attempt.child(Role.WORKER, index)
    return MemberRecord(index=index, id=name, state=MemberState.SCHEDULING.value)


class _Look:
    """One look at the members. Where no worker has ever started, what keeps them from it is the whole job's affair."""

    def __init__(self, view: View, times: list[datetime.datetime], *, others_run: bool) -> None:
        self._view = view
        self._times = times
        self._others_run = others_run

    def at(self, member: MemberRecord, pod: Pod | None) -> MemberRecord:
        """The member as it is now, with `member` as it was."""
        if is_over(member):
            return member
        stopped = member.index in self._view.spec.workers.stopped
        if pod is not None:
            return self._with_pod(_seen(member, pod), pod, stopped=stopped)
        if stopped:
            return self._ended(member, MemberState.STOPPED)
        if member.created_at:
            return self._ended(member, MemberState.FAILED, "the pod was deleted")
        return self._waiting(member, None)

    def _with_pod(self, member: MemberRecord, pod: Pod, *, stopped: bool) -> MemberRecord:
        over = _is_over(pod)
        if stopped and not (over and pod.deleting is None):
            return self._ended(member, MemberState.STOPPED)
        if over:
            return self._of_end(member, pod)
        if pod.deleting is not None and self._is_past(pod.deleting + datetime.timedelta(seconds=STUCK_SECONDS)):
            return self._ended(member, MemberState.FAILED, pod.loss)
        if pod.running_since is not None:
            return msgspec.structs.replace(member, state=MemberState.RUNNING.value, message="")
        return self._waiting(member, pod)

    def _of_end(self, member: MemberRecord, pod: Pod) -> MemberRecord:
        ended = pod.ended
        if ended is not None:
            member = msgspec.structs.replace(member, exit_code=ended.exit_code)
        when = ended.finished if ended is not None else None
        if ended is not None and ended.exit_code == 0:
            return self._ended(member, MemberState.SUCCEEDED, when=when)
        return self._ended(member, MemberState.FAILED, of_engine(pod, self._view), when=when)

    def _waiting(self, member: MemberRecord, pod: Pod | None) -> MemberRecord:
        """One that has yet to start: given up when it is known not to, or when its time is over."""
        view = self._view
        blocker = _blocker(view, pod)
        message = blocker.message if blocker is not None else ""
        if (
            self._others_run
            and blocker is not None
            and blocker.fails_at is not None
            and self._is_past(blocker.fails_at)
        ):
            return self._ended(member, MemberState.FAILED, message)
        seconds = view.spec.startup_deadline_seconds
        if self._others_run and self._is_past(view.after(view.status.attempt_start_time, seconds)):
            text = f"it had not started after {seconds} s (spec.startupDeadlineSeconds)."
            return self._ended(member, MemberState.TIMED_OUT, f"{text} {message}".rstrip())
        accepted = pod is not None and pod.accepted is not None
        state = MemberState.STARTING if accepted else MemberState.SCHEDULING
        return msgspec.structs.replace(member, state=state.value, message=message)

    def _ended(
        self, member: MemberRecord, state: MemberState, message: str = "", when: datetime.datetime | None = None
    ) -> MemberRecord:
        return _over(member, state, message, when or self._view.now)

    def _is_past(self, moment: datetime.datetime) -> bool:
        self._times.append(moment)
        return self._view.is_past(moment)


def _seen(member: MemberRecord, pod: Pod) -> MemberRecord:
    """With what its pod tells of it in any state."""
    ended = pod.ended
    started = pod.running_since or (ended.started if ended is not None else None)
    return msgspec.structs.replace(
        member,
        created_at=member.created_at or timestamp(pod.created or started or _NEVER),
        running_at=member.running_at or (timestamp(started) if started is not None else ""),
        ip=pod.ip or member.ip,
    )


_NEVER: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def _is_over(pod: Pod) -> bool:
    """Its container is never started again; its phase may tell of the end a moment later."""
    return pod.is_over or pod.ended is not None


def _blocker(view: View, pod: Pod | None) -> Blocker | None:
    return None if pod is None else next(iter(of_pod(pod, view.observed, view.settings)), None)


def _over(member: MemberRecord, state: MemberState, message: str, when: datetime.datetime) -> MemberRecord:
    return msgspec.structs.replace(member, state=state.value, finished_at=timestamp(when), message=message)


def closed(members: Sequence[MemberRecord], outcome: Outcome, now: datetime.datetime) -> Members:
    """The workers of a job that ends with `outcome`: those that were not over have ended with it."""
    if outcome.reason in _TIMED_OUT:
        state = MemberState.TIMED_OUT
    else:
        state = MemberState.STOPPED if outcome.succeeded or outcome.reason is Reason.INTERRUPTED else MemberState.FAILED
    message = "" if state is MemberState.STOPPED else outcome.message
    return tuple(member if is_over(member) else _over(member, state, message, now) for member in members)


def verdict(members: Members) -> Outcome | None:
    """How the job ends; None while a worker is not over."""
    if not all(map(is_over, members)):
        return None
    bad = [member for member in members if member.state in _BAD]
    if not bad:
        return Outcome(Reason.COMPLETED, summary(members))
    lines = [f"worker {member.index} {_how(member)}: {member.message}" for member in bad[:_NAMED]]
    if more := len(bad) - len(lines):
        lines.append(f"and {more} more: status.workers.members says how each ended")
    head = f"{len(bad)} of {len(members)} workers failed."
    return Outcome(Reason.WORKERS_FAILED, "\n".join([head, *lines]))


def _how(member: MemberRecord) -> str:
    if member.state == MemberState.TIMED_OUT:
        return "timed out"
    return "failed" if member.exit_code is None else f"failed (exit code {member.exit_code})"


def summary(members: Iterable[MemberRecord]) -> str:
    """Such as "2 running, 1 succeeded"."""
    counted = Counter(member.state for member in members)
    return ", ".join(f"{counted[state]} {_WORDS.get(state, state.value)}" for state in MemberState if counted[state])


_WORDS: Final = {MemberState.SCHEDULING: "waiting for a node", MemberState.TIMED_OUT: "timed out"}
