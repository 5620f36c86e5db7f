"""The kinds of objects that the operator deals with, and their addresses in the API."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from dask_training import api


@dataclass(frozen=True)
class Resource:
    """A kind of namespaced objects."""

    group: str
    version: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        """`apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """Give the path of an object or a collection; that of all namespaces where `namespace` is None."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace is not None:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part is not None]
        return "/" + "/".join(quote(part, safe="") for part in parts)


JOBS = Resource(api.GROUP, api.VERSION, api.PLURAL, api.KIND)
PODS = Resource("", "v1", "pods", "Pod")
SERVICES = Resource("", "v1", "services", "Service")
SECRETS = Resource("", "v1", "secrets", "Secret")
EVENTS = Resource("", "v1", "events", "Event")
NETWORK_POLICIES = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")

BY_KIND = {resource.kind: resource for resource in (JOBS, PODS, SERVICES, SECRETS, NETWORK_POLICIES, EVENTS, LEASES)}
