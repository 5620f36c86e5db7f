"""When a job that serves somebody's session ends, for nobody is there any more; and what its status says till then."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Final

from dask_training.api import HEARTBEAT_ANNOTATION, Condition, Reason
from dask_training.model.job import Session
from dask_training.observed import time_of
from dask_training.reconcile.outcome import Outcome
from dask_training.reconcile.view import View
from dask_training.status import timestamp

_SOONEST_SECONDS: Final = 1.0  # the latest figure may be older than that


def owner_gone(view: View, _: list[datetime.datetime]) -> Outcome | None:
    """The pod that the session ran in is no more."""
    gone = view.observed.owner_gone
    return Outcome(Reason.OWNER_GONE, f"{gone}: what was made for it goes, too") if gone else None


def heartbeat_missed(view: View, times: list[datetime.datetime]) -> Outcome | None:
    """Whoever has the session has not told for long that it goes on."""
    seconds = _session(view).heartbeat_timeout_seconds
    if seconds is None:
        return None
    last = view.observed.heartbeat or time_of(view.job.metadata.creation_timestamp) or view.now
    until = last + datetime.timedelta(seconds=seconds)
    times.append(until)
    if not view.is_past(until):
        return None
    field = "spec.session.heartbeatTimeoutSeconds"
    when = f"annotation {HEARTBEAT_ANNOTATION} was last changed at {timestamp(last)}"
    if view.observed.heartbeat is None:
        when = f"annotation {HEARTBEAT_ANNOTATION} has not been changed since the job was made"
    return Outcome(Reason.IDLE_TIMEOUT, f"no heartbeat for {seconds} s ({field}): {when}")


def no_client(view: View, times: list[datetime.datetime]) -> Outcome | None:
    """A Session's last client has left long ago, or none has come."""
    seconds, telemetry = _session(view).no_client_timeout_seconds, view.observed.telemetry
    if view.has_runner or seconds is None or telemetry is None:
        return None
    if not _lasts(view, telemetry.no_client_seconds, seconds, times):
        return None
    return Outcome(Reason.IDLE_TIMEOUT, f"no client for {seconds} s (spec.session.noClientTimeoutSeconds)")


def idle(view: View, times: list[datetime.datetime]) -> Outcome | None:
    """A Session has had nothing to compute for long."""
    seconds, telemetry = view.spec.idle_timeout_seconds, view.observed.telemetry
    if view.has_runner or telemetry is None or not _lasts(view, telemetry.idle_seconds, seconds, times):
        return None
    return Outcome(Reason.IDLE_TIMEOUT, f"no task for {seconds} s (spec.idleTimeoutSeconds)")


def _lasts(view: View, since: float | None, seconds: int, times: list[datetime.datetime]) -> bool:
    """Whether something has been so for `seconds`; what was before the cluster could be used does not count.

    Telemetry tells of it when it begins, and has the latest figure when it is looked at again in time.
    """
    ready = view.status.condition(Condition.CLUSTER_READY)
    if since is None or ready is None or not view.was_ready:
        return False
    if ready.status == "True":
        usable = view.now - (time_of(ready.last_transition_time) or view.now)
        since = min(since, usable.total_seconds())
    times.append(view.now + datetime.timedelta(seconds=max(seconds - since, _SOONEST_SECONDS)))
    return since >= seconds


def words(view: View) -> str:
    """Who uses a Session, how to, and when it ends: for its status."""
    return "".join(f". {sentence}" for sentence in _sentences(view))


def clients(view: View) -> str:
    """How many clients a Session has, in words; "" where nobody knows."""
    telemetry = view.observed.telemetry
    if telemetry is None or telemetry.clients is None:
        return ""
    return {0: "no client", 1: "1 client"}.get(telemetry.clients, f"{telemetry.clients} clients")


def _sentences(view: View) -> Iterator[str]:
    session, telemetry = _session(view), view.observed.telemetry
    if not session.certificate_signing_request:
        yield "Nobody can connect: spec.session.certificateSigningRequest was not given"
    elif telemetry is None or not telemetry.clients:
        yield "Connect to status.schedulerAddress with the certificate in status.session"
    ends = [f"{view.spec.idle_timeout_seconds} s without a task (spec.idleTimeoutSeconds)"]
    if session.no_client_timeout_seconds is not None:
        ends.append(f"{session.no_client_timeout_seconds} s without a client (spec.session.noClientTimeoutSeconds)")
    if session.heartbeat_timeout_seconds is not None:
        ends.append(f"{session.heartbeat_timeout_seconds} s without a heartbeat (spec.session.heartbeatTimeoutSeconds)")
    yield f"Ends after {', or after '.join(ends)}"


def _session(view: View) -> Session:
    return view.spec.session or Session()
