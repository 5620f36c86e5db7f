"""The functions of CML's workers API, with its words, its defaults and what it returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import msgspec

from dask_training.workers import output, request
from dask_training.workers.records import Status, Worker
from dask_training.workers.state import Settings, session

WorkerDict: TypeAlias = dict[str, Any]
_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})
_KEEP: Final[Any] = object()


class Response:
    """What stopping a worker gives; CML's are answers of its HTTP API."""

    status_code = 204
    ok = True

    def __repr__(self) -> str:
        return f"<Response [{self.status_code}]>"


def launch_workers(  # noqa: PLR0913 - CML's
    n: int,
    cpu: float,
    memory: float,
    nvidia_gpu: int = 0,
    kernel: str = "python3",
    script: str = "",
    code: str = "",
    env: Mapping[str, object] = _NOTHING,
    *,
    name: str | None = None,
    accelerator_label_id: int | None = None,
    resource_profile_id: int | None = None,
    resource_group_id: int | None = None,
) -> list[WorkerDict]:
    """Launch *n* workers that each run *script*, a file of the project, or else *code*; returns a dict for each.

    *cpu* in cores, *memory* in GiB, both for each worker. Code that begins with `!` is a shell's. *kernel* is python3,
    or r where the image has Rscript. What the workers print is shown here; they end with this process. Where a quota
    refuses one of them none is launched: the dicts then have no `id`, and Kubernetes' words in `k8sMessage`. The last
    three arguments are Cloudera's own and must be left out. Raises ValueError for arguments that can't be used,
    RuntimeError or a KubernetesError where nothing can be launched.
    """
    request.refuse_cloudera(
        accelerator_label_id=accelerator_label_id,
        resource_profile_id=resource_profile_id,
        resource_group_id=resource_group_id,
    )
    asked = request.checked(
        n=n,
        cpu=cpu,
        memory=memory,
        nvidia_gpu=nvidia_gpu,
        kernel=kernel,
        script=script,
        code=code,
        name=name,
        env=env,
        project=session.settings.folder,
    )
    return session.launch(asked)


def list_workers() -> list[WorkerDict]:
    """All workers of this session, those that have ended, too: a dict for each, in the order of their launch."""
    return [worker.as_dict() for worker in session.table.all()]


def await_workers(
    ids: str | WorkerDict | Iterable[str | WorkerDict],
    wait_for_completion: bool = True,  # noqa: FBT001, FBT002 - CML's
    timeout_seconds: float | None = 60,
) -> dict[str, list[WorkerDict]]:
    """Wait until the workers have ended or, without *wait_for_completion*, until they run and have an address.

    *ids* are ids, or dicts as `launch_workers` and `list_workers` give them. Returns `{"workers": [...],
    "failures": [...]}`: failures are those that failed, were stopped, or are not so far after *timeout_seconds* (0: no
    limit); without *wait_for_completion* also those that have ended already. All that an ended worker printed has been
    shown by then. Raises ValueError for an id that is none of this session's.
    """
    timeout = float(timeout_seconds or 0)
    if timeout < 0:
        raise ValueError(f"timeout_seconds must not be negative, got {timeout_seconds!r}; 0 waits without a limit")
    given = _flat(ids)
    refused = [each for each in given if isinstance(each, Mapping) and "id" not in each]
    wanted = _known([_id_of(each) for each in given if not (isinstance(each, Mapping) and "id" not in each)])
    found = session.table.wait(wanted, _ended if wait_for_completion else _ready_or_ended, timeout or None)
    good = [worker for worker in found if (_succeeded if wait_for_completion else _ready)(worker)]
    bad = [worker for worker in found if worker not in good]
    for worker in bad:
        if not worker.is_final:
            output.note(f"{worker.label} is still {worker.status} after {timeout:g} s{_why(worker)}")
    return {
        "workers": [worker.as_dict() for worker in good],
        "failures": [worker.as_dict() for worker in bad] + [dict(each) for each in refused],
    }


def stop_workers(*worker_id: str | WorkerDict | Iterable[str | WorkerDict]) -> list[Response]:
    """Stop these workers, or all of this session (Dask clusters, too) if none is given; returns a response for each.

    Raises ValueError for an id that is none of this session's.
    """
    if not worker_id:
        ids = [worker.id for worker in session.table.all() if not worker.is_final]
        session.stop(ids)
        return [Response() for _ in ids]
    given = [_id_of(each) for part in worker_id for each in _flat(part)]
    session.stop(_known([each for each in given if each not in session.refused]))
    return [Response() for _ in given]


def configure(
    *,
    local: bool | None = _KEEP,
    namespace: str | None = _KEEP,
    context: str | None = _KEEP,
    image: str = _KEEP,
    packages: Sequence[str] = _KEEP,
    project: str | Path | bool | None = _KEEP,
) -> None:
    """Say how workers are launched from now on; what is not given stays as it is.

    *local*: True for processes of this machine, False for pods, None (the default) for pods where Kubernetes is
    configured. The rest is for pods: *namespace* and *context* as the kubeconfig has them, *image* and *packages* as in
    a job, *project* the folder whose code is sent along (None: the working directory; False: none).
    """
    given: dict[str, Any] = {
        "local": local,
        "namespace": namespace,
        "context": context,
        "image": image,
        "packages": packages if packages is _KEEP else _packages(packages),
        "project": project if project is _KEEP else _project(project),
    }
    changes = {key: value for key, value in given.items() if value is not _KEEP}
    session.settings = msgspec.structs.replace(session.settings, **changes)


def settings() -> Settings:
    """How workers are launched."""
    return session.settings


def _packages(given: Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _project(given: str | Path | bool | None) -> Path | bool | None:  # noqa: FBT001 - False is a value of the setting
    if given is None or given is False:
        return given
    path = Path(str(given)).expanduser()
    if given is True or not path.is_dir():
        raise ValueError(f"project must be a folder, None (the working directory) or False (none), got {given!r}")
    return path.resolve()


def _flat(ids: Any) -> list[str | Mapping[str, Any]]:
    if isinstance(ids, (str, Mapping)):
        return [ids]
    try:
        return [each for part in ids for each in _flat(part)]
    except TypeError:
        raise ValueError(f"workers are given by id, or by their dict, got {ids!r}") from None


def _id_of(given: str | Mapping[str, Any]) -> str:
    if isinstance(given, str):
        return given
    return str(given.get("id") or given.get("engineId") or "")


def _known(ids: list[str]) -> list[str]:
    unknown = [each for each in ids if session.table.get(each) is None]
    if unknown:
        known = ", ".join(worker.id for worker in session.table.all()) or "none"
        raise ValueError(f"this session has no worker {', '.join(map(repr, unknown))}; it has: {known}")
    return list(dict.fromkeys(ids))


def _ended(worker: Worker) -> bool:
    return worker.is_final


def _ready(worker: Worker) -> bool:
    return worker.is_ready


def _ready_or_ended(worker: Worker) -> bool:
    return worker.is_ready or worker.is_final


def _succeeded(worker: Worker) -> bool:
    return worker.status is Status.SUCCEEDED


def _why(worker: Worker) -> str:
    return f": {worker.message}" if worker.message else ""
