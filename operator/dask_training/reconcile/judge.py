"""Is the attempt over, and how? Decided from pods alone, the first that applies."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Final

from dask_training.api import Condition, Progress, Reason, Role
from dask_training.observed import Pod
from dask_training.reconcile.outcome import (
    Outcome,
    disrupted,
    failed_packages,
    of_host,
    of_runner,
    of_scheduler,
    out_of_memory_worker,
    worker_words,
)
from dask_training.reconcile.session import heartbeat_missed, idle, no_client, owner_gone
from dask_training.reconcile.view import View

# The runner keeps these deadlines itself and stores its artifacts then; the operator steps in when it does not.
RUNNER_SLACK_SECONDS: Final = 120
LOSS_SLACK_SECONDS: Final = 45
# So long may a runner take to notice that its scheduler is gone, to store what it has, and to end.
SCHEDULER_LOST_SECONDS: Final = 20
STUCK_SECONDS: Final = 60
_PACKAGE_TRIES: Final = 2


@dataclass(frozen=True)
class Judgement:
    """The outcome, None while the attempt goes on; `look_at`: when it may change by time alone.

    `confirm`: it rests on a pod or a heartbeat that is missing, which a lagging watch may not have told of yet.
    """

    outcome: Outcome | None = None
    look_at: tuple[datetime.datetime, ...] = ()
    confirm: bool = False


def judge(view: View) -> Judgement:
    """Whether the running attempt is over."""
    times: list[datetime.datetime] = []
    for ask in _QUESTIONS:
        if outcome := ask(view, times):
            rests_on_absence = ask is heartbeat_missed or (
                outcome.reason in (Reason.RUNNER_DISRUPTED, Reason.SCHEDULER_DISRUPTED)
                and (view.runner is None or (view.scheduler is None and not view.is_guest))
            )
            return Judgement(outcome, confirm=rests_on_absence and not view.observed.confirmed)
    return Judgement(look_at=tuple(times))


def _ended(view: View, _: list[datetime.datetime]) -> Outcome | None:
    """A runner whose pod was refused by its node never ran: it is made again."""
    runner = view.runner
    return of_runner(runner, view) if runner is not None and runner.is_over and view.has_begun else None


def _taken(view: View, times: list[datetime.datetime]) -> Outcome | None:
    if not view.has_runner or not view.has_begun:
        return None
    if view.runner is None:
        return disrupted(None)
    return disrupted(view.runner) if _is_stuck(view.runner, view.now, times) else None


def scheduler_is_lost(view: View) -> bool:
    """Whether the scheduler that the attempt had is no more, or on its way out."""
    if view.is_guest:
        return view.host_is_lost
    if view.scheduler is None:
        # Before that it may never have been there: a quota had room for others first, or the operator was killed
        # between two pods. Where it was, the runner that lost it says so itself.
        return view.was_ready
    return view.scheduler.is_lost and (view.has_begun or view.scheduler.has_run)


def _runner_runs(view: View) -> bool:
    return view.runner is not None and view.runner.is_running


def active_deadline(view: View, times: list[datetime.datetime]) -> Outcome | None:
    """Whether `activeDeadlineSeconds` has passed, with the runner's own time to store what there is."""
    slack = RUNNER_SLACK_SECONDS if _runner_runs(view) else 0
    seconds = view.spec.active_deadline_seconds
    deadline = view.after(view.status.start_time, seconds + slack)
    times.append(deadline)
    return deadline_exceeded(seconds) if view.is_past(deadline) else None


def deadline_exceeded(seconds: int) -> Outcome:
    """`activeDeadlineSeconds` has passed."""
    text = f"the job was still running after {seconds} s (spec.activeDeadlineSeconds) and was stopped."
    return Outcome(Reason.DEADLINE_EXCEEDED, f"{text}\nRaise the deadline, add workers, or give the job less to do.")


def name_collision(view: View, _: list[datetime.datetime]) -> Outcome | None:
    """Whether the attempt's Service is somebody else's."""
    service = view.service
    if service is not None and service.owner != view.job.metadata.uid:
        text = f"Service {service.name} exists already and is not this job's."
        return Outcome(Reason.NAME_COLLISION, f"{text}\nDelete it, or give the job another name.")
    return None


