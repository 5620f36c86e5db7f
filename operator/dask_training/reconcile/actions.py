"""What a plan says is to be done, and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from dask_training.manifests.secrets import SecretRequest

Manifest: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Delete:
    """Delete one object by `name` (only if it has `uid`), or all pods that match `labels`.

    `grace` is gracePeriodSeconds; None leaves it to each pod. What is not there any more is done.
    """

    kind: str
    name: str = ""
    uid: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    grace: int | None = None

    @classmethod
    def one(cls, kind: str, name: str, uid: str, grace: int | None = None) -> Delete:
        """One object, by name, with its uid as precondition."""
        return cls(kind, name=name, uid=uid, grace=grace)

    @classmethod
    def collection(cls, labels: Mapping[str, str], grace: int | None) -> Delete:
        """All pods with these labels, in one request."""
        return cls("Pod", labels=dict(labels), grace=grace)

    @property
    def selector(self) -> str:
        """The labels as the API server takes them."""
        return ",".join(f"{key}={value}" for key, value in sorted(self.labels.items()))


@dataclass(frozen=True)
class JobEvent:
    """An Event on the job; `type` is Normal or Warning."""

    type: str
    reason: str
    message: str


@dataclass(frozen=True)
class Plan:
    """What is to be done now: `status` is the whole new one (None: nothing to write).

    `status_first`: nothing else may be done until the status is written. `check_after`: plan again after so many
    seconds even if nothing happens. `confirm`: list the pods and plan again, for this rests on one that is missing.
    `events_of`: pods whose core/v1 Events the next plan wants to see.
    """

    status: dict[str, Any] | None = None
    status_first: bool = False
    create: tuple[Manifest | SecretRequest, ...] = ()
    delete: tuple[Delete, ...] = ()
    events: tuple[JobEvent, ...] = ()
    check_after: float | None = None
    confirm: bool = False
    events_of: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do but, perhaps, to wait."""
        return self.status is None and not (self.create or self.delete or self.confirm)


@dataclass(frozen=True)
class WriteStatus:
    """Write `status`, then post `events`."""

    status: dict[str, Any]
    events: tuple[JobEvent, ...] = ()


Action: TypeAlias = "WriteStatus | Manifest | SecretRequest | Delete"


def stages(plan: Plan) -> Iterator[tuple[Action, ...]]:
    """The plan's actions, group by group: a group's actions may be done at once, the next group's only after it.

    Nobody may go on after a status that could not be written where it comes first. The end of each group is a moment
    at which the operator may be killed: planning again from what is there then goes on where it was.
    """
    write = () if plan.status is None else (WriteStatus(plan.status, plan.events),)
    if plan.status_first and write:
        yield write
    groups: dict[int, list[Action]] = {}
    for item in plan.create:
        groups.setdefault(_rank(item), []).append(item)
    for rank in sorted(groups):
        yield tuple(groups[rank])
    rest = (*plan.delete, *(() if plan.status_first else write))
    if rest:
        yield rest


def _rank(item: Manifest | SecretRequest) -> int:
    """Pods come last: what they mount and what guards them is there before they are."""
    return 1 if isinstance(item, SecretRequest) else {"Service": 0, "Pod": 2}.get(item["kind"], 1)
