"""While an attempt runs: what of it is missing, what is too much, and what its status says."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from typing import Final

from dask_training.api import Condition, Mode, Phase, Port, Progress, Role
from dask_training.manifests import (
    SecretRequest,
    network_policy,
    runner_pod,
    runner_service,
    scheduler_pod,
    scheduler_service,
    secret_request,
    worker_pod,
)
from dask_training.observed import Pod
from dask_training.reconcile import session
from dask_training.reconcile.actions import Delete, Manifest, Plan
from dask_training.reconcile.ending import end_attempt, suspend_attempt
from dask_training.reconcile.judge import judge, scheduler_is_lost
from dask_training.reconcile.release import stuck, stuck_from
from dask_training.reconcile.scaling import missing, surplus
from dask_training.reconcile.view import View
from dask_training.reconcile.writing import asked_again, written
from dask_training.status import ProgressRecord, Status, is_ready, with_mismatch, with_telemetry, with_workers
from dask_training.status.summary import STEADY_SECONDS

# The first workers often come a moment after the runner: one write tells of both.
_TOGETHER_SECONDS: Final = 2
_MOUNT_SECONDS: Final = 5  # from then on a pod that is being made is worth a look at its Events
_QUICK_LOSS_SECONDS: Final = 120
_FIRST_WAIT_SECONDS: Final = 5
_LONGEST_WAIT_SECONDS: Final = 300


def run_attempt(view: View) -> Plan:
    """Ends the attempt if it is over; otherwise makes what is missing and removes what is too much."""
    judgement = judge(view)
    if judgement.outcome is not None:
        return Plan(confirm=True) if judgement.confirm else end_attempt(view, judgement.outcome)
    if view.spec.suspend:
        return suspend_attempt(view)
    times = [*judgement.look_at, *stuck_from(view)]
    status = _status(view, times)
    create = tuple(not_refused(view, _wanted(view, _address(view)), times))
    if any(isinstance(item, SecretRequest) and item.signing_request for item in create):
        # It is written into the status with the request: nothing else may be written at the same time.
        return Plan(create=create, check_after=asked_again(view, times))
    delete = (*_corpses(view, times), *surplus(view, times), *stuck(view))
    first = status.workers.lost > view.status.workers.lost
    # Where a guest's runner was sent to is known before it is made.
    first = first or (view.is_guest and status.scheduler_address != view.status.scheduler_address)
    return written(
        view, status, create=create, delete=delete, look_at=times, first=first, events_of=being_made(view, times)
    )


# What is missing.


def not_refused(
    view: View, items: Iterable[Manifest | SecretRequest], times: list[datetime.datetime]
) -> Iterator[Manifest | SecretRequest]:
    """What may be tried to be made now; `times` gets the moments at which the rest may."""
    for item in items:
        name = item.name if isinstance(item, SecretRequest) else item["metadata"]["name"]
        kind = item.kind if isinstance(item, SecretRequest) else item["kind"]
        refusal = view.refusal(kind, name)
        if refusal is not None and not view.is_past(refusal.retry_at):
            times.append(refusal.retry_at)
        else:
            yield item


def _wanted(view: View, address: str) -> Iterator[Manifest | SecretRequest]:
    attempt, service = view.attempt, view.service
    if view.is_guest:
        yield from _wanted_by_guest(view, address)
        return
    if not address:
        if service is None and not view.has_begun:
            yield scheduler_service(attempt)
        return
    if view.awaits_certificate:
        if service is not None:
            yield secret_request(attempt, service.uid)
        return
    if not view.observed.of_attempt(attempt.number) and service is not None:
        # Pods are made after these, so where there is a pod, these have been made.
        if not attempt.signing_request:
            yield secret_request(attempt, service.uid)
        if view.settings.network_policy:
            yield network_policy(attempt, service.uid)
    if view.scheduler is None and not scheduler_is_lost(view):
        yield scheduler_pod(attempt)
    if view.has_runner and view.runner is None and not view.has_begun:
        yield runner_pod(attempt, address)
    if scheduler_is_lost(view):
        return  # nobody is left for a new worker to talk to
    for index in missing(view):
        yield worker_pod(attempt, index, address)


def _wanted_by_guest(view: View, address: str) -> Iterator[Manifest | SecretRequest]:
    """On somebody else's cluster the runner is all there is, and the Service that owns what goes with it."""
    attempt, service = view.attempt, view.service
    if view.has_begun or view.runner is not None:
        return
    if service is None:
        yield runner_service(attempt)
    elif address:
        if not view.observed.of_attempt(attempt.number):
            yield secret_request(attempt, service.uid)
            if view.settings.network_policy:
                yield network_policy(attempt, service.uid)
        yield runner_pod(attempt, address)


