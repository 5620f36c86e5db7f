"""The plan: from a job, its status and what is there to what is to be done. Pure, the clock is an argument."""

from __future__ import annotations

import datetime
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from dask_training.api import Condition, Mode, Phase, Progress, Reason
from dask_training.certificates import SigningRequestError, requested_key
from dask_training.manifests.volumes import PREFIX
from dask_training.model import JobFileError, Problem, TrainingJob
from dask_training.model.job import Metadata
from dask_training.observed import Observed
from dask_training.reconcile.actions import Plan
from dask_training.reconcile.ending import between_attempts, finalize, finished, with_verdict
from dask_training.reconcile.engines import run_engines
from dask_training.reconcile.outcome import Outcome
from dask_training.reconcile.release import releases
from dask_training.reconcile.running import run_attempt
from dask_training.reconcile.view import View
from dask_training.reconcile.writing import written
from dask_training.settings import OperatorSettings
from dask_training.status import Status


def plan_body(body: Mapping[str, Any], observed: Observed, now: datetime.datetime, settings: OperatorSettings) -> Plan:
    """`plan` for a job as the API server has it; one that is not right fails with the fields that are to be mended."""
    job, problems = _read(body)
    return plan(job, body.get("status"), observed, now, settings, problems=problems)


_KNOWN_JOBS: Final = 2000
_known: OrderedDict[tuple[object, ...], tuple[TrainingJob, tuple[Problem, ...]]] = OrderedDict()


def _read(body: Mapping[str, Any]) -> tuple[TrainingJob, tuple[Problem, ...]]:
    """The job, read once: a spec is the same as long as its generation is, and to check one takes 5 ms."""
    metadata = body["metadata"]
    key = (metadata.get("uid"), metadata.get("generation"), metadata.get("deletionTimestamp"))
    if not (key[0] and key[1]):
        return _parsed(body)
    if key not in _known:
        _known[key] = _parsed(body)
        if len(_known) > _KNOWN_JOBS:
            _known.popitem(last=False)
    return _known[key]


def _parsed(body: Mapping[str, Any]) -> tuple[TrainingJob, tuple[Problem, ...]]:
    try:
        return TrainingJob.from_body(body), ()
    except JobFileError as error:
        spec = body.get("spec") or {}
        metadata = msgspec.convert(body["metadata"], Metadata)
        stand_in = _stand_in(metadata, spec.get("mode"), spec.get("ttlSecondsAfterFinished"))
        return TrainingJob.from_body(stand_in), error.problems


def plan(
    job: TrainingJob,
    status: Mapping[str, Any] | None,
    observed: Observed,
    now: datetime.datetime,
    settings: OperatorSettings,
    *,
    problems: Sequence[Problem] = (),
) -> Plan:
    """What is to be done for a job; `status` is the one that is written, `now` is aware of its zone.

    `problems`: what is wrong with the spec. The same arguments give the same plan, and nothing of them is changed.
    """
    view = View(job, Status.read(status), observed, now, settings)
    if job.metadata.deletion_timestamp:
        return Plan()  # the garbage collector takes all, for all is owned by the job
    if view.status.is_final:
        return finished(view)
    if view.status.has_verdict:
        return finalize(view)
    if not view.status.attempt:
        problems = (*problems, *not_served(job, settings))
    if problems:
        return _refused(view, problems)
    if view.status.attempt and view.status.last_attempt is None:
        return run_engines(view) if job.spec.mode is Mode.WORKERS else run_attempt(view)
    return between_attempts(view)


def not_served(job: TrainingJob, settings: OperatorSettings) -> tuple[Problem, ...]:
    """What is right in itself but can't be done by this operator, in this installation."""
    spec, found = job.spec, []
    for field, count in (("replicas", spec.workers.replicas), ("maxReplicas", spec.workers.max_replicas or 0)):
        if count > settings.max_workers:
            text = f"must be at most {settings.max_workers}, got {count}: the operator allows no more workers in a job"
            found.append(Problem(f"spec.workers.{field}", text))
    if spec.mode is Mode.BATCH and spec.artifacts.destination is None and not settings.has_store:
        text = "is required: the operator has no artifact store. Name a url or a persistentVolumeClaim"
        found.append(Problem("spec.artifacts.destination", text))
    for number, volume in enumerate(spec.volumes):
        if volume["name"].startswith(PREFIX):
            found.append(Problem(f"spec.volumes[{number}].name", f"must not begin with {PREFIX!r}: the system's do"))
    if spec.session is not None and spec.session.certificate_signing_request:
        try:
            requested_key(spec.session.certificate_signing_request)
        except SigningRequestError as error:
            found.append(Problem("spec.session.certificateSigningRequest", str(error)))
    return tuple(found)


def _refused(view: View, problems: Sequence[Problem]) -> Plan:
    """The job fails before anything is made; if it has been edited into this while it ran, everything goes."""
    message = "\n".join(map(str, problems))
    status = with_verdict(view, view.status, Outcome(Reason.VALIDATION_FAILED, message))
    if not view.observed.pods and not view.status.attempt:
        status = status.with_condition(
            Condition.RESOURCES_RELEASED, Progress.RELEASED, "nothing was made", view.now, holds=True
        )
        status = status.with_condition(Condition.FAILED, Reason.VALIDATION_FAILED, message, view.now, holds=True)
        return written(view, status.replace(phase=Phase.FAILED.value))
    return written(view, status, delete=releases(view), first=True)


def _stand_in(metadata: Metadata, mode: object, ttl: object) -> dict[str, Any]:
    """A job with the right name in place of one that can't be read: enough to fail it and to take it away."""
    batch = mode != Mode.SESSION
    whole = type(ttl) is int and 0 <= ttl <= 315360000
    spec: dict[str, Any] = {"mode": str(Mode.BATCH if batch else Mode.SESSION)}
    spec |= {"runner": {"module": "none"}} if batch else {}
    spec |= {"ttlSecondsAfterFinished": ttl} if whole else {}
    known: dict[str, Any] = {"name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid}
    known |= {"generation": metadata.generation, "creationTimestamp": metadata.creation_timestamp}
    known |= {"deletionTimestamp": metadata.deletion_timestamp} if metadata.deletion_timestamp else {}
    return {"metadata": known, "spec": spec}
