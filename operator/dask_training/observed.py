"""What is there: raw Kubernetes objects of one job as plain facts. Pure, and without any decision."""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from dask_training.api import HEARTBEAT_MANAGER, Label, Role
from dask_training.cluster_ref import ReferencedCluster
from dask_training.costs import Amounts
from dask_training.model import TrainingJob
from dask_training.model.reserved import amounts_of
from dask_training.refusal import Refusal
from dask_training.telemetry import Telemetry
from dask_training.termination import Termination, clean, parse, tail

Raw = Mapping[str, Any]

# Pod phases and conditions that mean: Kubernetes took the pod away, its program did nothing wrong.
_DISRUPTIONS: Final = {"Evicted", "Preempting", "NodeShutdown", "NodeLost", "Terminated", "Shutdown"}
_ADMISSION_ERRORS: Final = {"UnexpectedAdmissionError", "NodeAffinity", "OutOfcpu", "OutOfmemory", "OutOfpods"}
# A kubelet that hears of a Secret or a ConfigMap only after a second says so, and tries again: no fault of the job's.
_SLOW_KUBELET: Final = re.compile("failed to sync (secret|configmap) cache: timed out")
DRAIN_GRACE_SECONDS: Final = 3600  # a worker that is scaled away may work so long; tells it from one that was lost


@dataclass(frozen=True)
class Ended:
    """How a container ended: its exit code, the kubelet's reason and what it left as termination message."""

    exit_code: int
    reason: str = ""
    message: str = field(default="", repr=False)
    started: datetime.datetime | None = None
    finished: datetime.datetime | None = None

    @property
    def out_of_memory(self) -> bool:
        """Whether it was killed because it went over its memory limit."""
        return self.reason == "OOMKilled"

    @property
    def termination(self) -> Termination | None:
        """What it said of its end itself, checked; None if it said nothing that can be read."""
        return parse(self.message)

    @property
    def last_words(self) -> str:
        """The end of what it printed or said, cleaned and cut; "" if it was silent."""
        said = self.termination
        return said.message if said is not None else tail(self.message)


@dataclass(frozen=True)
class Pod:
    """One pod of the job: where it is in its life, what stands in its way; `gone`: when it was found to be gone."""

    name: str
    uid: str
    role: Role
    attempt: int
    index: int | None = None
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    created: datetime.datetime | None = None
    accepted: datetime.datetime | None = None
    deleting: datetime.datetime | None = None
    deletion_grace: int | None = None
    node: str = ""
    ip: str = ""
    unschedulable: str = ""
    disruption: str = ""
    waiting: str = ""
    waiting_message: str = ""
    running_since: datetime.datetime | None = None
    ended: Ended | None = None
    previous: Ended | None = None
    restarts: int = 0
    image: str = ""
    amounts: Amounts = field(default_factory=Amounts)
    gone: datetime.datetime | None = None

    @property
    def is_over(self) -> bool:
        """Whether it will never run again, though it is still there: Succeeded, Failed, or its container ended."""
        if self.phase in ("Succeeded", "Failed"):
            return True
        return self.ended is not None and self.role is not Role.WORKER

    @property
    def is_running(self) -> bool:
        """Whether its container runs and nobody has asked for its end."""
        return self.running_since is not None and self.deleting is None and not self.is_over

    @property
    def has_run(self) -> bool:
        """Whether its container has ever been started."""
        return self.running_since is not None or self.ended is not None or self.previous is not None

    @property
    def is_draining(self) -> bool:
        """Whether it is on its way out because there were to be fewer workers."""
        return self.deleting is not None and self.deletion_grace == DRAIN_GRACE_SECONDS

    @property
    def is_leaving(self) -> bool:
        """Whether it has been sent away, and is on its way out or has ended."""
        return self.is_draining or self._has_drained

    @property
    def is_lost(self) -> bool:
        """Whether it is over, or being taken away by somebody else, while it should work."""
        if self.is_leaving:
            return False
        return self.deleting is not None or self.is_over or bool(self.disruption)

    @property
    def _has_drained(self) -> bool:
        """Whether a worker has handed over what it had, and ended: the kubelet then sets its grace to 0."""
        ended = self.ended is not None and self.ended.exit_code == 0
        return self.deleting is not None and ended and self.role is Role.WORKER

    @property
    def loss(self) -> str:
        """Who or what took the pod away, in words; "" if nobody did."""
        if self.disruption:
            return self.disruption
        if self.reason in _DISRUPTIONS | _ADMISSION_ERRORS:
            return f"{self.reason}: {self.message}" if self.message else self.reason
        return "the pod was deleted" if self.deleting is not None else ""