def _address(view: View) -> str:
    """What workers and runner dial; "" until the Service has told it."""
    if view.is_guest:
        return view.host_address
    service = view.service
    if service is not None and service.cluster_ip and not service.deleting:
        host = f"[{service.cluster_ip}]" if ":" in service.cluster_ip else service.cluster_ip
        return f"tls://{host}:{Port.SCHEDULER.value}"
    return view.status.scheduler_address


# What is too much.


def _corpses(view: View, times: list[datetime.datetime]) -> Iterator[Delete]:
    """Pods that are over and are to be made again: workers, and what its node refused before it ever ran."""
    again = [pod for pod in (view.scheduler, view.runner) if pod is not None and not view.has_begun and not pod.has_run]
    for pod in (*again, *view.workers):
        if pod.is_over and pod.deleting is None:
            due = _made_again_at(pod, view)
            times.append(due)
            if view.is_past(due):
                yield Delete.one("Pod", pod.name, pod.uid, grace=0)


def _made_again_at(pod: Pod, view: View) -> datetime.datetime:
    """At once where it lived for long; else the later the more were lost, so that nothing turns in a quick loop."""
    end = pod.ended.finished if pod.ended is not None and pod.ended.finished else None
    start = pod.accepted or pod.created or view.now
    end = end or start
    if (end - start).total_seconds() >= _QUICK_LOSS_SECONDS:
        return end
    rounds = view.status.workers.lost // max(view.desired_workers, 1)
    return end + datetime.timedelta(seconds=min(_FIRST_WAIT_SECONDS * 2 ** min(rounds, 10), _LONGEST_WAIT_SECONDS))


def being_made(view: View, times: list[datetime.datetime]) -> tuple[str, ...]:
    """Pods whose containers are being made for long: what is wrong with a volume is in their Events alone."""
    found = []
    for pod in view.observed.of_attempt(view.status.attempt):
        if pod.waiting != "ContainerCreating" or pod.deleting is not None or pod.has_run or pod.accepted is None:
            continue
        due = pod.accepted + datetime.timedelta(seconds=_MOUNT_SECONDS)
        times.append(due if due > view.now else view.now + datetime.timedelta(seconds=_MOUNT_SECONDS))
        if view.is_past(due):
            found.append(pod.name)
    return tuple(found)


# What its status says.


def _status(view: View, times: list[datetime.datetime]) -> Status:
    status = with_workers(view.status, view.observed, view.desired_workers, view.now)
    if view.is_guest:
        telemetry = view.observed.telemetry
        status = status.with_workers(ready=telemetry.workers if telemetry is not None else 0)
    status = with_telemetry(status, view.observed.telemetry)
    if view.observed.telemetry is not None and view.observed.telemetry.versions:
        status = with_mismatch(status, view.observed.telemetry.versions, view.now)
    if view.spec.mode is Mode.SESSION and (clients := session.clients(view)):
        status = status.replace(progress=ProgressRecord(summary=clients))
    address = _address(view)
    dashboard = view.spec.scheduler.dashboard and address
    status = status.replace(
        scheduler_address=address,
        dashboard_url=_dashboard(view, address) if dashboard else "",
        image=view.attempt.image,
    )
    times += [
        pod.running_since + datetime.timedelta(seconds=STEADY_SECONDS)
        for pod in view.workers
        if pod.is_running and pod.running_since is not None and not is_ready(pod, view.now)
    ]
    return _phase(view, _conditions(view, status, times))


