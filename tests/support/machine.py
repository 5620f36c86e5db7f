"""What else the machine has to do while a test looks at its watch."""

from __future__ import annotations

import os
import time


def slowdown() -> float:
    """How many times longer than alone something may take now: by what waits for a core, and by the other streams."""
    waiting = os.getloadavg()[0] / (os.cpu_count() or 1)
    return max(1.0, waiting, 2.0 if "PYTEST_XDIST_WORKER" in os.environ else 1.0)


def give_up_at(seconds: float) -> float:
    """Until when, by time.monotonic, to wait for what takes so many seconds at most on a machine at rest."""
    return time.monotonic() + seconds * slowdown()
