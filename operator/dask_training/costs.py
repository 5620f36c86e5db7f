"""What a job takes - CPU, memory and GPUs, times seconds - and the one formula that makes money of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated, Any, Final

import msgspec

ROLES: Final = ("scheduler", "workers", "runner")
_SECONDS_PER_HOUR: Final = 3600
_PLACES: Final = Decimal("0.000001")

Price = Annotated[float, msgspec.Meta(ge=0, le=1e6)]


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    pass


class Amounts(_Part, frozen=True, kw_only=True):
    """CPUs, GiB of memory and GPUs; or these times seconds."""

    cpu: float = 0.0
    memory_gib: float = msgspec.field(default=0.0, name="memoryGiB")
    gpu: float = 0.0

    def plus(self, other: Amounts, seconds: float = 1.0) -> Amounts:
        """With *other* for so many seconds."""
        return Amounts(
            cpu=round(self.cpu + other.cpu * seconds, 6),
            memory_gib=round(self.memory_gib + other.memory_gib * seconds, 6),
            gpu=round(self.gpu + other.gpu * seconds, 6),
        )


class ResourceSeconds(Amounts, frozen=True, kw_only=True):
    """CPU, GiB and GPU seconds: of all roles, and of each of `ROLES`."""

    by_role: dict[str, Amounts] = {}

    @classmethod
    def of(cls, by_role: Mapping[str, Amounts]) -> ResourceSeconds:
        """The sum of the roles'."""
        total = Amounts()
        for amounts in by_role.values():
            total = total.plus(amounts)
        return cls(cpu=total.cpu, memory_gib=total.memory_gib, gpu=total.gpu, by_role=dict(by_role))

    def plus_role(self, role: str, amounts: Amounts, seconds: float) -> ResourceSeconds:
        """With so many seconds more of a role's pod."""
        total = self.plus(amounts, seconds)
        roles = {**self.by_role, role: self.by_role.get(role, Amounts()).plus(amounts, seconds)}
        return ResourceSeconds(cpu=total.cpu, memory_gib=total.memory_gib, gpu=total.gpu, by_role=roles)


class Cost(_Part, frozen=True, kw_only=True):
    """An amount of money: a decimal number as text, as Kubernetes has it, with six places."""

    amount: str
    currency: str


class Prices(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an hour of a CPU, of a GiB of memory and of a GPU costs; `currency` is a code of ISO 4217."""

    currency: Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")]
    cpu_hour: Price = 0.0
    memory_gib_hour: Price = msgspec.field(default=0.0, name="memoryGiBHour")
    gpu_hour: Price = 0.0

    @classmethod
    def read(cls, document: Mapping[str, Any] | str | bytes) -> Prices | None:
        """The prices in a JSON document or in what was read of one; None for an empty one.

        Raises ValueError saying which field is not right.
        """
        try:
            parsed = msgspec.json.decode(document or b"{}") if isinstance(document, str | bytes) else document
            return msgspec.convert(parsed, cls) if parsed else None
        except msgspec.ValidationError as error:
            known = ", ".join(field.encode_name for field in msgspec.structs.fields(cls))
            raise ValueError(f"{error} (known fields: {known}; prices are numbers per hour)") from error
        except msgspec.DecodeError as error:
            raise ValueError(f"must be JSON: {error}") from error

    def cost_of(self, used: Amounts) -> Cost:
        """What so many seconds cost."""
        parts = (
            (used.cpu, self.cpu_hour),
            (used.memory_gib, self.memory_gib_hour),
            (used.gpu, self.gpu_hour),
        )
        total = sum((_exact(seconds) * _exact(price) for seconds, price in parts), Decimal(0)) / _SECONDS_PER_HOUR
        return Cost(amount=str(total.quantize(_PLACES, rounding=ROUND_HALF_UP)), currency=self.currency)


def is_gpu(resource: str) -> bool:
    """Whether a Kubernetes resource, such as nvidia.com/gpu, counts GPUs."""
    vendor, slash, name = resource.partition("/")
    return bool(slash) and (name == "gpu" or vendor.startswith("gpu."))


def _exact(number: float) -> Decimal:
    """As people write it: 0.1 is a tenth."""
    return Decimal(repr(number)) if math.isfinite(number) else Decimal(0)