@dataclass(frozen=True)
class Service:
    """The attempt's Service: the address that workers and runner dial; `owner` is the uid of its controller."""

    name: str
    uid: str
    cluster_ip: str = ""
    owner: str = ""
    attempt: int = 0
    deleting: bool = False


@dataclass(frozen=True)
class Observed:
    """All that is known of one job's objects at one moment.

    `confirmed` is False where the pods come from a watch that may lag behind: a plan that rests on a pod's absence
    then asks for a list of them first (`Plan.confirm`). `owner_gone`: what has become of the pod that the job belongs
    to, in words; "" while it is there. `heartbeat`: when the job's heartbeat came last, by the API server's clock.
    `cluster`: the one that spec.clusterRef names; None: not looked for, or not yet. `gone`: pods that are not there
    any more, of the last minutes: what they took counts.
    """

    pods: tuple[Pod, ...] = ()
    gone: tuple[Pod, ...] = ()
    services: tuple[Service, ...] = ()
    telemetry: Telemetry | None = None
    refusals: tuple[Refusal, ...] = ()
    mount_errors: Mapping[str, str] = field(default_factory=dict)
    confirmed: bool = True
    owner_gone: str = ""
    heartbeat: datetime.datetime | None = None
    cluster: ReferencedCluster | None = None

    @classmethod
    def of(
        cls,
        job: TrainingJob | Raw,
        *,
        pods: Iterable[Raw] = (),
        gone: Iterable[tuple[Raw, datetime.datetime]] = (),
        services: Iterable[Raw] = (),
        events: Iterable[Raw] = (),
        telemetry: Telemetry | None = None,
        problems: Sequence[Refusal] = (),
        confirmed: bool = True,
        owner_gone: str = "",
        cluster: ReferencedCluster | None = None,
    ) -> Observed:
        """Facts from raw objects; those of other jobs (by their label job-uid) are left out.

        `events` are core/v1 Events of the job's pods: volumes that can't be mounted are told of nowhere else.
        """
        uid = job.metadata.uid if isinstance(job, TrainingJob) else job["metadata"]["uid"]
        found = [_pod(raw) for raw in pods if _labels(raw).get(Label.JOB_UID) == uid]
        return cls(
            pods=tuple(sorted((pod for pod in found if pod is not None), key=lambda pod: pod.name)),
            gone=tuple(dataclasses.replace(pod, gone=when) for raw, when in gone if (pod := _pod(raw)) is not None),
            services=tuple(sorted((_service(raw) for raw in services), key=lambda service: service.name)),
            telemetry=telemetry,
            refusals=tuple(problems),
            mount_errors=_mount_errors(events),
            confirmed=confirmed,
            owner_gone=owner_gone,
            heartbeat=None if isinstance(job, TrainingJob) else _heartbeat(job),
            cluster=cluster,
        )

    def of_attempt(self, attempt: int, role: Role | None = None) -> tuple[Pod, ...]:
        """The pods of an attempt, or those of one role."""
        return tuple(pod for pod in self.pods if pod.attempt == attempt and role in (None, pod.role))

    def pod(self, attempt: int, role: Role) -> Pod | None:
        """The attempt's scheduler or runner; None if there is none."""
        return next(iter(self.of_attempt(attempt, role)), None)

    def service(self, name: str) -> Service | None:
        """The Service of that name; None if there is none."""
        return next((service for service in self.services if service.name == name), None)


