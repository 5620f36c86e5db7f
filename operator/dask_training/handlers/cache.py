"""What the operator last saw of jobs and of what belongs to them, as small as it can be kept.

Objects are kept as JSON text (a job's four pods take 5 kB so, 60 kB as dicts) and are read when their job is looked
at. What the operator itself has just written goes in at once, and older news never replaces newer: a watch that lags
behind can't make it do anything twice.
"""

from __future__ import annotations

import datetime
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from dask_training.api import Label
from dask_training.handlers.gone import GonePods
from dask_training.handlers.trim import trimmed
from dask_training.handlers.workqueue import Key
from dask_training.kube.client import JSONObject
from dask_training.kube.resources import JOBS, PODS, SERVICES, Resource

TOMBSTONE_SECONDS = 300.0
"""For how long a list that began before an object's end may still show it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An object: its uid, its version as a number (0 where it is none), its JSON text, and a job's phase.

    `refers`: whether it is a job on a cluster of somebody else's (spec.clusterRef).
    """

    uid: str
    version: int
    body: bytes
    phase: str = ""
    refers: bool = False


@dataclass(slots=True)
class Family:
    """What belongs to one job, by name."""

    pods: dict[str, Entry] = field(default_factory=dict)
    services: dict[str, Entry] = field(default_factory=dict)

    def of(self, resource: Resource) -> dict[str, Entry]:
        """Give its pods or its Services."""
        return self.pods if resource is PODS else self.services


