"""Pods in human words: why one waits, and how one ended. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dask_training.api import Label

_PULL = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"})
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_FINAL = frozenset({"InvalidImageName", "ErrImageNeverPull"})


@dataclass(frozen=True)
class Problem:
    """Why a pod does not run; `is_final` if waiting longer does not help."""

    reason: str
    message: str
    is_final: bool = False

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}" if self.message else self.reason


def waiting_problem(pod: Mapping[str, Any]) -> Problem | None:
    """Why *pod* does not run; None if nothing is wrong, as far as it says."""
    status = pod.get("status") or {}
    for container in container_statuses(pod):
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason = str(waiting.get("reason") or "")
        message = str(waiting.get("message") or "")
        if reason in _PULL:
            image = f"the image {container.get('image') or '?'} can't be pulled"
            return Problem(reason, f"{image}{f' ({message})' if message else ''}", reason in _FINAL)
        if reason in _CONFIG or reason == "CrashLoopBackOff":
            return Problem(reason, message)
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return Problem(str(condition.get("reason") or "Unschedulable"), str(condition.get("message") or ""))
    if status.get("phase") == "Failed":
        return Problem(str(status.get("reason") or "Failed"), str(status.get("message") or ""), is_final=True)
    return None


def container_statuses(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the kubelet says of the pod's containers."""
    return list((pod.get("status") or {}).get("containerStatuses") or ())


def state_of(pod: Mapping[str, Any]) -> str:
    """What the pod does, in a few words, such as `running`, `ended (exit code 137, OOMKilled)`."""
    status = pod.get("status") or {}
    if (pod.get("metadata") or {}).get("deletionTimestamp"):
        return "being removed"
    problem = waiting_problem(pod)
    ended = next(
        (state["terminated"] for each in container_statuses(pod) if "terminated" in (state := each.get("state") or {})),
        None,
    )
    if ended is not None:
        reason = str(ended.get("reason") or "")
        said = f", {reason}" if reason not in {"", "Completed", "Error"} else ""
        return f"ended (exit code {ended.get('exitCode')}{said})"
    if problem is not None:
        return str(problem)
    if any("running" in (each.get("state") or {}) for each in container_statuses(pod)):
        return "running"
    return {"Pending": "starting"}.get(str(status.get("phase")), str(status.get("phase") or "unknown").lower())


def restarts_of(pod: Mapping[str, Any]) -> int:
    """How often the kubelet has started its containers again."""
    return sum(int(each.get("restartCount") or 0) for each in container_statuses(pod))


def role_of(pod: Mapping[str, Any]) -> str:
    """runner, scheduler or worker, as our label says."""
    return str(((pod.get("metadata") or {}).get("labels") or {}).get(Label.ROLE) or "")


def short_name(pod: Mapping[str, Any]) -> str:
    """Such as runner, scheduler, worker-0: what is left of the name when the job's is known."""
    labels = (pod.get("metadata") or {}).get("labels") or {}
    role = role_of(pod) or str((pod.get("metadata") or {}).get("name"))
    number = labels.get(Label.INDEX)
    return f"{role}-{number}" if number is not None else role