def _pod(raw: Raw) -> Pod | None:
    labels, metadata, spec, status = _labels(raw), raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    if labels.get(Label.ROLE) not in set(Role) or not labels.get(Label.ATTEMPT, "").isdigit():
        return None
    conditions = {condition["type"]: condition for condition in status.get("conditions") or ()}
    container = _first(status.get("containerStatuses"))
    state, last = container.get("state") or {}, container.get("lastState") or {}
    waiting, index = state.get("waiting") or {}, labels.get(Label.INDEX, "")
    resources = _first(spec.get("containers")).get("resources") or {}
    return Pod(
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        role=Role(labels[Label.ROLE]),
        attempt=int(labels[Label.ATTEMPT]),
        index=int(index) if index.isdigit() else None,
        phase=status.get("phase", "Pending"),
        reason=clean(status.get("reason") or "", 64),
        message=clean(status.get("message") or ""),
        created=time_of(metadata.get("creationTimestamp")),
        accepted=time_of(status.get("startTime")),
        deleting=time_of(metadata.get("deletionTimestamp")),
        deletion_grace=metadata.get("deletionGracePeriodSeconds"),
        node=spec.get("nodeName") or "",
        ip=clean(status.get("podIP") or "", 64),
        unschedulable=_unschedulable(conditions.get("PodScheduled")),
        disruption=_disruption(conditions.get("DisruptionTarget")),
        waiting=waiting.get("reason") or "",
        waiting_message=clean(waiting.get("message") or ""),
        running_since=time_of((state.get("running") or {}).get("startedAt")),
        ended=_ended(state.get("terminated")),
        previous=_ended(last.get("terminated")),
        restarts=container.get("restartCount") or 0,
        image=_first(spec.get("containers")).get("image") or "",
        amounts=amounts_of({**(resources.get("limits") or {}), **(resources.get("requests") or {})}),
    )


def _service(raw: Raw) -> Service:
    metadata, attempt = raw["metadata"], _labels(raw).get(Label.ATTEMPT, "")
    owner = _first([ref for ref in metadata.get("ownerReferences") or () if ref.get("controller")])
    ip = (raw.get("spec") or {}).get("clusterIP") or ""
    return Service(
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        cluster_ip="" if ip == "None" else ip,
        owner=owner.get("uid", ""),
        attempt=int(attempt) if attempt.isdigit() else 0,
        deleting=metadata.get("deletionTimestamp") is not None,
    )


def _ended(raw: Raw | None) -> Ended | None:
    if not raw:
        return None
    return Ended(
        exit_code=raw.get("exitCode", 0),
        reason=raw.get("reason") or "",
        message=raw.get("message") or "",
        started=time_of(raw.get("startedAt")),
        finished=time_of(raw.get("finishedAt")),
    )


def _unschedulable(condition: Raw | None) -> str:
    if condition is None or condition.get("status") != "False" or condition.get("reason") != "Unschedulable":
        return ""
    return clean(condition.get("message") or "no node fits")


def _disruption(condition: Raw | None) -> str:
    if condition is None or condition.get("status") != "True":
        return ""
    reason, message = condition.get("reason") or "Disrupted", condition.get("message") or ""
    return clean(f"{reason}: {message}" if message else reason)


def _mount_errors(events: Iterable[Raw]) -> dict[str, str]:
    """The latest FailedMount of each pod that says something of its volumes."""
    failed = [
        event
        for event in events
        if event.get("reason") in ("FailedMount", "FailedAttachVolume")
        and not _SLOW_KUBELET.search(event.get("message") or "")
    ]
    failed.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
    return {event["involvedObject"]["name"]: clean(event.get("message") or "") for event in failed}


def _heartbeat(job: Raw) -> datetime.datetime | None:
    """The API server notes when a field manager has changed what is its own: no client's clock counts."""
    times = [
        time_of(entry.get("time"))
        for entry in job["metadata"].get("managedFields") or ()
        if entry.get("manager") == HEARTBEAT_MANAGER
    ]
    return max((time for time in times if time is not None), default=None)


def _first(items: Sequence[Raw] | None) -> Raw:
    return items[0] if items else {}


def _labels(raw: Raw) -> Mapping[str, str]:
    return raw["metadata"].get("labels") or {}


def time_of(text: str | None) -> datetime.datetime | None:
    """The moment that a Kubernetes timestamp names; None for None, "" and what is no timestamp."""
    if not text:
        return None
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)
