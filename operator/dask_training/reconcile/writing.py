"""Turning a new status into a plan: written at once, later, or not at all."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Final

from dask_training.manifests.secrets import SecretRequest
from dask_training.reconcile.actions import Delete, JobEvent, Manifest, Plan
from dask_training.reconcile.view import View
from dask_training.status import Change, Status, change, events, stamped
from dask_training.termination import clean

UPDATE_SECONDS: Final = 10  # numbers and words alone are not written more often; telemetry is asked for as often
MEMBERS_SECONDS: Final = 1  # nor is where each of many workers is
_WAITS: Final = {Change.MINOR: UPDATE_SECONDS, Change.MEMBERS: MEMBERS_SECONDS}
_SOONEST: Final = 0.05
_EVENT_CHARACTERS: Final = 900  # Kubernetes takes 1 kB


def written(
    view: View,
    status: Status,
    *,
    create: Iterable[Manifest | SecretRequest] = (),
    delete: Iterable[Delete] = (),
    look_at: Iterable[datetime.datetime] = (),
    first: bool = False,
    events_of: tuple[str, ...] = (),
) -> Plan:
    """A plan that brings the job to `status`, as far as that differs from what is written and does not have to wait."""
    old, times = view.status, list(look_at)
    status = status.observed_at(view.job.metadata.generation, old)
    weight = change(old, status)
    due = view.after(old.last_update_time, _WAITS.get(weight, 0))
    if weight in _WAITS and old.updated is not None and not view.is_past(due):
        times.append(due)
        weight = Change.NONE
    plan = Plan(create=tuple(create), delete=tuple(delete), check_after=asked_again(view, times), events_of=events_of)
    if weight is Change.NONE:
        return plan
    stamped_status = stamped(status, old, view.observed, view.now, view.job.metadata.creation_timestamp)
    prices, used = view.settings.prices, stamped_status.resource_seconds
    if prices is not None and used is not None:
        stamped_status = stamped_status.replace(cost=prices.cost_of(used))
    return Plan(
        status=stamped_status.write(),
        status_first=first,
        create=plan.create,
        delete=plan.delete,
        events=tuple(
            JobEvent(kind, reason, clean(message, _EVENT_CHARACTERS)) for kind, reason, message in events(old, status)
        ),
        check_after=plan.check_after,
        events_of=events_of,
    )


def asked_again(view: View, times: Iterable[datetime.datetime]) -> float | None:
    """Seconds until the first of these moments; None if there is none."""
    seconds = [(moment - view.now).total_seconds() for moment in times]
    return max(min(seconds), _SOONEST) if seconds else None
