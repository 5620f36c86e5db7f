"""Where a benchmark ran, for its JSON and its page."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any


def machine(packages: Iterable[str] = ()) -> dict[str, Any]:
    """This machine, now, and the versions of these packages."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "load": os.getloadavg()[0],
    }


def _processor() -> str:
    with open("/proc/cpuinfo") as file:  # noqa: PTH123 - the kernel's, not a file
        return next((line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.machine())


def colophon(where: Mapping[str, Any], command: str, *more: str) -> list[str]:
    """A page's last lines: which command made it, when and where; `more` are lines about the system."""
    packages = ", ".join(f"{name} {number}" for name, number in where["packages"].items())
    return [
        f"Made by `{command}` on {where['time'][:10]}:",
        f"{where['cores']} cores ({where['processor']}), {where['system']},",
        *more,
        f"Python {where['python']}, {packages}.",
    ]
