"""Where the scheduler is: from the environment, or from a file that appears once it is known."""

from __future__ import annotations

import os
import socket
import ssl
import time
from pathlib import Path
from urllib.parse import urlsplit

from dask_training.api import Env
from dask_training.errors import StartupDeadlineError
from dask_training.runner import dask_environment

_PROBE_SECONDS = 0.025


def scheduler_address(address_file: Path | None, *, timeout: float) -> str:
    """The scheduler's address, once it listens there.

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
    """Whether a scheduler of this job takes connections there; asked once, for at most 1.1 s.

    Not whether just anything does: before kube-proxy knows a Service, a packet for it may leave the node, and a proxy
    on its way may accept the connection. A `tls` address is asked for a certificate that this job's authority
    signed, any other for Dask's first byte.
    """
    place = urlsplit(address)
    try:
        with socket.create_connection((place.hostname or "", place.port or 0), timeout=0.1) as plain:
            plain.settimeout(1.0)
            if place.scheme == "tls":
                _tls().wrap_socket(plain).close()
            else:
                return bool(plain.recv(1))  # Dask speaks first, on both sides; a stray proxy waits to be spoken to
    except OSError:  # ssl.SSLError is one
        return False
    return True


def _tls() -> ssl.SSLContext:
    """As distributed makes it from the same variables: both sides show a certificate, and names do not matter."""
    context = ssl.create_default_context(cafile=os.environ[dask_environment.CA_FILE])
    context.check_hostname = False
    context.load_cert_chain(os.environ[dask_environment.CLIENT_CERTIFICATE])
    return context