class Cache:
    """Jobs by namespace and name, pods and Services by the uid of their job.

    `clock` gives seconds that never go back.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._jobs: dict[Key, Entry] = {}
        self._families: dict[str, Family] = {}
        self._uids: dict[Key, set[str]] = {}
        self._graves: dict[str, float] = {}
        self._gone = GonePods(clock)

    def __len__(self) -> int:
        return len(self._jobs)

    def keys(self) -> list[Key]:
        """Give all jobs."""
        return list(self._jobs)

    def phases(self) -> Counter[str]:
        """Count the jobs by phase."""
        return Counter(entry.phase for entry in self._jobs.values())

    def in_phase(self, *phases: str) -> list[Key]:
        """Give the jobs that are in one of these phases."""
        return [key for key, entry in self._jobs.items() if entry.phase in phases]

    def referring(self, *phases: str) -> list[Key]:
        """Give those of them that name a cluster in spec.clusterRef."""
        return [key for key, entry in self._jobs.items() if entry.refers and entry.phase in phases]

    def uid(self, key: Key) -> str:
        """Give a job's uid, "" where there is none."""
        entry = self._jobs.get(key)
        return "" if entry is None else entry.uid

    def job(self, key: Key) -> JSONObject | None:
        """Give a job as last seen, None where there is none."""
        entry = self._jobs.get(key)
        return None if entry is None else _decoded(entry)

    def children(self, uid: str) -> tuple[list[JSONObject], list[JSONObject]]:
        """Give the pods and Services of the job with this uid, by name."""
        family = self._families.get(uid)
        if family is None:
            return [], []
        return _sorted(family.pods), _sorted(family.services)

    def gone(self, uid: str) -> list[tuple[JSONObject, datetime.datetime]]:
        """Give the pods of the job with this uid that are not there any more, and when that was noticed."""
        return self._gone.of(uid)

    def uids(self, key: Key) -> set[str]:
        """Give the uids of the jobs that something with this job's name belongs to."""
        return set(self._uids.get(key, ()))

    def put(self, resource: Resource, body: Mapping[str, Any]) -> Key | None:
        """Take in an object; give the key of the job that it changes, None where it says nothing new."""
        metadata = body["metadata"]
        uid, version = str(metadata["uid"]), _version(metadata)
        found = self._place(resource, metadata) if uid not in self._graves else None
        if found is None:
            return None
        place, name, key = found
        known = place.get(name)
        if known is not None and known.uid == uid and version and version <= known.version:
            return None
        phase = str((body.get("status") or {}).get("phase") or "Pending") if resource is JOBS else ""
        refers = resource is JOBS and bool((body.get("spec") or {}).get("clusterRef"))
        entry = Entry(uid, version, msgspec.json.encode(trimmed(resource, body)), sys.intern(phase), refers)
        place[name] = entry
        if known is not None and known.uid == uid and known.body == entry.body:
            return None
        return key

    def remove(self, resource: Resource, metadata: Mapping[str, Any]) -> Key | None:
        """Take an object out that is gone; give the key of its job, None where it was not known."""
        uid = str(metadata["uid"])
        self._bury(uid)
        found = self._place(resource, metadata)
        if found is None:
            return None
        place, name, key = found
        known = place.get(name)
        if known is not None and known.uid == uid:
            del place[name]
            if resource is PODS:
                self._gone.add(str((metadata.get("labels") or {}).get(Label.JOB_UID)), known.body)
        self._prune(metadata)
        return key if known is not None and known.uid == uid else None

    def mark_one_deleted(self, resource: Resource, job: str, uid: str, when: str, grace: int | None) -> None:
        """Note that the API server has accepted to delete the object of the job with this uid."""
        family = self._families.get(job, Family()).of(resource)
        for name, entry in list(family.items()):
            if entry.uid != uid:
                continue
            body = _decoded(entry)
            if resource is PODS:  # goes in time; a Service is gone at once
                _set_deleted(body["metadata"], when, grace)
                family[name] = Entry(entry.uid, entry.version, msgspec.json.encode(body))
            else:
                self.remove(resource, body["metadata"])

    def mark_deleted(self, namespace: str, labels: Mapping[str, str], when: str, grace: int | None) -> None:
        """Note that the API server has accepted to delete the pods with these labels, before a watch tells of it."""
        family = self._families.get(labels.get(Label.JOB_UID, ""))
        for name, entry in list(family.pods.items()) if family else ():
            body = _decoded(entry)
            metadata = body["metadata"]
            mine = metadata.get("namespace") == namespace and labels.items() <= (metadata.get("labels") or {}).items()
            if family and mine and not metadata.get("deletionTimestamp"):
                _set_deleted(metadata, when, grace)
                family.pods[name] = Entry(entry.uid, entry.version, msgspec.json.encode(body))

    def drop_unlisted(
        self,
        resource: Resource,
        listed: Collection[str],
        namespace: str | None,
        version: str,
        *,
        job: str | None = None,
    ) -> set[Key]:
        """Take out what a whole list of a namespace (None: of all), made at `version`, does not show.

        `listed` are the uids that it shows; `job` is the uid of the job that it was limited to. Objects newer than the
        list stay. Give the keys of the jobs that changed.
        """
        bound = int(version) if version.isdigit() else None
        changed = set()
        for entry in self._entries(resource, job):
            if entry.uid in listed or (bound is not None and entry.version > bound):
                continue
            metadata = _decoded(entry)["metadata"]
            if namespace is None or metadata["namespace"] == namespace:
                changed.add(self.remove(resource, metadata))
        return {key for key in changed if key is not None}

    def _entries(self, resource: Resource, job: str | None) -> list[Entry]:
        if resource is JOBS:
            return list(self._jobs.values())
        families = self._families.values() if job is None else (self._families.get(job, Family()),)
        return [entry for family in families for entry in family.of(resource).values()]

    def _place(self, resource: Resource, metadata: Mapping[str, Any]) -> tuple[dict[Any, Entry], Any, Key] | None:
        """Where an object is kept, under which name there, and whose it is; None where it is no job's."""
        namespace, name = str(metadata["namespace"]), str(metadata["name"])
        if resource is JOBS:
            return self._jobs, (namespace, name), (namespace, name)
        labels = metadata.get("labels") or {}
        uid, job = labels.get(Label.JOB_UID), labels.get(Label.JOB)
        if not uid or not job or resource not in (PODS, SERVICES):
            return None
        self._uids.setdefault((namespace, job), set()).add(uid)
        return self._families.setdefault(uid, Family()).of(resource), name, (namespace, job)

    def _prune(self, metadata: Mapping[str, Any]) -> None:
        labels = metadata.get("labels") or {}
        uid, key = labels.get(Label.JOB_UID, ""), (str(metadata["namespace"]), labels.get(Label.JOB, ""))
        family = self._families.get(uid)
        if family is not None and not family.pods and not family.services:
            del self._families[uid]
            self._uids[key].discard(uid)
            if not self._uids[key]:
                del self._uids[key]

    def _bury(self, uid: str) -> None:
        now = self._clock()
        self._graves[uid] = now
        while self._graves and now - next(iter(self._graves.values())) > TOMBSTONE_SECONDS:
            del self._graves[next(iter(self._graves))]


def _set_deleted(metadata: JSONObject, when: str, grace: int | None) -> None:
    metadata["deletionTimestamp"] = when
    if grace is not None:
        metadata["deletionGracePeriodSeconds"] = grace


def _decoded(entry: Entry) -> JSONObject:
    return msgspec.json.decode(entry.body, type=dict[str, Any])


def _sorted(entries: Mapping[str, Entry]) -> list[JSONObject]:
    return [_decoded(entries[name]) for name in sorted(entries)]


def _version(metadata: Mapping[str, Any]) -> int:
    text = str(metadata.get("resourceVersion") or "")
    return int(text) if text.isdigit() else 0
