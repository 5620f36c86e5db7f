"""Who writes how often to the API server, by its own count.

Each writer gets a FlowSchema of its own for each verb, at the priority that it has anyway, so that the API server
counts these requests apart (apiserver_flowcontrol_dispatched_requests_total): exactly, in the benchmark's namespace
alone, and without an audit log.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.cluster import Cluster, until

PATH = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas"
PREFIX = "startup-bench-"
VERBS = ("create", "update", "patch", "delete", "deletecollection")
COUNT = re.compile(
    r'^apiserver_flowcontrol_dispatched_requests_total\{flow_schema="' + PREFIX + r'([^"]+)"[^}]*\} ([\d.e+]+)',
    re.MULTILINE,
)


@dataclass(frozen=True)
class Writer:
    """Somebody who writes, as FlowSchemas name them, and the priority level that the cluster gives them by default."""

    name: str
    subject: dict[str, Any]
    level: str


def service_account(name: str, namespace: str, account: str) -> Writer:
    """An operator."""
    return Writer(
        name, {"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": account}}, "workload-low"
    )


SYSTEM = (
    Writer("controllers", {"kind": "Group", "group": {"name": "system:serviceaccounts:kube-system"}}, "workload-high"),
    Writer("scheduler", {"kind": "User", "user": {"name": "system:kube-scheduler"}}, "workload-high"),
    Writer("kubelet", {"kind": "Group", "group": {"name": "system:nodes"}}, "system"),
)


def _schema(
    writer: Writer, suffix: str, precedence: int, verbs: list[str], resources: list[str], namespace: str
) -> Any:
    rule = {"verbs": verbs, "apiGroups": ["*"], "resources": resources, "namespaces": [namespace]}
    return {
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": {"name": f"{PREFIX}{writer.name}-{suffix}"},
        "spec": {
            "matchingPrecedence": precedence,
            "priorityLevelConfiguration": {"name": writer.level},
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [{"subjects": [writer.subject], "resourceRules": [rule]}],
        },
    }


class Writes:
    """Counts of each writer's requests by verb; events apart."""

    def __init__(self, cluster: Cluster) -> None:
        self._api = cluster.api

    @contextlib.contextmanager
    def counted(self, writers: list[Writer], namespace: str) -> Iterator[None]:
        """FlowSchemas for *writers*; gone afterwards."""
        self.remove()
        schemas = [_schema(each, "events", 50, list(VERBS), ["events"], namespace) for each in writers]
        schemas += [_schema(each, verb, 60, [verb], ["*"], namespace) for each in writers for verb in VERBS]
        try:
            for schema in schemas:
                self._api.request("POST", PATH, body=schema)
            until(lambda: self._in_use() == len(schemas), 30, "the API server has not taken the FlowSchemas up")
            yield
        finally:
            self.remove()

    def _ours(self) -> list[Any]:
        return [each for each in self._api.list(PATH) if each["metadata"]["name"].startswith(PREFIX)]

    def _in_use(self) -> int:
        conditions = [schema.get("status", {}).get("conditions", ()) for schema in self._ours()]
        return sum(
            any(each["type"] == "Dangling" and each["status"] == "False" for each in every) for every in conditions
        )

    def remove(self) -> None:
        """Delete the FlowSchemas, those of an earlier run as well."""
        for schema in self._ours():
            self._api.request("DELETE", f"{PATH}/{schema['metadata']['name']}")

    def read(self) -> dict[str, int]:
        """Requests so far, by "<writer>-<verb>" and "<writer>-events"."""
        found: dict[str, int] = {}
        for name, count in COUNT.findall(self._api.text("/metrics")):
            found[name] = found.get(name, 0) + int(float(count))
        return found


def difference(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """What came in between; nothing for what did not."""
    grown = {name: count - before.get(name, 0) for name, count in after.items()}
    return {name: count for name, count in sorted(grown.items()) if count}
