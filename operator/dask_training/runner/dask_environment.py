"""The environment variables that make a process a part of one run's Dask cluster."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dask_training.certificates import Certificates

# What distributed's nanny sets for its worker; our workers have none.
_MALLOC_TRIM_THRESHOLD = "65536"
_TLS = "DASK_DISTRIBUTED__COMM__TLS__"
CA_FILE = f"{_TLS}CA_FILE"
CLIENT_CERTIFICATE = f"{_TLS}CLIENT__CERT"
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def thread_variables(threads: int) -> dict[str, str]:
    """Makes BLAS and OpenMP use `threads` threads, so that they follow the CPU request and not the machine."""
    return {name: str(threads) for name in _THREAD_VARIABLES}


def worker_variables(threads: int) -> dict[str, str]:
    """What a worker of `threads` threads gets in place of a nanny's settings."""
    return {**thread_variables(threads), "MALLOC_TRIM_THRESHOLD_": _MALLOC_TRIM_THRESHOLD}


def write_certificates(certificates: Certificates, folder: Path) -> None:
    """Writes `ca.pem` and `<role>.pem` (certificate and key) below `folder`, readable by this user alone."""
    folder.mkdir(mode=0o700)
    files = {"ca": certificates.ca}
    files |= {role: leaf.certificate + leaf.key for role, leaf in certificates.leaves.items()}
    for name, pem in files.items():
        path = folder / f"{name}.pem"
        path.touch(mode=0o600)
        path.write_bytes(pem)


def tls_variables(role: str, folder: Path) -> dict[str, str]:
    """Dask's configuration for a process of `role` with the files of `write_certificates`: TLS, and nothing else.

    A process uses its own certificate whatever it does: a task on a worker may open a client.
    """
    leaf = str(folder / f"{role}.pem")
    variables = {
        "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "true",
        "DASK_DISTRIBUTED__COMM__DEFAULT_SCHEME": "tls",
        CA_FILE: str(folder / "ca.pem"),
    }
    for section in ("SCHEDULER", "WORKER", "CLIENT"):
        variables |= {f"{_TLS}{section}__CERT": leaf, f"{_TLS}{section}__KEY": leaf}
    return variables


def without_dask(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` without what would steer Dask or this package from outside: a run brings its own."""
    return {name: value for name, value in environment.items() if not name.startswith(("DASK_", "DASK_TRAINING_"))}