def _dashboard(view: View, address: str) -> str:
    if view.is_guest:
        cluster = view.observed.cluster
        return cluster.dashboard if cluster is not None else view.status.dashboard_url
    host = address.removeprefix("tls://").rpartition(":")[0]
    return f"http://{host}:{Port.SCHEDULER_HTTP.value}/status"


def _conditions(view: View, status: Status, times: list[datetime.datetime]) -> Status:
    started, ready = _runner_runs(view), _cluster_is_ready(view, status)
    if view.has_runner and not view.was_ready and started != ready and _is_awaited(view, times):
        return status
    if started and view.has_runner:
        status = status.with_condition(
            Condition.RUNNER_STARTED, Progress.RUNNING, "the runner's container runs", view.now, holds=True
        )
    words = f"{status.workers.summary} workers"
    if ready:
        return status.with_condition(Condition.CLUSTER_READY, Progress.WORKERS_READY, words, view.now, holds=True)
    if scheduler_is_lost(view):
        return status.with_condition(
            Condition.CLUSTER_READY, Progress.SCHEDULER_LOST, "the scheduler is lost", view.now, holds=False
        )
    if view.was_ready:
        least = view.spec.workers.min_replicas
        return status.with_condition(
            Condition.CLUSTER_READY,
            Progress.WORKERS_LOST,
            f"{words}, at least {least} are needed",
            view.now,
            holds=False,
        )
    return status


def _is_awaited(view: View, times: list[datetime.datetime]) -> bool:
    """Whether runner and cluster, of which one is there, may yet be told of in one write."""
    running = [pod.running_since for pod in view.observed.of_attempt(view.status.attempt) if pod.running_since]
    until = max(running, default=view.now) + datetime.timedelta(seconds=_TOGETHER_SECONDS)
    times.append(until)
    return not view.is_past(until)


def _runner_runs(view: View) -> bool:
    return view.runner is not None and view.runner.has_run


def _cluster_is_ready(view: View, status: Status) -> bool:
    scheduler = not view.host_is_lost if view.is_guest else view.scheduler is not None and view.scheduler.is_running
    return scheduler and status.workers.ready >= min(view.spec.workers.min_replicas, view.desired_workers)


def _phase(view: View, status: Status) -> Status:
    ready, blocker = status.condition(Condition.CLUSTER_READY), next(iter(view.blockers), None)
    lost = ready is not None and ready.reason in (Progress.WORKERS_LOST, Progress.SCHEDULER_LOST)
    runs = view.has_begun or status.holds(Condition.RUNNER_STARTED) or not view.has_runner
    running = status.phase == Phase.RUNNING or (runs and ready is not None and ready.status == "True")
    phase = Phase.RUNNING if running else Phase.STARTING
    if lost and ready is not None:
        reason, message = str(ready.reason), ready.message
        message = f"{message}\n{blocker.message}" if blocker is not None else message
    elif blocker is not None and (not running or status.workers.ready < status.workers.desired):
        # A running job may do without some of its workers: then this is news, but not its reason.
        reason = str(Progress.RUNNING if running else blocker.reason)
        message = blocker.message
    elif running:
        reason, message = str(Progress.RUNNING), f"{status.workers.summary} workers{_session_words(view)}"
    else:
        reason, message = str(Progress.CLUSTER_STARTING), _waiting_for(view)
    return status.replace(phase=phase.value, reason=reason, message=message)


def _session_words(view: View) -> str:
    return session.words(view) if view.spec.mode is Mode.SESSION else ""


def _waiting_for(view: View) -> str:
    """Which pods do not run yet, and what they say they wait for."""
    pods = view.observed.of_attempt(view.status.attempt)
    waiting = [pod for pod in pods if not pod.is_running and not pod.is_over]
    if view.is_guest and not waiting:
        return f"waiting for {view.spec.workers.min_replicas} workers (spec.workers.minReplicas) of the cluster"
    if not waiting:
        return "scheduler, runner and workers are starting" if view.has_runner else "scheduler and workers are starting"
    order = (Role.SCHEDULER, Role.RUNNER, Role.WORKER)
    names = [
        pod.role.value if pod.index is None else f"worker {pod.index}"
        for pod in sorted(waiting, key=lambda p: order.index(p.role))
    ]
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return f"waiting for {', '.join(names[:4])}{more}"
