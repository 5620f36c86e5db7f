"""`.status` as a frozen value: read from the job, changed, and written back whole."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from dask_training.api import Condition, Phase
from dask_training.costs import Cost, ResourceSeconds
from dask_training.observed import time_of
from dask_training.termination import Advice, StoredArtifacts, clean

FINAL_PHASES: Final = (Phase.SUCCEEDED, Phase.FAILED)
MAX_ATTEMPTS: Final = 20
_MAX_BYTES: Final = 16_000
_MESSAGE: Final = 1000
_OLD_MESSAGE: Final = 200
_MEMBER_MESSAGE: Final = 200  # for each of up to a thousand workers


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    pass


class AttemptRecord(_Part, frozen=True, omit_defaults=True):
    """How an attempt went."""

    number: int
    start_time: str = ""
    completion_time: str = ""
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    ignored: bool = False


class ConditionRecord(_Part, frozen=True):
    """A metav1.Condition."""

    type: str
    status: str
    reason: str
    message: str
    last_transition_time: str
    observed_generation: int = 0


class MemberRecord(_Part, frozen=True, omit_defaults=True):
    """A worker of mode Workers; `id` is its pod's name, `state` one of api.MemberState."""

    index: int
    id: str = ""
    state: str = ""
    created_at: str = ""
    running_at: str = ""
    finished_at: str = ""
    ip: str = ""
    exit_code: int | None = None
    message: str = ""


class WorkersRecord(_Part, frozen=True):
    """How many workers there are to be, work, were restarted in place and were lost; `leaving`: lost, not yet gone.

    `members`: each worker of mode Workers; empty, and not written, in other modes.
    """

    desired: int = 0
    ready: int = 0
    restarts: int = 0
    lost: int = 0
    summary: str = ""
    leaving: tuple[int, ...] = ()
    members: tuple[MemberRecord, ...] = ()


class ProgressRecord(_Part, frozen=True, omit_defaults=True):
    """joblib tasks of the running call."""

    done: int = 0
    total: int | None = None
    summary: str = ""


