"""Where the scheduler is: from the environment, or from a file that appears once it is known."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

from dask_training.api import Env
from dask_training.errors import StartupDeadlineError

_PROBE_SECONDS = 0.025


def scheduler_address(address_file: Path | None, *, timeout: float) -> str:
    """The scheduler's address, once something listens there.

    Looked for every 25 ms: distributed's own retries back off to seconds. Raises `StartupDeadlineError` after `timeout`
    seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        address = _read(address_file) if address_file else os.environ.get(Env.SCHEDULER_ADDRESS, "")
        # The file is written once the scheduler listens.
        if address and (address_file or listens(address)):
            return address
        if time.monotonic() > deadline:
            place = address or str(address_file or Env.SCHEDULER_ADDRESS)
            raise StartupDeadlineError(f"no scheduler answers at {place} after {timeout:.0f} s")
        time.sleep(_PROBE_SECONDS)


def write_address(address_file: Path, address: str) -> None:
    """Publishes the scheduler's address to those who wait in `scheduler_address`."""
    temporary = address_file.with_suffix(".tmp")
    temporary.write_text(address)
    temporary.replace(address_file)


def _read(address_file: Path) -> str:
    try:
        return address_file.read_text()
    except FileNotFoundError:
        return ""


def listens(address: str) -> bool:
    """Whether something takes connections there; asked once, for at most 0.1 s."""
    place = urlsplit(address)
    try:
        socket.create_connection((place.hostname or "", place.port or 0), timeout=0.1).close()
    except OSError:
        return False
    return True
