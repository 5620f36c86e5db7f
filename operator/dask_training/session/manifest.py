"""The Session job that a cluster is made as. Pure."""

from __future__ import annotations

from typing import Any, Final

from dask_training.api import API_VERSION, KIND, Mode
from dask_training.client.connection import FIELD_MANAGER, Body
from dask_training.errors import OptionError
from dask_training.model import JobFileError, TrainingJob
from dask_training.session.options import Options

# The owner's process writes this often; a computation that holds Python's lock all the while may take up to the
# time-out less that. What ends a cluster sooner whose process has died is that it has no client any more.
HEARTBEAT_SECONDS: Final = 30.0
HEARTBEAT_TIMEOUT_SECONDS: Final = 300
# So long a cluster that has ended can be asked why.
_TTL_SECONDS: Final = 60
# The session itself gives up first, and can say what it knows.
_STARTUP_SLACK_SECONDS: Final = 10
_PARAMETERS: Final = {
    "metadata.name": "name",
    "metadata.labels": "tags",
    "spec.image": "image",
    "spec.packages": "packages",
    "spec.envFrom": "secrets",
    "spec.env": "env",
    "spec.idleTimeoutSeconds": "idle_timeout",
    "spec.session.noClientTimeoutSeconds": "no_client_timeout",
    "spec.activeDeadlineSeconds": "active_deadline",
    "spec.startupDeadlineSeconds": "startup_timeout",
    "spec.scheduler.resources.requests.cpu": "scheduler_cpu",
    "spec.scheduler.resources": "scheduler_memory",
    "spec.workers.threads": "threads",
    "spec.workers.resources.requests.cpu": "cpu",
    "spec.workers.resources.requests.memory": "memory",
    "spec.workers.resources.limits.memory": "memory",
    "spec.workers.resources": "cpu, memory or gpu",
    "spec.workers": "n_workers",
}


def session_body(options: Options, *, name: str, namespace: str, request: str, owner: Body | None) -> Body:
    """The job for *options* with the certificate signing *request* (PEM), and the session's pod as *owner*.

    Raises OptionError for what the model refuses.
    """
    session: dict[str, Any] = {"certificateSigningRequest": request}
    if options.no_client_seconds is not None:
        session["noClientTimeoutSeconds"] = options.no_client_seconds
    if options.shutdown_on_close:
        session["heartbeatTimeoutSeconds"] = HEARTBEAT_TIMEOUT_SECONDS
    spec: dict[str, Any] = {
        "mode": str(Mode.SESSION),
        "session": session,
        "workers": _workers(options),
        "startupDeadlineSeconds": min(options.startup_seconds + _STARTUP_SLACK_SECONDS, 86400),
        "ttlSecondsAfterFinished": _TTL_SECONDS,
    }
    resources = _resources(options.scheduler_cpu, options.scheduler_memory, 0)
    optional: dict[str, Any] = {
        "scheduler": {"resources": resources} if resources else {},
        "image": options.image,
        "packages": list(options.packages),
        "env": [{"name": key, "value": value} for key, value in options.env.items()],
        "envFrom": [{"secretRef": {"name": secret}} for secret in options.secrets],
        "idleTimeoutSeconds": options.idle_seconds,
        "activeDeadlineSeconds": options.deadline_seconds,
    }
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    if options.tags:
        metadata["labels"] = dict(options.tags)
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    spec |= {field: value for field, value in optional.items() if value}
    body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}
    try:
        TrainingJob.from_body(body)
    except JobFileError as error:
        raise option_error(error) from error
    return body


def option_error(error: JobFileError) -> OptionError:
    """What is wrong with the job, said of the parameters that it came from."""
    lines = [f"{_parameter(problem.path)}: {problem.message}" for problem in error.problems]
    return OptionError("\n".join(dict.fromkeys(lines)))


def scale_patch(count: int) -> Body:
    """Fixes the number of workers: the bounds of an adaptive cluster go."""
    return {"spec": {"workers": {"replicas": count, "minReplicas": 1, "maxReplicas": None}}}


def adapt_patch(minimum: int, maximum: int, now: int) -> Body:
    """Lets the number of workers, *now* as given, follow the work between the bounds."""
    replicas = min(max(now, minimum), maximum)
    return {"spec": {"workers": {"replicas": replicas, "minReplicas": minimum, "maxReplicas": maximum}}}


def _workers(options: Options) -> dict[str, Any]:
    workers: dict[str, Any] = {
        "replicas": options.replicas,
        "resources": _resources(options.cpu, options.memory, options.gpu),
    }
    if options.is_adaptive:
        workers |= {"minReplicas": options.minimum, "maxReplicas": options.maximum}
    if options.threads is not None:
        workers["threads"] = options.threads
    return workers


def _resources(cpu: str, memory: str, gpu: int) -> dict[str, Any]:
    """CPUs are reserved and may be exceeded where a node has some to spare; memory and GPUs are limits."""
    requests = {key: value for key, value in (("cpu", cpu), ("memory", memory)) if value}
    limits: dict[str, Any] = {"memory": memory} if memory else {}
    if gpu:
        limits["nvidia.com/gpu"] = gpu
    return {key: value for key, value in (("requests", requests), ("limits", limits)) if value}


def _parameter(path: str) -> str:
    fitting = (
        name for start, name in _PARAMETERS.items() if path == start or path.startswith((f"{start}.", f"{start}["))
    )
    return next(fitting, path or FIELD_MANAGER)
