"""Resource seconds and costs, for people."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any


def resources_line(used: Mapping[str, Any]) -> str:
    """Such as `120 CPU seconds, 64 GiB seconds`; "" for nothing."""
    parts = [f"{used.get('cpu', 0):,.0f} CPU seconds", f"{used.get('memoryGiB', 0):,.0f} GiB seconds"]
    parts += [f"{used['gpu']:,.0f} GPU seconds"] if used.get("gpu") else []
    return ", ".join(parts) if used else ""


def cost_line(cost: Mapping[str, Any]) -> str:
    """Such as `0.0123 EUR`: two decimals, or as many as it takes to see something; "" where it is not known."""
    try:
        amount = Decimal(str(cost["amount"]))
    except (KeyError, InvalidOperation):
        return ""
    digits = 2 if amount >= 1 or not amount else min(6, 1 - amount.adjusted())
    return f"{amount:,.{digits}f} {cost.get('currency', '')}".rstrip()