class Status(_Part, frozen=True, omit_defaults=True):
    """All that is known of a job, for people and for the next plan."""

    observed_generation: int = 0
    phase: str = ""
    reason: str = ""
    message: str = ""
    attempt: int = 0
    attempts: tuple[AttemptRecord, ...] = ()
    failed: int = 0
    ignored: int = 0
    conditions: tuple[ConditionRecord, ...] = ()
    start_time: str = ""
    attempt_start_time: str = ""
    completion_time: str = ""
    last_update_time: str = ""
    image: str = ""
    timings: dict[str, float] = {}
    workers: WorkersRecord = WorkersRecord()
    selector: str = ""
    dashboard_url: str = msgspec.field(default="", name="dashboardURL")
    scheduler_address: str = ""
    session: dict[str, str] = {}
    progress: ProgressRecord | None = None
    metrics: dict[str, float] = {}
    resource_seconds: ResourceSeconds | None = None
    cost: Cost | None = None
    artifacts: StoredArtifacts | None = None
    advice: tuple[Advice, ...] = ()

    @classmethod
    def read(cls, status: Mapping[str, Any] | None) -> Status:
        """The status as the API server gave it; without fields that this version does not know."""
        return msgspec.convert(status or {}, cls)

    def write(self) -> dict[str, Any]:
        """The status as the API server takes it: at most 16 kB beside `members`, of older attempts the least."""
        members = [
            msgspec.structs.replace(each, message=clean(each.message, _MEMBER_MESSAGE)) for each in self.workers.members
        ]
        written = self._without_members()
        del written["workers"]["members"]
        if members:
            written["workers"]["members"] = msgspec.to_builtins(members)
        return written

    def _without_members(self) -> dict[str, Any]:
        bounded = msgspec.structs.replace(
            self,
            workers=msgspec.structs.replace(self.workers, members=()),
            message=clean(self.message, _MESSAGE),
            attempts=_bounded(self.attempts),
            metrics=dict(self.metrics),
        )
        while len(msgspec.json.encode(bounded)) > _MAX_BYTES and (bounded.attempts or bounded.metrics):
            if bounded.attempts[1:]:
                bounded = msgspec.structs.replace(bounded, attempts=bounded.attempts[1:])
            elif bounded.workers.leaving:
                bounded = bounded.with_workers(leaving=())
            else:
                bounded = msgspec.structs.replace(bounded, metrics=dict(list(bounded.metrics.items())[:-1]))
        written: dict[str, Any] = msgspec.to_builtins(bounded)
        return written

    @property
    def is_final(self) -> bool:
        """Whether the job has Succeeded or Failed."""
        return self.phase in FINAL_PHASES

    @property
    def has_verdict(self) -> bool:
        """Whether it is decided how the job ends; what remains is to take everything away."""
        return self.holds(Condition.SUCCESS_CRITERIA_MET) or self.holds(Condition.FAILURE_TARGET)

    @property
    def last_attempt(self) -> AttemptRecord | None:
        """The running or last attempt's record if that attempt is over."""
        ended = self.attempts and self.attempts[-1].number == self.attempt
        return self.attempts[-1] if ended else None

    @property
    def updated(self) -> datetime.datetime | None:
        """When it was last written."""
        return time_of(self.last_update_time)

    def holds(self, condition: Condition) -> bool:
        """Whether a condition is True."""
        found = self.condition(condition)
        return found is not None and found.status == "True"

    def condition(self, condition: Condition) -> ConditionRecord | None:
        """A condition's record; None if nothing is said of it."""
        return next((each for each in self.conditions if each.type == condition), None)

    def with_condition(
        self, condition: Condition, reason: str, message: str, now: datetime.datetime, *, holds: bool
    ) -> Status:
        """With a condition True or False; the time changes only where that does."""
        status = str(holds)
        known = self.condition(condition)
        since = known.last_transition_time if known is not None and known.status == status else timestamp(now)
        record = ConditionRecord(
            type=condition.value,
            status=status,
            reason=str(reason),
            message=clean(message, _MESSAGE // 2),
            last_transition_time=since,
            observed_generation=self.observed_generation,
        )
        others = [each for each in self.conditions if each.type != condition]
        order = list(Condition)
        ordered = sorted([*others, record], key=lambda each: order.index(Condition(each.type)))
        return msgspec.structs.replace(self, conditions=tuple(ordered))

    def without(self, *conditions: Condition) -> Status:
        """Without conditions that nothing can be said of any more."""
        return msgspec.structs.replace(self, conditions=tuple(c for c in self.conditions if c.type not in conditions))

    def with_workers(self, **changes: Any) -> Status:
        """With other numbers of workers, and their summary."""
        workers = msgspec.structs.replace(self.workers, **changes)
        workers = msgspec.structs.replace(workers, summary=f"{workers.ready}/{workers.desired}")
        return msgspec.structs.replace(self, workers=workers)

    def observed_at(self, generation: int, old: Status) -> Status:
        """About a generation of the spec, and so are the conditions that are not as in `old`."""
        conditions = tuple(
            each if each in old.conditions else msgspec.structs.replace(each, observed_generation=generation)
            for each in self.conditions
        )
        return msgspec.structs.replace(self, observed_generation=generation, conditions=conditions)

    def replace(self, **changes: Any) -> Status:
        """With other values of fields."""
        return msgspec.structs.replace(self, **changes)


def _bounded(attempts: tuple[AttemptRecord, ...]) -> tuple[AttemptRecord, ...]:
    kept = attempts[-MAX_ATTEMPTS:]
    older = [msgspec.structs.replace(each, message=clean(each.message, _OLD_MESSAGE)) for each in kept[:-1]]
    last = [msgspec.structs.replace(each, message=clean(each.message, _MESSAGE)) for each in kept[-1:]]
    return (*older, *last)


def timestamp(moment: datetime.datetime, timespec: str = "seconds") -> str:
    """A moment as Kubernetes writes it, to the second; a MicroTime with *timespec* "microseconds"."""
    return moment.astimezone(datetime.UTC).isoformat(timespec=timespec).replace("+00:00", "Z")
