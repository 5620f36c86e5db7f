"""The cluster that a job names in `spec.clusterRef`, as far as its scheduler's Service tells. Pure.

The Service alone is looked at, which the operator may read anyway: it says where the scheduler is and whose it is. The
DaskCluster itself would take a right on objects that belong to somebody else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from dask_training.api import Port

KIND: Final = "DaskCluster"
_PORT_NAMES: Final = {"tcp-comm": Port.SCHEDULER.value, "http-dashboard": Port.SCHEDULER_HTTP.value}


@dataclass(frozen=True)
class ReferencedCluster:
    """A DaskCluster by its name, and its scheduler's address; `problem` says why there is no address.

    `dashboard` is the URL of its pages, if the Service has a port for them; `uid` is the Service's.
    """

    name: str
    address: str = ""
    dashboard: str = ""
    uid: str = ""
    problem: str = ""

    @classmethod
    def of(cls, name: str, namespace: str, service: Mapping[str, Any] | None) -> ReferencedCluster:
        """From the Service of `service_name(name)`; None: there is none, or it is on its way out."""
        known = service_name(name)
        if service is None or service["metadata"].get("deletionTimestamp"):
            return cls(
                name,
                problem=f"there is no Service {known!r} in namespace {namespace!r}, which dask-kubernetes makes for"
                f" {KIND} {name!r}.\nMake the cluster there, or mend spec.clusterRef.name; there are: kubectl -n"
                f" {namespace} get daskclusters",
            )
        owners = service["metadata"].get("ownerReferences") or ()
        if not any(each.get("kind") == KIND and each.get("name") == name for each in owners):
            text = f"Service {known!r} in namespace {namespace!r} is not that of {KIND} {name!r}: it has another owner"
            return cls(name, problem=f"{text}.\nName a cluster of dask-kubernetes in spec.clusterRef.")
        ports = _ports(service)
        if "tcp-comm" not in ports:
            text = f"Service {known!r} of {KIND} {name!r} has neither a port 'tcp-comm' nor {Port.SCHEDULER.value}"
            return cls(name, problem=f"{text}.\nGive the cluster's spec.scheduler.service.ports one for the scheduler.")
        ip = (service.get("spec") or {}).get("clusterIP") or ""
        host = f"{known}.{namespace}" if ip in ("", "None") else f"[{ip}]" if ":" in ip else ip
        dashboard = f"http://{host}:{ports['http-dashboard']}/status" if "http-dashboard" in ports else ""
        return cls(name, f"tcp://{host}:{ports['tcp-comm']}", dashboard, str(service["metadata"].get("uid") or ""))


def service_name(cluster: str) -> str:
    """Name of the Service that dask-kubernetes makes for a DaskCluster's scheduler."""
    return f"{cluster}-scheduler"


def _ports(service: Mapping[str, Any]) -> dict[str, int]:
    """The ports by dask-kubernetes' names for them, found by name or else by Dask's own numbers."""
    found: dict[str, int] = {}
    for wanted, number in _PORT_NAMES.items():
        given = (service.get("spec") or {}).get("ports") or ()
        named = [port["port"] for port in given if port.get("name") == wanted]
        usual = [port["port"] for port in given if port.get("port") == number]
        if named or usual:
            found[wanted] = (named or usual)[0]
    return found
