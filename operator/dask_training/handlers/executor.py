"""Carries a plan out: group by group, each group's requests at once, what the server replies put into the cache.

A plan is never trusted beyond the first thing that goes wrong: the rest of it is dropped, and a new one is made from
what is there then.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dask_training.handlers.cache import Cache
from dask_training.handlers.logs import about, about_key
from dask_training.handlers.refusals import Refusals
from dask_training.handlers.workqueue import Key
from dask_training.kube import KubeClient
from dask_training.kube.client import JSONObject
from dask_training.kube.errors import (
    AlreadyExistsError,
    ApiError,
    ConflictError,
    NameCollisionError,
    NotFoundError,
    RefusedError,
    ThrottledError,
    UnknownOutcomeError,
)
from dask_training.kube.resources import BY_KIND, JOBS, PODS, SECRETS
from dask_training.manifests import session_status
from dask_training.reconcile import Delete, Plan, SecretRequest, WriteStatus, stages
from dask_training.status import timestamp

LOG = logging.getLogger(__name__)


@dataclass
class Outcome:
    """What came of a plan: whether anything was done, and what stood in the way.

    `retry_after` in seconds is what the server asked for, 0 where it asked for nothing.
    """

    done: int = 0
    conflicts: int = 0
    failures: list[ApiError] = field(default_factory=list)

    @property
    def retry_after(self) -> float:
        """The longest wait that an answer asked for."""
        waits = [f.retry_after for f in self.failures if isinstance(f, ThrottledError | UnknownOutcomeError)]
        return max(waits, default=0.0)


class Executor:
    """Writes what plans say. `post` takes an Event on a job (its object) to be posted in its own time."""

    def __init__(
        self,
        client: KubeClient,
        cache: Cache,
        refusals: Refusals,
        *,
        post: Callable[[JSONObject, str, str, str], None],
        now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
    ) -> None:
        self._client = client
        self._cache = cache
        self.refusals = refusals
        self._post = post
        self._now = now

    async def run(self, key: Key, job: JSONObject, plan: Plan) -> Outcome:
        """Carry out `plan` for `job` (its object, as the plan saw it)."""
        outcome = Outcome()
        for group in stages(plan):
            tasks = [self._act(key, job, action) for action in group]
            results = await asyncio.gather(*tasks, return_exceptions=True)
            for action, result in zip(group, results, strict=True):
                self._note(key, action, result, outcome)
            if any(isinstance(result, BaseException) for result in results):
                break
        return outcome

    def _note(self, key: Key, action: object, result: object, outcome: Outcome) -> None:
        created = isinstance(action, SecretRequest | dict)
        match result:
            case None:
                outcome.done += 1
                if isinstance(action, SecretRequest | dict):
                    self.refusals.clear(key, *_kind_and_name(action))
            case RefusedError() | NameCollisionError() if created:
                kind, name = _kind_and_name(action)
                LOG.warning("%s %s was refused: %s", kind, name, result.message, extra=about_key(key))
                self.refusals.add(key, kind, name, result, self._now())
            case ConflictError():
                outcome.conflicts += 1
            case ApiError():
                outcome.failures.append(result)
            case BaseException():
                raise result

    async def _act(self, key: Key, job: JSONObject, action: object) -> None:
        match action:
            case WriteStatus():
                await self._write(job, action)
            case SecretRequest():
                await self._create_secret(job, action)
            case Delete():
                await self._delete(key[0], job, action)
            case dict():
                await self._create(action)

    async def _write(self, job: JSONObject, action: WriteStatus) -> None:
        before = job.get("status") or {}
        patch = merge_patch(before, action.status)
        if patch:
            job = await self._patch(job, patch)
            LOG.info(_transition(before, action.status), extra=about(job))
        for event in action.events:
            self._post(job, event.type, event.reason, event.message)

    async def _patch(self, job: JSONObject, patch: JSONObject) -> JSONObject:
        metadata = job["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        try:
            written = await self._client.patch_status(JOBS, namespace, name, patch, metadata["resourceVersion"])
        except NotFoundError:
            self._cache.remove(JOBS, metadata)  # deleted meanwhile; what it owned goes with it
            raise
        except ConflictError:
            await self.reread(job)
            raise
        self._cache.put(JOBS, written)
        return written

    async def reread(self, job: JSONObject) -> None:
        """Put the job as the API server has it now into the cache."""
        metadata = job["metadata"]
        try:
            self._cache.put(JOBS, await self._client.get(JOBS, metadata["namespace"], metadata["name"]))
        except NotFoundError:
            self._cache.remove(JOBS, metadata)

    async def _create_secret(self, job: JSONObject, request: SecretRequest) -> None:
        certificates = request.certificates()  # a millisecond: elliptic curves need no thread of their own
        try:
            await self._client.create(SECRETS, request.namespace, request.manifest(certificates))
        except AlreadyExistsError:
            return  # its name holds the job's uid and the attempt: made by us, before we were stopped
        if request.signing_request:
            await self._patch(job, {"session": session_status(certificates)})
            LOG.info("the client's certificate is signed", extra=about(job))

    async def _create(self, manifest: JSONObject) -> None:
        resource = BY_KIND[manifest["kind"]]
        there, new = await self._client.create_owned(resource, manifest["metadata"]["namespace"], manifest)
        self._cache.put(resource, there)
        LOG.debug("%s %s %s", manifest["kind"], manifest["metadata"]["name"], "created" if new else "was there")

    async def _delete(self, namespace: str, job: JSONObject, action: Delete) -> None:
        resource = BY_KIND[action.kind]
        when = timestamp(self._now())
        if action.labels:
            await self._client.delete_collection(resource, namespace, action.selector, grace=action.grace)
            if resource is PODS:
                self._cache.mark_deleted(namespace, action.labels, when, action.grace)
            return
        await self._client.delete(resource, namespace, action.name, uid=action.uid or None, grace=action.grace)
        if resource is JOBS:
            self._cache.remove(JOBS, job["metadata"])
        elif action.uid:
            self._cache.mark_one_deleted(resource, job["metadata"]["uid"], action.uid, when, action.grace)


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> JSONObject:
    """Give the JSON merge patch (RFC 7386) that makes `after` of `before`; {} where they are equal."""
    patch: JSONObject = {key: None for key in before if after.get(key) is None}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            inner = merge_patch(old, value)
            if inner:
                patch[key] = inner
        elif value is not None and old != value:  # None and a field that is not there are the same to the server
            patch[key] = value
    return patch


def _kind_and_name(action: object) -> tuple[str, str]:
    if isinstance(action, SecretRequest):
        return action.kind, action.name
    assert isinstance(action, dict)  # noqa: S101 - the only other thing that is created
    return action["kind"], action["metadata"]["name"]


def _transition(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    old, new = before.get("phase") or "new", after.get("phase")
    if old == new and before.get("attempt") == after.get("attempt"):
        return f"{new}: status written"
    reason = f" ({after['reason']})" if after.get("reason") else ""
    return f"{old} -> {new}{reason}"
