"""Kubernetes quantities: "500m", "2", "4Gi", "1e3"."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Final

_SUFFIXES: Final = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}
_QUANTITY: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:([KMGTPE]i|[numkMGTPE])|[eE]([+-]?[0-9]{1,3}))?")


def parse_quantity(text: str | int) -> Decimal:
    """The number that a quantity stands for, exactly; raises ValueError for anything else."""
    match = _QUANTITY.fullmatch(str(text))
    if not match:
        raise ValueError(f"{text!r} is no quantity: write one such as 500m, 2 or 4Gi")
    number, suffix, exponent = match.groups()
    return Decimal(number) * _SUFFIXES[suffix or ""] * Decimal(10) ** int(exponent or 0)


def parse_memory(text: str | int) -> int:
    """The bytes that a quantity stands for, rounded up; raises ValueError for anything else."""
    return math.ceil(parse_quantity(text))
