"""What a job's pods reserve on their nodes."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Final

from dask_training.api import Role
from dask_training.costs import Amounts, is_gpu
from dask_training.model.job import Quantity, Resources
from dask_training.model.quantity import parse_quantity

_GIB: Final = 1024**3
# So little that a job finds room on a small machine; what it needs is for its spec to say. No limits: a CPU limit
# makes a start several times slower.
_DEFAULT_REQUESTS: Final[Mapping[Role, Mapping[str, Quantity]]] = {
    Role.SCHEDULER: {"cpu": "100m", "memory": "256Mi"},
    Role.RUNNER: {"cpu": "100m", "memory": "256Mi"},
    Role.WORKER: {"cpu": "100m", "memory": "256Mi"},
    Role.READER: {"cpu": "50m", "memory": "128Mi"},
}


def requests_of(role: Role, given: Resources) -> dict[str, Quantity]:
    """As given; for what is neither requested nor limited a small request, so that Kubernetes counts the pod."""
    defaults = {key: value for key, value in _DEFAULT_REQUESTS[role].items() if key not in given.limits}
    return {**defaults, **given.requests}


def reserved(role: Role, given: Resources) -> Amounts:
    """What a pod of that role reserves: its requests, and its limits where it requests nothing."""
    return amounts_of({**given.limits, **requests_of(role, given)})


def amounts_of(requests: Mapping[str, Quantity]) -> Amounts:
    """CPUs, GiB and GPUs of a container's requests; what is no quantity counts for nothing."""
    parsed: dict[str, float] = {}
    for name, value in requests.items():
        with contextlib.suppress(ValueError):
            parsed[name] = float(parse_quantity(value))
    return Amounts(
        cpu=parsed.get("cpu", 0.0),
        memory_gib=parsed.get("memory", 0.0) / _GIB,
        gpu=sum(value for name, value in parsed.items() if is_gpu(name)),
    )
