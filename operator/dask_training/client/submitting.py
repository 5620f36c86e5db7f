"""Sends jobs, and what they need, to a cluster: everything is tried first, then made, the jobs last."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from dask_training.api import API_VERSION, GROUP, KIND, Label
from dask_training.client.connection import (
    APPLY_PATCH,
    FIELD_MANAGER,
    MERGE_PATCH,
    Body,
    Connection,
    core_path,
    jobs_path,
)
from dask_training.client.packing import config_map, with_code
from dask_training.client.status_events import is_finished, phase_of
from dask_training.errors import (
    AlreadyExistsError,
    KubernetesError,
    NotFoundError,
    NotInstalledError,
    UnreachableError,
)
from dask_training.model.problems import JobFileError, Problem

_GONE_SECONDS = 30.0


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be sent: objects as they stand in a file, and the jobs; `code` is packed for the jobs it names."""

    jobs: tuple[Body, ...]
    objects: tuple[Body, ...] = ()
    code: Mapping[str, Mapping[str, bytes]] = {}
    """Job name -> files by ConfigMap key, to be importable in every pod."""
    scripts: Mapping[str, tuple[str, bytes]] = {}
    """Job name -> key and text of a script that is too long for the job itself."""

    def bodies(self, namespace: str) -> list[Body]:
        """Everything as it would be sent, in order."""
        made = [self._made(job, namespace, _suffix()) for job in self.jobs]
        return [*self.objects, *(body for maps, job in made for body in (*maps, job))]

    def _made(self, job: Body, namespace: str, suffix: str) -> tuple[list[Body], Body]:
        """The ConfigMaps that go with *job*, named anew each time, and the job that names them."""
        name = job["metadata"]["name"]
        maps: list[Body] = []
        spec = job["spec"]
        labels = {str(Label.JOB): name, str(Label.MANAGED_BY): FIELD_MANAGER}
        if name in self.code:
            maps.append(config_map(f"{name}-code-{suffix}", namespace, self.code[name], labels))
            spec = with_code(spec, f"{name}-code-{suffix}", self.code[name])
        if name in self.scripts:
            key, text = self.scripts[name]
            maps.append(config_map(f"{name}-script-{suffix}", namespace, {key: text}, labels))
            source = {"configMap": {"name": f"{name}-script-{suffix}", "key": key}}
            spec = spec | {"runner": spec.get("runner", {}) | {"scriptFrom": source}}
        return maps, job | {"spec": spec}


def submit(connection: Connection, bundle: Bundle, *, replace: bool = False) -> list[Body]:
    """Make all of *bundle* and return the jobs as the API server has them; with *replace*, finished ones make room.

    Everything is tried first, so that nothing is made if anything is refused. Raises JobFileError with the fields that
    the API server objects to, AlreadyExistsError for a job that is there, or another KubernetesError.
    """
    namespace = connection.namespace
    parts = [bundle._made(job, _namespace_of(job, namespace), _suffix()) for job in bundle.jobs]  # noqa: SLF001 - its own module
    for body in (*bundle.objects, *(made for maps, _ in parts for made in maps)):
        _apply(connection, body, _namespace_of(body, namespace), dry_run=True)
    standing = [_try(connection, job, _namespace_of(job, namespace), replace=replace) for _, job in parts]
    for body in bundle.objects:
        _apply(connection, body, _namespace_of(body, namespace))
    for old in standing:
        if old is not None:
            delete_and_wait(connection, old)
    return [_create(connection, maps, job, _namespace_of(job, namespace)) for maps, job in parts]


def delete_and_wait(connection: Connection, job: Body, *, seconds: float = _GONE_SECONDS) -> None:
    """Delete this very job and wait until its name is free. Raises UnreachableError if that takes too long."""
    metadata = job["metadata"]
    path = jobs_path(metadata["namespace"], metadata["name"])
    options = {"preconditions": {"uid": metadata["uid"]}, "propagationPolicy": "Background"}
    with contextlib.suppress(NotFoundError):
        connection.request("DELETE", path, body=options)
        deadline = time.monotonic() + seconds
        while connection.request("GET", path)["metadata"]["uid"] == metadata["uid"]:
            if time.monotonic() > deadline:
                raise UnreachableError(f"the job {metadata['name']} is still being deleted after {seconds:.0f} s")
            time.sleep(0.2)


