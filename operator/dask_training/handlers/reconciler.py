"""One look at one job: what is there, what is to be done, do it, and look again until nothing is left to do."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from dask_training import api
from dask_training.api import Label, Mode, Phase
from dask_training.cluster_ref import ReferencedCluster
from dask_training.errors import DaskTrainingError
from dask_training.handlers.cache import Cache
from dask_training.handlers.executor import Executor, Outcome
from dask_training.handlers.leftovers import Leftovers
from dask_training.handlers.logs import about_key
from dask_training.handlers.metrics import Metrics
from dask_training.handlers.store_accounts import StoreUnavailableError
from dask_training.handlers.workqueue import Key, WorkQueue
from dask_training.kube import KubeClient
from dask_training.kube.client import JSONObject
from dask_training.kube.errors import ApiError, UnknownOutcomeError
from dask_training.kube.resources import EVENTS, PODS, SECRETS
from dask_training.observed import Observed
from dask_training.reconcile import Plan
from dask_training.telemetry import Telemetry

LOG = logging.getLogger(__name__)

ROUNDS = 12
"""Plans in a row for one job before others get their turn; a whole attempt takes four."""


class Leader(Protocol):
    """Says whether this replica may write."""

    @property
    def is_leader(self) -> bool:
        """Whether it may."""


class Planner(Protocol):
    """Decides: pure."""

    def __call__(self, job: JSONObject, observed: Observed, now: datetime.datetime) -> Plan:
        """Give the plan for a job (its object)."""


class NotLeaderError(Exception):
    """This replica does not surely hold the lease, and so may not write."""


class Reconciler:
    """Takes keys from the queue and brings their jobs on. `telemetry` gives a job's last telemetry by uid and attempt.

    `owner_gone` gives, by a job's uid, what has become of the pod that the job belongs to; "" while it is there.
    `cluster` gives what was last seen of the one that its spec.clusterRef names, by uid.
    `store` is asked to have a namespace's account ready before a job's first pods are made there.
    """

    def __init__(  # noqa: PLR0913 - the operator's parts, by name
        self,
        *,
        client: KubeClient,
        cache: Cache,
        queue: WorkQueue,
        executor: Executor,
        planner: Planner,
        leader: Leader,
        metrics: Metrics,
        telemetry: Callable[[str, int], Telemetry | None] = lambda _uid, _attempt: None,
        owner_gone: Callable[[str], str] = lambda _uid: "",
        cluster: Callable[[str], ReferencedCluster | None] = lambda _uid: None,
        store: Callable[[str], Any] | None = None,
        now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
    ) -> None:
        self._client = client
        self._cache = cache
        self._queue = queue
        self._executor = executor
        self._refusals = executor.refusals
        self._planner = planner
        self._leader = leader
        self._metrics = metrics
        self._telemetry = telemetry
        self._owner_gone = owner_gone
        self._cluster = cluster
        self._store = store
        self._now = now
        self._leftovers = Leftovers(client, cache, now)

    async def work(self) -> None:
        """Take keys for ever."""
        loop = asyncio.get_running_loop()
        while True:
            key = await self._queue.take()
            started = loop.time()
            self._metrics.reaction.observe(self._queue.waited)
            try:
                await self._one(key)
            finally:
                self._queue.done(key)
                self._metrics.reconcile.observe(loop.time() - started)

    async def _one(self, key: Key) -> None:
        try:
            await self.reconcile(key)
        except NotLeaderError:  # the lease is late, or lost, which ends this process: who holds it knows
            self._queue.back_off(key, 1.0)
        except (ApiError, DaskTrainingError) as error:
            self._again(key, str(error), getattr(error, "retry_after", 0.0))
        except Exception as error:  # one job's bad luck must not end the operator
            LOG.exception("a look at the job failed", extra=about_key(key))
            self._again(key, repr(error), 1.0)

    def _again(self, key: Key, why: str, at_least: float) -> None:
        self._metrics.errors.inc()
        seconds = self._queue.back_off(key, at_least)
        LOG.warning("again in %.1f s: %s", seconds, why, extra=about_key(key))

    async def reconcile(self, key: Key) -> None:
        """Plan and carry out until there is nothing to do. Raises ApiError, NotLeaderError."""
        confirmed = False
        events: list[JSONObject] = []
        for _ in range(ROUNDS):
            if not self._leader.is_leader:
                raise NotLeaderError
            job = self._cache.job(key)
            await self._leftovers.sweep(key, job)
            job = self._cache.job(key)
            if job is None:
                self._forget(key)
                return
            if job["metadata"].get("deletionTimestamp"):
                await self._leftovers.take_away(key, job["metadata"]["uid"])
                return
            plan = self._plan(key, job, confirmed=confirmed, events=events)
            if plan.confirm and not confirmed:
                await self._confirm(job)
                confirmed = True
                continue
            if plan.events_of and not events:
                events = await self._events_of(key[0], plan.events_of)
                if events:
                    continue
            if not await self._carry_out(key, job, plan):
                return
            confirmed, events = False, []
        LOG.warning("%d plans in a row and still something to do: others first", ROUNDS, extra=about_key(key))
        self._queue.check_after(key, 1.0)

    async def _carry_out(self, key: Key, job: JSONObject, plan: Plan) -> bool:
        """Say whether to plan again at once."""
        if self._store is not None and _keeps_artifacts(job) and _makes_pods(plan):
            try:
                await self._store(key[0])
            except StoreUnavailableError as error:
                await self._without_store(key, job, plan, error)
                raise
            self._refusals.clear(key, SECRETS.kind, api.STORE_SECRET)
        outcome = await self._executor.run(key, job, plan)
        self._measure(job, self._cache.job(key))
        if outcome.failures:
            raise outcome.failures[0] if len(outcome.failures) == 1 else _joined(outcome)
        self._queue.succeeded(key)
        if outcome.done or outcome.conflicts:
            return True
        if plan.check_after is not None:
            self._queue.check_after(key, plan.check_after)
        elif not plan.is_empty:  # all of it was refused: the plan says when again, or else it is tried in a while
            self._queue.check_after(key, 5.0)
        return False

    async def _without_store(self, key: Key, job: JSONObject, plan: Plan, error: StoreUnavailableError) -> None:
        """Make no pods that could not keep their results; let the next plan tell the user why."""
        known = {(refusal.kind, refusal.name) for refusal in self._refusals.of(key)}
        reason = UnknownOutcomeError("artifact store", str(error), status=503, reason="StoreUnavailable")
        self._refusals.add(key, SECRETS.kind, api.STORE_SECRET, reason, self._now())
        if (SECRETS.kind, api.STORE_SECRET) in known:
            await self._executor.run(key, job, dataclasses.replace(plan, create=()))

    def _plan(self, key: Key, job: JSONObject, *, confirmed: bool, events: list[JSONObject]) -> Plan:
        uid, attempt = job["metadata"]["uid"], (job.get("status") or {}).get("attempt") or 0
        if attempt:
            self._refusals.keep_only(key, api.attempt_name(key[1], uid, attempt))
        pods, services = self._cache.children(uid)
        observed = Observed.of(
            job,
            pods=pods,
            gone=self._cache.gone(uid),
            services=services,
            events=events,
            telemetry=self._telemetry(uid, attempt),
            problems=self._refusals.of(key),
            confirmed=confirmed,
            owner_gone=self._owner_gone(uid),
            cluster=self._cluster(uid),
        )
        return self._planner(job, observed, self._now())

    async def _confirm(self, job: JSONObject) -> None:
        """Put a list of the job's pods, and the job with its heartbeat, in place of what watches have told."""
        if "heartbeatTimeoutSeconds" in ((job.get("spec") or {}).get("session") or {}):
            await self._executor.reread(job)
        namespace, uid = job["metadata"]["namespace"], job["metadata"]["uid"]
        listed, version = set(), ""
        async for items, at in self._client.pages(PODS, namespace, labels=f"{Label.JOB_UID}={uid}"):
            version = version or at
            for body in items:
                listed.add(str(body["metadata"]["uid"]))
                self._cache.put(PODS, body)
        self._cache.drop_unlisted(PODS, listed, namespace, version, job=uid)

    async def _events_of(self, namespace: str, pods: tuple[str, ...]) -> list[JSONObject]:
        found: list[JSONObject] = []
        for pod in pods[:4]:  # one tells as much as all
            fields = f"involvedObject.kind=Pod,involvedObject.name={pod}"
            async for items, _ in self._client.pages(EVENTS, namespace, fields=fields):
                found += items
        return found

    def _forget(self, key: Key) -> None:
        self._queue.forget(key)
        self._refusals.forget(key)

    def _measure(self, before: JSONObject, after: JSONObject | None) -> None:
        old, new = (job.get("status") or {} for job in (before, after or {}))
        if old.get("phase") == new.get("phase"):
            return
        if new.get("phase") in (Phase.SUCCEEDED, Phase.FAILED):
            self._metrics.finished.labels(new["phase"], str(new.get("reason") or "")).inc()
        elif new.get("phase") == Phase.RUNNING and new.get("attempt") == 1:
            created = datetime.datetime.fromisoformat(before["metadata"]["creationTimestamp"])
            self._metrics.startup.observe(max((self._now() - created).total_seconds(), 0.0))


def _keeps_artifacts(job: JSONObject) -> bool:
    return (job.get("spec") or {}).get("mode") in (None, Mode.BATCH)


def _makes_pods(plan: Plan) -> bool:
    return any(isinstance(item, Mapping) and item["kind"] == "Pod" for item in plan.create)


def _joined(outcome: Outcome) -> ApiError:
    return UnknownOutcomeError(
        "several requests", "; ".join(map(str, outcome.failures)), retry_after=outcome.retry_after
    )
