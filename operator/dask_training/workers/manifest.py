"""The job of mode Workers that one call of `launch_workers` is made as. Pure."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dask_training.api import API_VERSION, KIND, Mode, Reason
from dask_training.client.connection import Body
from dask_training.runner.console import LAUNCH_FILE, PROJECT_ZIP
from dask_training.workers.launcher import label_of
from dask_training.workers.records import UNKNOWN, Status, Worker, now
from dask_training.workers.request import Request
from dask_training.workers.session import (
    APP_PORT,
    LOCALHOST,
    PUBLIC_PORT,
    READONLY_PORT,
    Identity,
    port_variables,
    worker_variables,
)

HEARTBEAT_SECONDS: Final = 15.0
HEARTBEAT_TIMEOUT_SECONDS: Final = 90
# A worker may wait for a node for as long as its session cares to; it runs as long as a CML job may.
_STARTUP_SECONDS: Final = 86400
_ACTIVE_SECONDS: Final = 7 * 86400
# So long a group that has ended can be looked at.
_TTL_SECONDS: Final = 60
_MIB: Final = 1024**2
CODE: Final = "/code"
# What the operator calls our program.
_OUR_COMMAND: Final = re.compile(r"^command python ended with exit code \d+( \(\w+\))?(: )?")
_REASONS: Final = frozenset(map(str, Reason))


def workers_body(
    request: Request,
    identity: Identity,
    *,
    name: str,
    namespace: str,
    owner: Body | None,
    image: str = "",
    packages: Sequence[str] = (),
) -> Body:
    """The job *name* for *request*; it goes with *owner*, the session's pod, if there is one."""
    spec: dict[str, Any] = {
        "mode": str(Mode.WORKERS),
        "session": {"heartbeatTimeoutSeconds": HEARTBEAT_TIMEOUT_SECONDS},
        "env": [{"name": key, "value": value} for key, value in _variables(request, identity).items()],
        "runner": {"command": ["python", "-m", "dask_training.runner.console", f"{CODE}/{LAUNCH_FILE}"]},
        "workers": {"replicas": request.n, "threads": request.threads, "resources": _resources(request)},
        "startupDeadlineSeconds": _STARTUP_SECONDS,
        "activeDeadlineSeconds": _ACTIVE_SECONDS,
        "ttlSecondsAfterFinished": _TTL_SECONDS,
    }
    if image:
        spec["image"] = image
    if packages:
        spec["packages"] = list(packages)
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}


def code_of(launch: bytes, project: bytes | None) -> dict[str, bytes]:
    """What the job's ConfigMap holds."""
    return {LAUNCH_FILE: launch} | ({PROJECT_ZIP: project} if project else {})


def blocker_of(status: Mapping[str, Any]) -> str:
    """What keeps workers of a job from starting, as its status says; "" for nothing known."""
    message = str(status.get("message") or "")
    # Where some run, how many comes first.
    return message if status.get("reason") in _REASONS else message.partition("\n")[2]


def worker_of(member: Mapping[str, Any], group: str, blocker: str = "") -> Worker:
    """A member of a job's status as one of the session's workers; *blocker*: what keeps those that wait."""
    address = str(member.get("ip") or UNKNOWN)
    code = member.get("exitCode")
    status = Status(str(member.get("state") or Status.SCHEDULING))
    waits = status in (Status.SCHEDULING, Status.STARTING)
    return Worker(
        id=str(member["id"]),
        label=label_of(group, int(member["index"])),
        status=status,
        created_at=_time(member.get("createdAt")) or now(),
        running_at=_time(member.get("runningAt")),
        finished_at=_time(member.get("finishedAt")),
        ip_address=address,
        app_url="" if address == UNKNOWN else f"http://{address}:{APP_PORT}/",
        exit_code=None if code is None else int(code),
        message=_OUR_COMMAND.sub("", str(member.get("message") or (blocker if waits else ""))),
    )


def _variables(request: Request, identity: Identity) -> dict[str, str]:
    variables = worker_variables(identity)
    if not identity.in_pod and identity.ip == LOCALHOST:
        # Of this machine: a worker that connected to it would reach itself.
        for name in ("CDSW_MASTER_IP", "CML_MASTER_IP"):
            variables.pop(name)
    return {**variables, **port_variables(APP_PORT, READONLY_PORT, PUBLIC_PORT), **request.env}


def _resources(request: Request) -> dict[str, Any]:
    """CPUs are reserved and may be exceeded where a node has some to spare; memory and GPUs are limits."""
    memory = f"{max(1, math.ceil(request.memory_bytes / _MIB))}Mi"
    limits: dict[str, Any] = {"memory": memory}
    if request.nvidia_gpu:
        limits["nvidia.com/gpu"] = request.nvidia_gpu
    return {"requests": {"cpu": f"{max(1, math.ceil(request.cpu * 1000))}m", "memory": memory}, "limits": limits}


def _time(text: object) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromisoformat(str(text)) if text else None
    except ValueError:
        return None