def exists_message(job: Body) -> str:
    """What to do about a job that stands in the way."""
    name, namespace, phase = job["metadata"]["name"], job["metadata"]["namespace"], phase_of(job)
    if is_finished(job):
        return (
            f"there is a job {name} in namespace {namespace} already ({phase}): "
            "--replace deletes it first (its artifacts stay), or choose another name"
        )
    return (
        f"there is a job {name} in namespace {namespace} already ({phase}): follow it with "
        f"'dask-training logs -f {name}', delete it with 'dask-training delete {name}', or choose another name"
    )


def _try(connection: Connection, job: Body, namespace: str, *, replace: bool) -> Body | None:
    """See whether *job* would be taken; the finished job that has to make room for it, if there is one."""
    query = {"dryRun": "All", "fieldValidation": "Strict", "fieldManager": FIELD_MANAGER}
    try:
        connection.request("POST", jobs_path(namespace), query=query, body=job)
    except AlreadyExistsError:
        there = connection.request("GET", jobs_path(namespace, job["metadata"]["name"]))
        if replace and is_finished(there):
            return there
        raise AlreadyExistsError(exists_message(there)) from None
    except NotFoundError as error:
        raise NotFoundError(f"{error}\nor name another one with --namespace") from error
    except JobFileError as error:
        name = job["metadata"]["name"]
        raise JobFileError(
            Problem(each.path, each.message, None, f"the cluster refuses {name}") for each in error.problems
        ) from error
    return None


def _apply(connection: Connection, body: Body, namespace: str, *, dry_run: bool = False) -> None:
    name = str(body.get("metadata", {}).get("name"))
    path = f"{connection.resource_path(body, namespace)}/{name}"
    query = {"fieldManager": FIELD_MANAGER, "force": "true"} | ({"dryRun": "All"} if dry_run else {})
    try:
        connection.request("PATCH", path, query=query, body=body, content_type=APPLY_PATCH)
    except JobFileError as error:
        where = f"the cluster refuses {body.get('kind')} {name}"
        raise JobFileError(Problem(each.path, each.message, None, where) for each in error.problems) from error


def _create(connection: Connection, maps: Sequence[Body], job: Body, namespace: str) -> Body:
    """Make the job with its ConfigMaps, which then go when it goes."""
    try:
        for each in maps:
            _apply(connection, each, namespace)
        made = _post(connection, job, namespace)
    except BaseException:  # Ctrl-C, too
        for each in maps:
            with contextlib.suppress(KubernetesError):
                connection.request("DELETE", core_path(namespace, "configmaps", each["metadata"]["name"]))
        raise
    owner = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": made["metadata"]["name"],
        "uid": made["metadata"]["uid"],
    }
    for each in maps:
        path = core_path(namespace, "configmaps", each["metadata"]["name"])
        patch: dict[str, Any] = {"metadata": {"ownerReferences": [owner]}}
        connection.request("PATCH", path, body=patch, content_type=MERGE_PATCH)
    return made


def _post(connection: Connection, job: Body, namespace: str) -> Body:
    # An answer that was lost must not make the user wonder: what is there with our mark is ours.
    mark = secrets.token_hex(8)
    metadata = job["metadata"]
    annotations = (metadata.get("annotations") or {}) | {f"{GROUP}/submission": mark}
    body = job | {"metadata": metadata | {"annotations": annotations}}
    query = {"fieldValidation": "Strict", "fieldManager": FIELD_MANAGER}
    for left in (2, 1, 0):
        try:
            return connection.request("POST", jobs_path(namespace), query=query, body=body)
        except AlreadyExistsError:
            there = connection.request("GET", jobs_path(namespace, metadata["name"]))
            if (there["metadata"].get("annotations") or {}).get(f"{GROUP}/submission") == mark:
                return there
            raise AlreadyExistsError(exists_message(there)) from None
        except NotInstalledError:
            raise
        except UnreachableError:
            if not left:
                raise
            time.sleep(1.0)
    raise AssertionError("the last try returns or raises")  # pragma: no cover


def _namespace_of(body: Body, namespace: str) -> str:
    return str(body.get("metadata", {}).get("namespace") or namespace)


def _suffix() -> str:
    return secrets.token_hex(3)
