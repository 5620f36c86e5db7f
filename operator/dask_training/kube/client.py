"""Requests to the Kubernetes API: plain JSON objects in and out, one exception for each kind of answer.

Nothing here is tried twice. A caller that gets UnknownOutcomeError looks again; see dask_training.kube.errors.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
import msgspec

from dask_training.kube.connection import Connection
from dask_training.kube.errors import (
    AlreadyExistsError,
    ConflictError,
    NameCollisionError,
    NotFoundError,
    UnknownOutcomeError,
    error_of,
)
from dask_training.kube.limits import Limits
from dask_training.kube.resources import JOBS, Resource

JSONObject = dict[str, Any]
Observer = Callable[[str, str, int], None]
"""Called with verb, plural and HTTP status (0: no answer) of each request."""

REQUEST_TIMEOUT = 10.0
PAGE_SIZE = 200
MERGE_PATCH = "application/merge-patch+json"


class KubeClient:
    """The API server, as far as the operator needs it. Use as an async context manager.

    All requests but urgent ones share `limits`; each ends after `timeout` seconds.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        limits: Limits | None = None,
        timeout: float = REQUEST_TIMEOUT,
        observer: Observer | None = None,
    ) -> None:
        self._connection = connection
        self._rest: Any = connection.rest()  # its methods have no types
        self._limits = limits or Limits()
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._observer = observer or (lambda _verb, _plural, _status: None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._rest.close()

    async def get(self, resource: Resource, namespace: str, name: str, *, urgent: bool = False) -> JSONObject:
        """Read one object. Raises NotFoundError."""
        return await self._request("get", "GET", resource, namespace, name, urgent=urgent)

    async def pages(
        self, resource: Resource, namespace: str | None, *, labels: str = "", fields: str = ""
    ) -> AsyncIterator[tuple[list[JSONObject], str]]:
        """List a collection page by page, each with the list's resourceVersion. Raises GoneError between pages."""
        token = ""
        while True:
            query = {"limit": str(PAGE_SIZE), "labelSelector": labels, "fieldSelector": fields, "continue": token}
            page = await self._request("list", "GET", resource, namespace, query=query)
            metadata = page.get("metadata") or {}
            yield page.get("items") or [], str(metadata.get("resourceVersion") or "")
            token = metadata.get("continue") or ""
            if not token:
                return

    async def create(
        self, resource: Resource, namespace: str, body: Mapping[str, Any], *, urgent: bool = False
    ) -> JSONObject:
        """Create an object. Raises AlreadyExistsError."""
        return await self._request("create", "POST", resource, namespace, body=body, urgent=urgent)

    async def create_owned(
        self, resource: Resource, namespace: str, body: Mapping[str, Any]
    ) -> tuple[JSONObject, bool]:
        """Create an object unless it is there already with the same owner; give it, and whether it is new.

        Raises NameCollisionError where the name is taken by an object of another owner.
        """
        try:
            return await self.create(resource, namespace, body), True
        except AlreadyExistsError as error:
            there = await self.get(resource, namespace, body["metadata"]["name"])
            if owners(body) & owners(there):
                return there, False
            message = f"{resource.kind} {body['metadata']['name']} exists and belongs to something else"
            raise NameCollisionError(error.asked, message, status=409, reason="AlreadyExists") from error

    async def patch_status(
        self, resource: Resource, namespace: str, name: str, patch: Mapping[str, Any], resource_version: str
    ) -> JSONObject:
        """Merge `patch` into the status if the object is still at `resource_version`. Raises ConflictError."""
        body = {"metadata": {"resourceVersion": resource_version}, "status": patch}
        return await self._request("patch", "PATCH", resource, namespace, name, subresource="status", body=body)

    async def patch(self, resource: Resource, namespace: str, name: str, patch: Mapping[str, Any]) -> JSONObject:
        """Merge `patch` into an object. Raises NotFoundError."""
        return await self._request("patch", "PATCH", resource, namespace, name, body=patch)

    async def replace(
        self, resource: Resource, namespace: str, name: str, body: Mapping[str, Any], *, urgent: bool = False
    ) -> JSONObject:
        """Replace an object at the resourceVersion that `body` names. Raises ConflictError."""
        return await self._request("update", "PUT", resource, namespace, name, body=body, urgent=urgent)

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str | None = None, grace: int | None = None
    ) -> None:
        """Delete an object; one that is gone, or has another uid, is done."""
        # The garbage collector takes what a job or a Service owns after it: nobody waits for it.
        body: JSONObject = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        body |= {"preconditions": {"uid": uid}} if uid else {}
        body |= {"gracePeriodSeconds": grace} if grace is not None else {}
        try:
            await self._request("delete", "DELETE", resource, namespace, name, body=body)
        except NotFoundError:
            pass
        except ConflictError:
            if uid is None:
                raise

    async def delete_collection(
        self, resource: Resource, namespace: str, labels: str, *, grace: int | None = None
    ) -> None:
        """Delete all objects with the labels. Raises ValueError for an empty selector, which would take all."""
        if not labels:
            raise ValueError("an empty label selector would delete everything in the namespace")
        body: JSONObject = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        body |= {"gracePeriodSeconds": grace} if grace is not None else {}
        query = {"labelSelector": labels}
        await self._request("deletecollection", "DELETE", resource, namespace, query=query, body=body)

    async def jobs_are_served(self) -> bool:
        """Say whether the API server knows the kind DaskTrainingJob."""
        try:
            await self._send("get", "GET", JOBS, f"/apis/{JOBS.group}/{JOBS.version}", None)
        except NotFoundError:
            return False
        return True

    async def _request(  # the parts of a request, by name
        self,
        verb: str,
        method: str,
        resource: Resource,
        namespace: str | None,
        name: str | None = None,
        *,
        subresource: str | None = None,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        urgent: bool = False,
    ) -> JSONObject:
        path = resource.path(namespace, name, subresource)
        asked = {key: value for key, value in (query or {}).items() if value}
        if asked:
            path += "?" + urlencode(asked)
        async with AsyncExitStack() as stack:
            if not urgent:
                await stack.enter_async_context(self._limits.slot())
            return await self._send(verb, method, resource, path, body)

    async def _send(
        self, verb: str, method: str, resource: Resource, path: str, body: Mapping[str, Any] | None
    ) -> JSONObject:
        asked = f"{method} {path.partition('?')[0]}"
        headers = {"Accept": "application/json", "User-Agent": "dask-training-operator"}
        headers["Content-Type"] = MERGE_PATCH if method == "PATCH" else "application/json"
        token = await self._connection.authorization()
        if token is not None:
            headers["Authorization"] = token
        status = 0
        try:
            reply = await self._rest.request(
                method, self._connection.host + path, headers=headers, body=body, _request_timeout=self._timeout
            )
            content = await reply.read()
            status = reply.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnknownOutcomeError(asked, f"{type(error).__name__}: {error}".rstrip(": ")) from error
        finally:
            self._observer(verb, resource.plural, status)
        return _parsed(asked, status, content, reply.headers)


def owners(body: Mapping[str, Any]) -> set[str]:
    """Give the uids of an object's owners."""
    references = (body.get("metadata") or {}).get("ownerReferences") or []
    return {str(reference.get("uid")) for reference in references}


def _parsed(asked: str, status: int, content: bytes, headers: Mapping[str, str]) -> JSONObject:
    try:
        body = msgspec.json.decode(content, type=JSONObject) if content else {}
    except msgspec.DecodeError:
        if 200 <= status < 300:
            raise UnknownOutcomeError(asked, "an answer that is no JSON", status=status) from None
        body = {"message": content[:200].decode(errors="replace")}
    if 200 <= status < 300:
        return body
    raise error_of(asked, status, body, headers)
