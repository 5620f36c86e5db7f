"""Who this session is: its engine id, its address and what else CML tells its engines, in `CDSW_*` variables."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
from pathlib import Path

import msgspec

from dask_training.api import Env

LOCALHOST = "127.0.0.1"
APP_PORT, READONLY_PORT, PUBLIC_PORT = 8100, 8090, 8080


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The session as its workers know it; `ip` is "" where workers in the cluster could not reach it."""

    id: str
    ip: str
    project: str
    creator: str
    in_pod: bool


def identify() -> Identity:
    """The session's identity, from what a CML engine, or a pod, has in its environment."""
    in_pod = "KUBERNETES_SERVICE_HOST" in os.environ
    return Identity(
        id=os.environ.get("CDSW_ENGINE_ID") or _engine_id(in_pod=in_pod),
        ip=os.environ.get("CDSW_IP_ADDRESS") or (_own_address() if in_pod else LOCALHOST),
        project=os.environ.get("CDSW_PROJECT") or Path.cwd().name or "project",
        creator=os.environ.get("CDSW_CREATOR") or _user(),
        in_pod=in_pod,
    )


def set_variables(identity: Identity) -> None:
    """Give this process the variables that scripts for CML read, where it does not have them."""
    variables = {
        "CDSW_ENGINE_ID": identity.id,
        "CDSW_MASTER_ID": identity.id,
        "CDSW_IP_ADDRESS": identity.ip,
        "CDSW_MASTER_IP": identity.ip,
        "CML_MASTER_IP": identity.ip,
        **shared_variables(identity),
        **port_variables(APP_PORT, READONLY_PORT, PUBLIC_PORT),
    }
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def worker_variables(identity: Identity) -> dict[str, str]:
    """What all workers of the session are told; of its address nothing where it has none that they could reach."""
    master = {"CDSW_MASTER_IP": identity.ip, "CML_MASTER_IP": identity.ip} if identity.ip else {}
    return {"CDSW_MASTER_ID": identity.id, **master, **shared_variables(identity)}


def shared_variables(identity: Identity) -> dict[str, str]:
    """What is the same in the session and in its workers."""
    return {"CDSW_PROJECT": identity.project, "CDSW_CREATOR": identity.creator, "CDSW_DOMAIN": "localhost"}


def port_variables(app: int, readonly: int, public: int) -> dict[str, str]:
    """Where an engine's web applications listen."""
    return {"CDSW_APP_PORT": str(app), "CDSW_READONLY_PORT": str(readonly), "CDSW_PUBLIC_PORT": str(public)}


def _engine_id(*, in_pod: bool) -> str:
    if in_pod:
        return os.environ.get(Env.POD_NAME) or os.environ.get("POD_NAME") or socket.gethostname()
    return f"session-{secrets.token_hex(4)}"


def _own_address() -> str:
    given = os.environ.get(Env.POD_IP) or os.environ.get("POD_IP")
    if given:
        return given
    try:
        return socket.gethostbyname(socket.gethostname())  # the kubelet writes it into /etc/hosts
    except OSError:
        return LOCALHOST


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a pod's user has no name
        return f"user-{os.getuid()}"
