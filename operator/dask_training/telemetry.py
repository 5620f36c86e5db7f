"""What a job's scheduler said of it, read from the answer of its status endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeGuard

from dask_training.termination import clean

Raw = Mapping[str, Any]

_NAME_LENGTH: Final = 253  # of a pod, at most


@dataclass(frozen=True)
class Telemetry:
    """What the scheduler's status endpoint said last; it never decides over a verdict.

    `target`: how many workers it asked for just then; `demand`: the same over a while, for an adaptive job to have;
    None where it is not known. `idle_workers`: pods that may close, those that may close first before others.
    `versions`: which differ between runner, scheduler and workers, in words.
    """

    workers: int = 0
    code_started: bool = False
    done: int | None = None
    total: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    versions: str = ""
    idle_seconds: float | None = None
    clients: int | None = None
    no_client_seconds: float | None = None
    target: int | None = None
    demand: int | None = None
    idle_workers: tuple[str, ...] = ()

    @classmethod
    def of(cls, answer: Raw) -> Telemetry:
        """From the endpoint's JSON, of which nothing is trusted: what is not a number, or a name, is left out."""
        progress = answer.get("progress")
        done, total = (_count(progress.get(key)) for key in ("done", "total")) if _is_map(progress) else (None, None)
        metrics, idle_workers = answer.get("metrics"), answer.get("idleWorkers")
        return cls(
            workers=_count(answer.get("workers")) or 0,
            code_started=answer.get("codeStarted") is True,
            done=done,
            total=total,
            metrics={
                clean(str(key), 128): float(value)
                for key, value in (list(metrics.items())[:64] if _is_map(metrics) else [])
                if _is_number(value)
            },
            versions=_text(answer.get("versions")),
            idle_seconds=_seconds(answer.get("idleSeconds")),
            clients=_count(answer.get("clients")),
            no_client_seconds=_seconds(answer.get("noClientSeconds")),
            target=_count(answer.get("target")),
            idle_workers=tuple(
                name
                for name in (idle_workers[:1000] if isinstance(idle_workers, list) else ())
                if isinstance(name, str) and len(name) <= _NAME_LENGTH
            ),
        )


def _is_map(value: Any) -> TypeGuard[Raw]:
    return isinstance(value, Mapping)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def _count(value: Any) -> int | None:
    return int(value) if _is_number(value) and 0 <= value < 2**53 else None


def _text(value: Any) -> str:
    return clean(value, 500) if isinstance(value, str) else ""


def _seconds(value: Any) -> float | None:
    return float(value) if _is_number(value) else None
