"""Taking everything away: of an attempt that is over, of a suspended job, of a finished one."""

from __future__ import annotations

import datetime
from typing import Final

from dask_training.api import Label, Mode, Reason, Role
from dask_training.manifests import selector
from dask_training.observed import Pod, Service
from dask_training.reconcile.actions import Delete
from dask_training.reconcile.view import View

TEARDOWN_GRACE_SECONDS: Final = 2
# So long do workers of mode Workers stay that have ended: nothing else keeps their last lines.
LINGER_SECONDS: Final = 5
_STUCK_SECONDS: Final = 120
_OWN_ENDS: Final = (Reason.COMPLETED, Reason.WORKERS_FAILED)


def is_released(view: View) -> bool:
    """Whether nothing of the job is left but what was stored."""
    return not view.observed.pods and not _services(view)


def kept_until(view: View) -> datetime.datetime | None:
    """Until when the pods of mode Workers stay whose end was the job's; those that are told to stop have their time."""
    if view.spec.mode is not Mode.WORKERS or view.status.reason not in _OWN_ENDS or not view.observed.pods:
        return None
    told = [pod.deleting for pod in view.observed.pods if pod.deleting is not None]
    return max([view.after(view.status.completion_time, LINGER_SECONDS), *told])


def releases(view: View) -> tuple[Delete, ...]:
    """What is to be deleted so that nothing is left; nothing that is on its way out already."""
    found: list[Delete] = []
    for number in sorted({pod.attempt for pod in view.observed.pods}):
        found += _of_attempt(view, number)
    services = [service for service in _services(view) if not service.deleting]
    return (*found, *(Delete.one("Service", service.name, service.uid) for service in services), *stuck(view))


def stuck(view: View) -> tuple[Delete, ...]:
    """Pods that should have been gone for long: their node does not answer, and nothing of theirs counts any more."""
    return tuple(
        Delete.one("Pod", pod.name, pod.uid, grace=0)
        for pod in view.observed.pods
        if pod.deleting is not None and view.now >= pod.deleting + datetime.timedelta(seconds=_STUCK_SECONDS)
    )


def stuck_from(view: View) -> tuple[datetime.datetime, ...]:
    """When pods on their way out will be stuck."""
    wait = datetime.timedelta(seconds=_STUCK_SECONDS)
    return tuple(pod.deleting + wait for pod in view.observed.pods if pod.deleting is not None)


def _of_attempt(view: View, number: int) -> list[Delete]:
    pods = view.observed.of_attempt(number)
    alive = [pod for pod in pods if pod.deleting is None or pod.is_draining]
    if not alive:
        return []
    labels = selector(view.job.metadata.uid, number)
    runner = view.observed.pod(number, Role.RUNNER)
    if runner is None or not _keeps(runner):
        return [Delete.collection(labels, TEARDOWN_GRACE_SECONDS)]
    # The runner stores what there is before it ends, and takes the grace of its own pod for that.
    own = [Delete.one("Pod", runner.name, runner.uid)] if runner.deleting is None else []
    roles = sorted({pod.role for pod in alive} - {Role.RUNNER})
    others = [Delete.collection({**labels, Label.ROLE.value: role.value}, TEARDOWN_GRACE_SECONDS) for role in roles]
    return [*own, *others]


def _keeps(runner: Pod) -> bool:
    return runner.running_since is not None and not runner.is_over


def _services(view: View) -> list[Service]:
    return [service for service in view.observed.services if service.owner == view.job.metadata.uid]
