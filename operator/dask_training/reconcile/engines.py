"""While the workers of mode Workers run: each runs the code once, and nothing is ever made a second time."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Final

from dask_training.api import Condition, MemberState, Phase, Progress, Reason
from dask_training.manifests import SecretRequest, engine_pod, engines_network_policy, engines_service
from dask_training.manifests.pods import ENGINE_GRACE_SECONDS
from dask_training.reconcile.actions import Delete, Manifest, Plan
from dask_training.reconcile.ending import conclude, suspend_attempt
from dask_training.reconcile.judge import Judgement, active_deadline, name_collision
from dask_training.reconcile.members import Members, all_members, closed, has_started, is_over, summary, verdict
from dask_training.reconcile.outcome import Outcome, worker_words
from dask_training.reconcile.release import TEARDOWN_GRACE_SECONDS, stuck, stuck_from
from dask_training.reconcile.running import being_made, not_refused
from dask_training.reconcile.session import heartbeat_missed, owner_gone
from dask_training.reconcile.view import View
from dask_training.reconcile.writing import written
from dask_training.status import ProgressRecord, Status


def run_engines(view: View) -> Plan:
    """Ends the job if its workers are over; otherwise makes those that have never been there and ends those stopped."""
    times: list[datetime.datetime] = [*stuck_from(view)]
    members = all_members(view, times)
    judgement = _judge(view, members)
    if judgement.confirm or _rests_on_absence(view, members):
        return Plan(confirm=True)
    status = _counted(view.status, members)
    if judgement.outcome is not None:
        # Pods that have ended stay a little; of another end than the workers' own nothing is left to be seen.
        delete = tuple(_ended_early(view, members)) if all(map(is_over, members)) else None
        return conclude(view, status, judgement.outcome, delete)
    if view.spec.suspend:
        interrupted = Outcome(Reason.INTERRUPTED, "spec.suspend is true")
        return suspend_attempt(view, status.with_workers(members=closed(members, interrupted, view.now)))
    times += judgement.look_at
    create = tuple(not_refused(view, _missing(view, members), times))
    return written(
        view,
        _status(view, status),
        create=create,
        delete=(*_ended_early(view, members), *stuck(view)),
        look_at=times,
        first=_newly_seen(view, members),
        events_of=being_made(view, times),
    )


# Is it over?


def _judge(view: View, members: Members) -> Judgement:
    times: list[datetime.datetime] = []
    if outcome := verdict(members):
        return Judgement(outcome)
    for ask in (owner_gone, active_deadline, name_collision, _quota, heartbeat_missed, _never_started):
        if outcome := ask(view, times):
            return Judgement(outcome, confirm=ask is heartbeat_missed and not view.observed.confirmed)
    return Judgement(look_at=tuple(times))


def _quota(view: View, _: list[datetime.datetime]) -> Outcome | None:
    """All workers or none: half a group would hold what others could use, and wait for the other half."""
    for refusal in view.observed.refusals:
        if refusal.is_quota and _UNCOUNTED not in refusal.message:
            what = f"{refusal.kind} {refusal.name}"
            text = f"{what}: {refusal.message}\nAsk for fewer or smaller workers, or for a larger ResourceQuota."
            return Outcome(Reason.QUOTA_EXCEEDED, text)
    return None


_UNCOUNTED: Final = "status unknown for quota"  # a new one, which Kubernetes will have counted for in a moment


def _never_started(view: View, times: list[datetime.datetime]) -> Outcome | None:
    """Where none has started, what keeps one from it keeps all."""
    if any(map(has_started, view.status.workers.members)) or any(pod.has_run for pod in view.workers):
        return None
    for blocker in view.blockers:
        if blocker.fails_at is not None:
            times.append(blocker.fails_at)
            if view.is_past(blocker.fails_at):
                return Outcome(blocker.reason, blocker.message)
    seconds = view.spec.startup_deadline_seconds
    deadline = view.after(view.status.attempt_start_time, seconds)
    times.append(deadline)
    if not view.is_past(deadline):
        return None
    if view.blockers:
        return Outcome(view.blockers[0].reason, view.blockers[0].message)
    text = f"no worker had started after {seconds} s (spec.startupDeadlineSeconds). {worker_words(view)}"
    return Outcome(Reason.STARTUP_DEADLINE_EXCEEDED, f"{text.rstrip()}\nRaise the deadline, or ask for less.")


def _rests_on_absence(view: View, members: Members) -> bool:
    """Whether a worker has failed because its pod is missing, which a lagging watch may not have told of yet."""
    if view.observed.confirmed:
        return False
    there = {pod.index for pod in view.workers}
    before = {member.index: member for member in view.status.workers.members}
    return any(
        member.state == MemberState.FAILED and member.index not in there and not is_over(before[member.index])
        for member in members
        if member.index in before
    )


# What is missing, and what is to go.


def _missing(view: View, members: Members) -> Iterator[Manifest | SecretRequest]:
    attempt, service = view.attempt, view.service
    if service is None:
        yield engines_service(attempt)  # it owns the policy, and so comes before it
    if service is None or service.deleting:
        return
    if view.settings.network_policy and not any(member.created_at for member in members):
        yield engines_network_policy(attempt, service.uid)
    for member in members:
        # One that has been seen is never made again: its code may have run.
        if not member.created_at and not is_over(member):
            yield engine_pod(attempt, member.index)


def _ended_early(view: View, members: Members) -> Iterator[Delete]:
    """The pods of workers that are over though they could go on: stopped, or given up before they had started."""
    states = {member.index: member.state for member in members}
    for pod in view.workers:
        state = states.get(-1 if pod.index is None else pod.index)
        if pod.deleting is not None or pod.is_over or pod.ended is not None:
            continue
        if state == MemberState.STOPPED:
            yield Delete.one("Pod", pod.name, pod.uid, ENGINE_GRACE_SECONDS)
        elif state in (MemberState.FAILED, MemberState.TIMED_OUT):
            yield Delete.one("Pod", pod.name, pod.uid, TEARDOWN_GRACE_SECONDS)


def _newly_seen(view: View, members: Members) -> bool:
    """Whether pods are there that the status does not tell of: it has to, before anything else is done."""
    before = {member.index for member in view.status.workers.members if member.created_at}
    return any(member.created_at and member.index not in before for member in members)


# What its status says.


def _counted(status: Status, members: Members) -> Status:
    """With the members, how many of them run, and how many are over."""
    running = sum(member.state == MemberState.RUNNING for member in members)
    over, total = sum(map(is_over, members)), len(members)
    status = status.with_workers(desired=total, ready=running, members=members)
    return status.replace(progress=ProgressRecord(done=over, total=total, summary=f"{over}/{total}"))


def _status(view: View, status: Status) -> Status:
    members = status.workers.members
    started = any(map(has_started, members))
    status = status.replace(image=view.attempt.image)
    words = summary(members)
    if all(has_started(member) or is_over(member) for member in members):
        status = status.with_condition(Condition.CLUSTER_READY, Progress.WORKERS_READY, words, view.now, holds=True)
    blocker = next(iter(view.blockers), None)
    if blocker is not None and not started:
        return status.replace(phase=Phase.STARTING.value, reason=blocker.reason.value, message=blocker.message)
    message = words if blocker is None else f"{words}\n{blocker.message}"
    phase, reason = (Phase.RUNNING, Progress.RUNNING) if started else (Phase.STARTING, Progress.CLUSTER_STARTING)
    return status.replace(phase=phase.value, reason=reason.value, message=message)