def _packages(view: View, _: list[datetime.datetime]) -> Outcome | None:
    """Workers are started again and again; that pip fails each time need not wait for a deadline."""
    for pod in view.workers:
        if pod.previous is not None and pod.restarts >= _PACKAGE_TRIES and not pod.is_running:
            return failed_packages(pod.previous)
    return None


def _scheduler(view: View, times: list[datetime.datetime]) -> Outcome | None:
    if not scheduler_is_lost(view):
        return None
    if not _runner_runs(view):
        return _lost(view)
    ready = view.status.condition(Condition.CLUSTER_READY)
    if ready is None or ready.reason != Progress.SCHEDULER_LOST:
        return None  # first that is written; its time is when the waiting began
    until = view.after(ready.last_transition_time, SCHEDULER_LOST_SECONDS)
    times.append(until)
    return _lost(view) if view.is_past(until) else None


def _lost(view: View) -> Outcome:
    return of_host(view) if view.is_guest else of_scheduler(view)


def _blocked(view: View, times: list[datetime.datetime]) -> Outcome | None:
    """Some things are known not to get better by waiting for the startup deadline."""
    if view.was_ready and view.has_begun:
        return None
    for blocker in view.blockers:
        if view.was_ready and blocker.role is Role.WORKER:
            continue  # there are enough without it
        if blocker.fails_at is not None:
            times.append(blocker.fails_at)
            if view.is_past(blocker.fails_at):
                return Outcome(blocker.reason, blocker.message)
    return None


def _startup(view: View, times: list[datetime.datetime]) -> Outcome | None:
    if view.has_begun:
        return None  # the runner keeps this deadline from then on: it knows when the code starts
    seconds = view.spec.startup_deadline_seconds
    deadline = view.after(view.status.attempt_start_time, seconds)
    times.append(deadline)
    if not view.is_past(deadline):
        return None
    if view.blockers:
        return Outcome(view.blockers[0].reason, view.blockers[0].message)
    if view.is_guest and view.observed.cluster is None:
        text = f"the operator could not look for the cluster of spec.clusterRef within {seconds} s (see its log)."
        return Outcome(Reason.STARTUP_DEADLINE_EXCEEDED, text)
    what = "the runner" if view.has_runner else "the cluster"
    text = f"{what} had not started after {seconds} s (spec.startupDeadlineSeconds). {worker_words(view)}"
    return Outcome(Reason.STARTUP_DEADLINE_EXCEEDED, f"{text.rstrip()}\nRaise the deadline, or ask for less.")


def _workers(view: View, times: list[datetime.datetime]) -> Outcome | None:
    since, workers = view.not_ready_since, view.spec.workers
    if not view.was_ready or since is None or scheduler_is_lost(view):
        return None
    slack = LOSS_SLACK_SECONDS if _runner_runs(view) else 0
    until = since + datetime.timedelta(seconds=workers.loss_grace_seconds + slack)
    times.append(until)
    if not view.is_past(until):
        return None
    if oom := out_of_memory_worker(view):
        return oom
    seconds = workers.loss_grace_seconds
    text = (
        f"fewer than {workers.min_replicas} workers (spec.workers.minReplicas) for {seconds} s"
        " (spec.workers.lossGraceSeconds)."
    )
    why = view.blockers[0].message if view.blockers else worker_words(view)
    return Outcome(Reason.WORKERS_UNAVAILABLE, f"{text} {why}".rstrip())


def _is_stuck(pod: Pod, now: datetime.datetime, times: list[datetime.datetime]) -> bool:
    """Whether a pod should have been gone for long: its node does not answer."""
    if pod.deleting is None:
        return False
    until = pod.deleting + datetime.timedelta(seconds=STUCK_SECONDS)
    times.append(until)
    return now >= until


_QUESTIONS: Final = (
    *(_ended, owner_gone, active_deadline, name_collision, _packages, _taken, _scheduler, heartbeat_missed),
    *(_blocked, _startup, _workers, no_client, idle),
)
