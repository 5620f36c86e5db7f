"""What of a job may be changed while it is there: the twins, in Python, of the CRD's CEL rules on updates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from dask_training.model.problems import Problem
from dask_training.model.rules import Node, values_at


class UpdateRule(msgspec.Struct, frozen=True):
    """`holds` of the old and the new value at one place of the schema, or `field` has the problem `message`."""

    message: str
    holds: Callable[[Any, Any], bool]
    field: str


def _unchanged(field: str) -> UpdateRule:
    message = "can't be changed: delete the job and apply it again, or give it another name"
    return UpdateRule(message, lambda old, new: old.get(field) == new.get(field), field)


def _stopped_stay(old: Node, new: Node) -> bool:
    return set(old.get("stopped", ())) <= set(new.get("stopped", ()))


def _replicas(spec: Node) -> Any:
    return spec.get("workers", {}).get("replicas")


_REPLICAS_OF_ENGINES: Final = UpdateRule(
    "can't be changed in mode Workers: name the workers to stop in workers.stopped, or make another job for more",
    lambda old, new: new.get("mode") != "Workers" or _replicas(old) == _replicas(new),
    "workers.replicas",
)


def _final_phase(old: Node, new: Node) -> bool:
    before, after = (job.get("status", {}).get("phase") for job in (old, new))
    return before not in ("Succeeded", "Failed") or after == before


# spec is immutable but for suspend, ttlSecondsAfterFinished and workers.{replicas,minReplicas,maxReplicas,stopped}.
UPDATE_RULES: Final[Mapping[str, tuple[UpdateRule, ...]]] = {
    "": (UpdateRule("is final: a job that has Succeeded or Failed stays so", _final_phase, "status.phase"),),
    "spec": (
        _REPLICAS_OF_ENGINES,
        *map(
            _unchanged,
            (
                *(
                    "mode",
                    "image",
                    "imagePullPolicy",
                    "imagePullSecrets",
                    "packages",
                    "code",
                    "env",
                    "envFrom",
                    "volumes",
                ),
                *(
                    "serviceAccountName",
                    "priorityClassName",
                    "nodeSelector",
                    "tolerations",
                    "affinity",
                    "runner",
                    "session",
                ),
                *("scheduler", "artifacts", "backoffLimit", "failurePolicy", "activeDeadlineSeconds"),
                *("startupDeadlineSeconds", "idleTimeoutSeconds", "clusterRef"),
            ),
        ),
    ),
    "spec.workers": (
        *map(_unchanged, ("adaptive", "threads", "lossGraceSeconds", "resources", "volumeMounts")),
        UpdateRule("must keep what it holds: a stopped worker is not started again", _stopped_stay, "stopped"),
    ),
    "status": (
        UpdateRule("must not decrease", lambda old, new: new.get("attempt", -1) >= old.get("attempt", -1), "attempt"),
    ),
}


def check_update(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Problem]:
    """What is changed between two bodies of a job, defaults filled in, that may not be."""
    found = []
    for place, rules in UPDATE_RULES.items():
        before, after = (next((value for _, value in values_at(body, place)), None) for body in (old, new))
        if before is None or after is None:
            continue
        found += [
            Problem(f"{place}.{rule.field}".removeprefix("."), rule.message)
            for rule in rules
            if not rule.holds(before, after)
        ]
    return found
