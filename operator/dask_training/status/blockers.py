"""What keeps a pod from running, in words that say what to do about it."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dask_training.api import STORE_SECRET, Reason, Role
from dask_training.observed import Observed, Pod
from dask_training.refusal import Refusal
from dask_training.settings import OperatorSettings

_GRACE_SECONDS: Final = 60  # what a user applies in the wrong order is there by then
_PULL: Final = {
    *("ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable", "ErrImageNeverPull"),
    *("SignatureValidationFailed", "InvalidImageName"),
}
_CONFIG: Final = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
# A registry's words for: this image will not be there in a minute, either.
_PERMANENT: Final = re.compile(
    r"no such host|not found|manifest unknown|does not exist|unauthorized|denied|forbidden|invalid reference"
    r"|not present with pull",
    re.IGNORECASE,
)
_MISSING: Final = re.compile(
    r'\b(secret|configmap) "([^"]+)" not found|key (\S+) in (Secret|ConfigMap) \S*?([^/\s]+)$', re.IGNORECASE
)
_ORDER: Final = (Role.RUNNER, Role.SCHEDULER, Role.WORKER)


@dataclass(frozen=True)
class Blocker:
    """Why something does not start; `fails_at`: when it is given up, None: when the startup deadline is over."""

    reason: Reason
    message: str
    fails_at: datetime.datetime | None = None
    role: Role | None = None


def blockers(observed: Observed, attempt: int, settings: OperatorSettings) -> tuple[Blocker, ...]:
    """All that stands in the way of an attempt's pods, what is given up first before the rest."""
    found = [blocker for refusal in observed.refusals if (blocker := of_refusal(refusal)) is not None]
    for role in _ORDER:
        for pod in observed.of_attempt(attempt, role):
            found.extend(of_pod(pod, observed, settings))
    never = datetime.datetime.max.replace(tzinfo=datetime.UTC)
    return tuple(sorted(found, key=lambda blocker: blocker.fails_at or never))


def of_pod(pod: Pod, observed: Observed, settings: OperatorSettings) -> Iterator[Blocker]:
    """What keeps one pod from running."""
    if pod.deleting is not None or pod.is_over or pod.running_since is not None:
        return
    since = pod.accepted or pod.created
    if pod.unschedulable:
        yield Blocker(Reason.UNSCHEDULABLE, unschedulable(pod), role=pod.role)
    elif pod.waiting in _PULL:
        grace = _pull_grace(pod, settings)
        yield Blocker(Reason.IMAGE_PULL_FAILED, image_pull(pod), _after(since, grace), pod.role)
    elif pod.waiting in _CONFIG:
        yield Blocker(
            Reason.CONFIG_ERROR, config_error(pod, pod.waiting_message), _after(since, _GRACE_SECONDS), pod.role
        )
    elif pod.name in observed.mount_errors and not pod.has_run:
        message = observed.mount_errors[pod.name]
        fails_at = _after(since, _GRACE_SECONDS) if "not found" in message else None
        yield Blocker(Reason.CONFIG_ERROR, config_error(pod, message), fails_at, pod.role)


def of_refusal(refusal: Refusal) -> Blocker | None:
    """What the API server's refusal of an object means."""
    role = next((role for role in _ORDER if f"-{role}" in refusal.name), None)
    what = f"{refusal.kind} {refusal.name}"
    if refusal.is_quota:
        text = f"{what}: {refusal.message}\nAsk for fewer or smaller workers, or for a larger ResourceQuota."
        return Blocker(Reason.QUOTA_EXCEEDED, text, role=role)
    if refusal.code == 409:
        text = f"{what} exists already and is not this job's.\nDelete it, or give the job another name."
        return Blocker(Reason.NAME_COLLISION, text, refusal.since, role)
    if refusal.name == STORE_SECRET and refusal.code == 503:
        text = f"the artifact store does not answer: {refusal.message}"
        text += "\nWho runs the cluster can see why in the store's pod and in the operator's log."
        return Blocker(Reason.ARTIFACT_STORE_FAILED, text)
    text = f"Kubernetes refused {what}: {refusal.message}"
    if refusal.code == 422:
        text += "\nMend the field of the job that this comes from: delete the job and apply it again."
        return Blocker(Reason.CONFIG_ERROR, text, _after(refusal.since, _GRACE_SECONDS), role)
    return Blocker(Reason.CONFIG_ERROR, f"{text}\nWho runs the cluster can allow it.", role=role)


def image_pull(pod: Pod) -> str:
    """Why an image can't be pulled, in the registry's words."""
    said = re.sub(rf'^Back-off pulling image "{re.escape(pod.image)}":?\s*', "", pod.waiting_message)
    said = re.sub(r"^(ErrImagePull: )+", "", said) or pod.waiting
    if pod.waiting == "InvalidImageName":
        return f"image {pod.image!r} is no valid name: {said}\nMend spec.image."
    advice = "Check its name and tag in spec.image; an image of a private registry needs spec.imagePullSecrets."
    if pod.waiting == "ErrImageNeverPull":
        advice = "imagePullPolicy is Never and the node does not have it: load it, or choose IfNotPresent."
    return f"image {pod.image!r} of the {pod.role} can't be pulled: {said}\n{advice}"


def config_error(pod: Pod, message: str) -> str:
    """What a container lacks to be started."""
    match = _MISSING.search(message)
    if match is None:
        return f"the {pod.role}'s container can't be made: {message}"
    kind, name, key, kind_of_key, name_of_key = match.groups()
    kind = {"secret": "Secret", "configmap": "ConfigMap"}[(kind or kind_of_key).lower()]
    what = f"{kind} {name!r}" if name else f"key {key!r} of {kind} {name_of_key!r}"
    return f"{what}, which the {pod.role} needs, is not there: {message}\nMake it in the job's namespace."


def unschedulable(pod: Pod) -> str:
    """Why no node takes a pod, in the scheduler's words."""
    which = f"worker {pod.index}" if pod.role is Role.WORKER else f"the {pod.role}"
    return f"no node takes {which}: {pod.unschedulable}\nAsk for less in its resources, or for other nodes."


def _pull_grace(pod: Pod, settings: OperatorSettings) -> float:
    if pod.waiting == "InvalidImageName":
        return 0
    permanent = pod.waiting == "ErrImageNeverPull" or _PERMANENT.search(pod.waiting_message)
    return (
        min(_GRACE_SECONDS, settings.image_pull_deadline_seconds) if permanent else settings.image_pull_deadline_seconds
    )


def _after(since: datetime.datetime | None, seconds: float) -> datetime.datetime | None:
    return None if since is None else since + datetime.timedelta(seconds=seconds)
