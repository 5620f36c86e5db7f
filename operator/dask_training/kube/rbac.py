"""What the operator may do, and why: the chart's Roles are compared with this table by a test.

No rule lets it read Secrets or run anything in a pod, and none holds a wildcard.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dask_training import api


class Scope(StrEnum):
    """Where a rule is needed."""

    JOBS = "jobs"
    """Wherever jobs may be: a ClusterRole when the operator serves the cluster, else a Role in each namespace."""
    OPERATOR = "operator"
    """In the operator's own namespace alone."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule of a Role, with its reason."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    reason: str
    names: tuple[str, ...] = ()
    scope: Scope = Scope.JOBS

    def to_dict(self) -> dict[str, list[str]]:
        """Give the rule as it stands in a Role."""
        rule = {"apiGroups": [self.group], "resources": list(self.resources), "verbs": list(self.verbs)}
        return rule | ({"resourceNames": list(self.names)} if self.names else {})


RULES = (
    Rule(
        group=api.GROUP,
        resources=(api.PLURAL,),
        verbs=("get", "list", "watch", "delete"),
        reason="jobs are read; deleted when ttlSecondsAfterFinished is over; never created or changed",
    ),
    Rule(
        group=api.GROUP,
        resources=(f"{api.PLURAL}/status",),
        verbs=("patch",),
        reason="the only thing of a job that the operator writes",
    ),
    Rule(
        group=api.GROUP,
        resources=(f"{api.PLURAL}/finalizers",),
        verbs=("update",),
        reason="ownerReferences with blockOwnerDeletion, where the API server checks who may set them (OpenShift)",
    ),
    Rule(
        group="",
        resources=("pods",),
        verbs=("get", "list", "watch", "create", "delete", "deletecollection"),
        reason="scheduler, runner and workers; get: whose pod it is when a name is taken, and whether a session's runs",
    ),
    Rule(
        group="",
        resources=("services",),
        verbs=("get", "list", "watch", "create", "delete"),
        reason="one for each attempt; get: whose Service it is when a name is taken",
    ),
    Rule(
        group="",
        resources=("services/finalizers",),
        verbs=("update",),
        reason="the Service owns the attempt's Secret and NetworkPolicy; as for jobs/finalizers",
    ),
    Rule(
        group="",
        resources=("secrets",),
        verbs=("create",),
        reason="certificates of an attempt, credentials of a namespace's store account; never read, never listed",
    ),
    Rule(
        group="",
        resources=("secrets",),
        verbs=("patch",),
        names=(api.STORE_SECRET,),
        reason="new credentials or address of the operator's store; this one Secret alone, which the operator made",
    ),
    Rule(
        group="networking.k8s.io",
        resources=("networkpolicies",),
        verbs=("get", "create"),
        reason="one for each attempt; get: whose it is when a name is taken; deleted with its Service",
    ),
    Rule(
        group="",
        resources=("events",),
        verbs=("create", "list"),
        reason="one for each transition; list: a volume that can't be mounted is told of nowhere else",
    ),
    Rule(
        group="coordination.k8s.io",
        resources=("leases",),
        verbs=("get", "create", "update"),
        reason="one replica of the operator works, the others wait",
        scope=Scope.OPERATOR,
    ),
)
