"""One job at one moment, as the parts of the plan look at it."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from dask_training.api import Condition, Mode, Progress, Reason, Role
from dask_training.manifests import Attempt
from dask_training.model import Spec, TrainingJob
from dask_training.observed import Observed, Pod, Service, time_of
from dask_training.refusal import Refusal
from dask_training.settings import OperatorSettings
from dask_training.status import Blocker, Status, blockers

_CLUSTER_GRACE_SECONDS: Final = 60  # as for a ConfigMap: what a user applies in the wrong order is there by then


@dataclass(frozen=True)
class View:
    """The job, its status as it is written, what is observed, and the time."""

    job: TrainingJob
    status: Status
    observed: Observed
    now: datetime.datetime
    settings: OperatorSettings

    @property
    def spec(self) -> Spec:
        """What the job asks for."""
        return self.job.spec

    @cached_property
    def attempt(self) -> Attempt:
        """The running or last attempt."""
        return self.numbered(self.status.attempt)

    def numbered(self, number: int) -> Attempt:
        """An attempt of the job."""
        started = time_of(self.status.start_time) or self.now
        return Attempt(self.job, number, self.settings, started, self.status.session.get("certificateAuthority", ""))

    @property
    def awaits_certificate(self) -> bool:
        """Whether a Session's client has not been given its certificate yet: pods wait for the Secret that fits it."""
        return bool(self.attempt.signing_request) and not self.status.session

    @property
    def has_runner(self) -> bool:
        """Whether the job's code runs in a pod of its own."""
        return self.spec.mode is Mode.BATCH

    @property
    def runs_code(self) -> bool:
        """Whether its pods run the job's code, which they must not do twice within an attempt."""
        return self.spec.mode is not Mode.SESSION

    @cached_property
    def scheduler(self) -> Pod | None:
        """The attempt's scheduler, if there is one."""
        return self.observed.pod(self.status.attempt, Role.SCHEDULER)

    @cached_property
    def runner(self) -> Pod | None:
        """The attempt's runner, if there is one."""
        return self.observed.pod(self.status.attempt, Role.RUNNER)

    @cached_property
    def workers(self) -> tuple[Pod, ...]:
        """The attempt's workers, as far as they are there."""
        return self.observed.of_attempt(self.status.attempt, Role.WORKER)

    @cached_property
    def service(self) -> Service | None:
        """The attempt's Service, whoever owns it."""
        return self.observed.service(self.attempt.name)

    @cached_property
    def blockers(self) -> tuple[Blocker, ...]:
        """What stands in the way of the attempt's pods."""
        found = blockers(self.observed, self.status.attempt, self.settings)
        cluster = self.observed.cluster
        if not self.is_guest or cluster is None or cluster.address or self.has_begun:
            return found
        due = self.after(self.status.attempt_start_time, _CLUSTER_GRACE_SECONDS)
        return (Blocker(Reason.CONFIG_ERROR, cluster.problem, due), *found)

    @property
    def is_guest(self) -> bool:
        """Whether the job runs on a cluster that is not its own: `spec.clusterRef`."""
        return self.spec.cluster_ref is not None

    @property
    def host_is_lost(self) -> bool:
        """Whether the cluster that a guest's runner was sent to is gone, or another one by now."""
        cluster, sent_to = self.observed.cluster, self.status.scheduler_address
        return self.has_begun and cluster is not None and bool(sent_to) and cluster.address != sent_to

    @property
    def host_address(self) -> str:
        """Where a guest's runner finds its scheduler, or was sent to; "" until that is known."""
        known = self.status.scheduler_address if self.runner is not None or self.has_begun else ""
        return known or (self.observed.cluster.address if self.observed.cluster is not None else "")

    def refusal(self, kind: str, name: str) -> Refusal | None:
        """How the creation of an object was refused the last time; None if it was not."""
        return self._refusals.get((kind, name))

    @cached_property
    def _refusals(self) -> dict[tuple[str, str], Refusal]:
        return {(refusal.kind, refusal.name): refusal for refusal in self.observed.refusals}

    @property
    def desired_workers(self) -> int:
        """How many workers there are to be; of an adaptive job as many as before, where nothing tells of its work."""
        workers, telemetry = self.spec.workers, self.observed.telemetry
        if self.is_guest:  # those that it finds, and it waits for minReplicas
            return max(workers.min_replicas, telemetry.workers if telemetry is not None else 0)
        if not workers.is_adaptive:
            return self.initial_workers
        asked = telemetry.demand if telemetry is not None else None
        if asked is None:
            asked = self.status.workers.desired or workers.replicas
        return min(max(asked, workers.min_replicas), self.most_workers)

    @property
    def initial_workers(self) -> int:
        """How many workers an attempt begins with."""
        if self.is_guest:
            return self.spec.workers.min_replicas
        return min(self.spec.workers.replicas, self.settings.max_workers)

    @property
    def most_workers(self) -> int:
        """How many workers there may be, whatever the work asks for."""
        workers = self.spec.workers
        most = workers.max_replicas if workers.is_adaptive else None
        return min(workers.replicas if most is None else most, self.settings.max_workers)

    @property
    def has_begun(self) -> bool:
        """Whether code may have run in this attempt: from then on nothing of it is made a second time."""
        if not self.has_runner:
            return self.was_ready
        if self.status.holds(Condition.RUNNER_STARTED) or (self.runner is not None and self.runner.has_run):
            return True
        attempt = self.status.attempt  # it may have run and gone before that was written
        return any(pod.role is Role.RUNNER and pod.attempt == attempt and pod.has_run for pod in self.observed.gone)

    @property
    def was_ready(self) -> bool:
        """Whether the attempt's cluster has been ready, be it or not now."""
        ready = self.status.condition(Condition.CLUSTER_READY)
        return ready is not None and ready.reason not in (Progress.CLUSTER_STARTING, Progress.ATTEMPT_ENDED)

    @property
    def not_ready_since(self) -> datetime.datetime | None:
        """Since when the cluster is not ready; None if it is."""
        ready = self.status.condition(Condition.CLUSTER_READY)
        return time_of(ready.last_transition_time) if ready is not None and ready.status == "False" else None

    def after(self, start: str, seconds: float) -> datetime.datetime:
        """A moment so long after one that the status names."""
        return (time_of(start) or self.now) + datetime.timedelta(seconds=seconds)

    def is_past(self, moment: datetime.datetime) -> bool:
        """Whether a moment has come."""
        return self.now >= moment
