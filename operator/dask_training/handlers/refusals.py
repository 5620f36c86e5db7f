"""What the API server refused to create, for each job: facts for the next plan."""

from __future__ import annotations

import dataclasses
import datetime

from dask_training.api import STORE_SECRET
from dask_training.handlers.workqueue import Key
from dask_training.kube.errors import ApiError
from dask_training.refusal import Refusal


class Refusals:
    """Refusals in a row, by job and object."""

    def __init__(self) -> None:
        self._known: dict[Key, dict[tuple[str, str], Refusal]] = {}

    def of(self, key: Key) -> tuple[Refusal, ...]:
        """Give the refusals that stand for a job."""
        return tuple(self._known.get(key, {}).values())

    def add(self, key: Key, kind: str, name: str, error: ApiError, now: datetime.datetime) -> None:
        """Note that `kind` `name` was refused."""
        known = self._known.setdefault(key, {})
        before = known.get((kind, name))
        if before is None:
            known[kind, name] = Refusal(kind, name, error.status, error.reason, error.message, since=now, last=now)
        else:
            known[kind, name] = dataclasses.replace(
                before,
                code=error.status,
                reason=error.reason,
                message=error.message,
                last=now,
                count=before.count + 1,
            )

    def clear(self, key: Key, kind: str, name: str) -> None:
        """Forget the refusal of an object that is there now."""
        known = self._known.get(key)
        if known is not None:
            known.pop((kind, name), None)
            if not known:
                del self._known[key]

    def keep_only(self, key: Key, prefix: str) -> None:
        """Forget the refusals of objects whose names do not begin with `prefix`: those of earlier attempts."""
        for kind, name in [place for place in self._known.get(key, {}) if not _concerns(place[1], prefix)]:
            self.clear(key, kind, name)

    def forget(self, key: Key) -> None:
        """Forget a job."""
        self._known.pop(key, None)


def _concerns(name: str, prefix: str) -> bool:
    return name.startswith(prefix) or name == STORE_SECRET
