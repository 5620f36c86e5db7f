"""Which replica works: a Lease of coordination.k8s.io, as Kubernetes' own controllers use it.

Time is measured on this process's own clock alone: another holder's lease is over when it has not changed for its
duration here, whatever the clocks of the machines say.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from dask_training.errors import DaskTrainingError
from dask_training.kube import KubeClient
from dask_training.kube.client import JSONObject
from dask_training.kube.errors import AlreadyExistsError, ApiError, ConflictError, NotFoundError
from dask_training.kube.resources import LEASES
from dask_training.status import timestamp

LOG = logging.getLogger(__name__)

DURATION = 15.0
RENEW_DEADLINE = 10.0
RETRY_PERIOD = 2.0


class LeaseLostError(DaskTrainingError):
    """The lease could not be renewed in time, or another replica holds it."""


class Leadership:
    """Holds the Lease `name`, or waits for it; `is_leader` is true only while it surely holds.

    `clock` gives seconds that never go back, `sleep` waits; by default the event loop's.
    """

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        name: str,
        identity: str,
        *,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._sleep = sleep
        self._renewed: float | None = None  # when we last wrote it
        self._seen: tuple[str, float] | None = None  # another holder's version, and since when we know it
        self.acquired = asyncio.Event()

    @property
    def is_leader(self) -> bool:
        """Whether this replica may write: it has renewed the lease less than ten seconds ago."""
        return self._renewed is not None and self._clock() - self._renewed < RENEW_DEADLINE

    async def run(self) -> None:
        """Wait for the lease, then keep it. Raises LeaseLostError when it is lost, and never returns."""
        while not await self._try():
            await self._sleep(RETRY_PERIOD)
        LOG.info("this replica leads", extra={"lease": f"{self._namespace}/{self._name}", "identity": self._identity})
        self.acquired.set()
        while True:
            await self._sleep(RETRY_PERIOD)
            if not await self._try() and not self.is_leader:
                self.acquired.clear()
                raise LeaseLostError(f"lease {self._namespace}/{self._name} is lost: another replica takes over")

    async def release(self) -> None:
        """Give the lease up, so that another replica need not wait for its end."""
        if self._renewed is None:
            return
        self._renewed = None
        self.acquired.clear()
        try:
            lease = await self._client.get(LEASES, self._namespace, self._name, urgent=True)
            if (lease.get("spec") or {}).get("holderIdentity") != self._identity:
                return
            lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
            await self._client.replace(LEASES, self._namespace, self._name, lease, urgent=True)
        except ApiError as error:
            LOG.warning("the lease could not be given up: %s", error)

    async def _try(self) -> bool:
        started = self._clock()  # a lease is as old as the request that wrote it, not as its answer
        try:
            held = await self._acquire_or_renew()
        except ConflictError:  # another replica wrote first
            held = False
        except ApiError as error:
            LOG.warning("the lease could not be read or written: %s", error)
            return False
        if held:
            self._renewed = started
        elif self._renewed is not None:
            self._renewed = None if self._taken_by_another else self._renewed
        return held

    @property
    def _taken_by_another(self) -> bool:
        return self._seen is not None

    async def _acquire_or_renew(self) -> bool:
        try:
            lease = await self._client.get(LEASES, self._namespace, self._name, urgent=True)
        except NotFoundError:
            try:
                await self._client.create(LEASES, self._namespace, self._fresh(), urgent=True)
            except AlreadyExistsError:
                return False
            return True
        spec = lease.get("spec") or {}
        if not self._may_take(spec, str(lease["metadata"].get("resourceVersion"))):
            return False
        lease["spec"] = spec | self._claim(spec)
        await self._client.replace(LEASES, self._namespace, self._name, lease, urgent=True)
        self._seen = None
        return True

    def _may_take(self, spec: JSONObject, version: str) -> bool:
        holder = spec.get("holderIdentity")
        if not holder or holder == self._identity:
            return True
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, self._clock())
        return self._clock() - self._seen[1] >= float(spec.get("leaseDurationSeconds") or DURATION)

    def _claim(self, spec: JSONObject) -> JSONObject:
        claim: JSONObject = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(DURATION),
            "renewTime": _now(),
        }
        if spec.get("holderIdentity") != self._identity:
            claim |= {"acquireTime": claim["renewTime"]}
            claim |= {"leaseTransitions": int(spec.get("leaseTransitions") or 0) + 1}
        return claim

    def _fresh(self) -> dict[str, Any]:
        return {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": self._claim({}) | {"leaseTransitions": 0},
        }


def _now() -> str:
    return timestamp(datetime.now(UTC), "microseconds")


class AlwaysLeader:
    """What stands in for a lease where there is one replica."""

    is_leader = True

    def __init__(self) -> None:
        self.acquired = asyncio.Event()
        self.acquired.set()

    async def run(self) -> None:
        """Wait for ever."""
        await asyncio.Event().wait()

    async def release(self) -> None:
        """Give nothing up."""
