"""`launch_cluster` and `list_clusters`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask_training.api import Mode
from dask_training.client.connection import Body, Connection, is_configured, jobs_path
from dask_training.client.status_events import is_finished, phase_of
from dask_training.session import remote
from dask_training.session.backend import Backend
from dask_training.session.cluster import Adapting, TrainingCluster
from dask_training.session.local import Local
from dask_training.session.options import PARAMETERS, Duration, Quantity, checked

_said_local = False


def launch_cluster(  # noqa: PLR0913 - one for each option
    n_workers: int | tuple[int, int] = 2,
    cpu: Quantity = 1,
    memory: Quantity | None = "2Gi",
    gpu: int = 0,
    *,
    threads: int | None = None,
    name: str | None = None,
    namespace: str | None = None,
    context: str | None = None,
    image: str | None = None,
    packages: str | Iterable[str] = (),
    code: str | Path | Iterable[str | Path] | None = None,
    env: Mapping[str, str] | None = None,
    secrets: str | Iterable[str] = (),
    tags: Mapping[str, str] | None = None,
    idle_timeout: Duration = "20 minutes",
    no_client_timeout: Duration = "auto",
    active_deadline: Duration = None,
    shutdown_on_close: bool = True,
    scheduler_cpu: Quantity | None = None,
    scheduler_memory: Quantity | None = None,
    startup_timeout: Duration = "10 minutes",
    wait: bool | int = True,
    local: bool | None = None,
    asynchronous: bool = False,
    quiet: bool = False,
) -> TrainingCluster:
    """A Dask cluster of one's own, which ends with the session that asked for it.

    Args:
        n_workers: How many; (minimum, maximum) lets the number follow the work.
        cpu: CPUs of each worker, such as 1, 0.5 or "500m".
        memory: Memory of each worker, such as "2Gi": reserved, and its limit. None: no limit.
        gpu: GPUs of each worker (nvidia.com/gpu).
        threads: Tasks at a time of each worker; by default as many as it has CPUs, rounded up.
        name: Of the cluster and its pods; by default session- and six digits.
        namespace: Where it is made; by default the kubeconfig's, in a pod the pod's.
        context: Of the kubeconfig, in place of the current one.
        image: In place of the operator's runtime image; it holds dask-training[runtime].
        packages: For pip, installed into every pod before it starts.
        code: Files, a folder of modules, or packages to be importable on all workers; 1 MiB at most.
        env: Environment variables of all pods.
        secrets: Names of Secrets whose keys become environment variables of all pods.
        tags: Labels on every object that is made.
        idle_timeout: It ends after so long without a task.
        no_client_timeout: It ends after so long without a client: "auto" is 2 minutes, or never without
            shutdown_on_close; None is never.
        active_deadline: It ends after so long, whatever it does; a day if None.
        shutdown_on_close: Whether `close`, and the end of this process or pod, end it. Without, another process can
            attach to it with `TrainingCluster.from_name`.
        scheduler_cpu: CPUs of the scheduler.
        scheduler_memory: Memory of the scheduler.
        startup_timeout: How long it may take to start; then it is removed.
        wait: True: until one worker is connected; a number: until so many are; False: until the scheduler answers.
        local: True: processes of this machine; None: only where no Kubernetes is configured.
        asynchronous: Return at once what is to be awaited, or entered with `async with`.
        quiet: Do not say what it waits for.

    Durations are texts such as "20 minutes", or seconds.

    Raises:
        OptionError: A parameter can't be used; nothing was made.
        ClusterStartTimeoutError: It was not ready in time; the message says what it lacks, and it was removed.
        ClusterStartError: It ended while it started, and was removed.
        KubernetesError: The API server refused, or can't be reached; nothing is left.
    """
    given = locals()
    options = checked({key: given[key] for key in PARAMETERS})
    if local is None:
        local = context is None and not is_configured()
        if local and not quiet:
            _say_local()
    backend: Backend = Local(options) if local else remote.new(Connection(context, namespace), options)
    return TrainingCluster(
        backend,
        startup_seconds=options.startup_seconds,
        adapting=Adapting(options.minimum, options.maximum) if options.is_adaptive else None,
        threads_per_worker=options.nthreads,
        asynchronous=asynchronous,
        quiet=quiet,
    )


@dataclass(frozen=True)
class ClusterSummary:
    """A session's cluster as `list_clusters` shows it."""

    name: str
    namespace: str
    phase: str
    workers: str
    """Ready and desired, such as "2/3"."""
    created: str
    """ISO 8601, UTC."""
    owner: str
    """The pod that it ends with; empty for one that was launched from elsewhere."""
    message: str


def list_clusters(
    *, namespace: str | None = None, context: str | None = None, all_namespaces: bool = False
) -> list[ClusterSummary]:
    """The sessions' clusters that run, or are starting, by namespace and name. Raises KubernetesError."""
    connection = Connection(context, namespace)
    try:
        jobs = connection.list(jobs_path(None if all_namespaces else connection.namespace))
    finally:
        connection.close()
    sessions = [job for job in jobs if job["spec"].get("mode") == Mode.SESSION and not is_finished(job)]
    return sorted(map(_summary, sessions), key=lambda each: (each.namespace, each.name))


def _summary(job: Body) -> ClusterSummary:
    metadata, status = job["metadata"], job.get("status") or {}
    owners: list[dict[str, Any]] = metadata.get("ownerReferences") or []
    return ClusterSummary(
        name=str(metadata["name"]),
        namespace=str(metadata["namespace"]),
        phase=str(phase_of(job)),
        workers=str((status.get("workers") or {}).get("summary") or ""),
        created=str(metadata["creationTimestamp"]),
        owner=next((str(each["name"]) for each in owners if each.get("kind") == "Pod"), ""),
        message=str(status.get("message") or ""),
    )


def _say_local() -> None:
    global _said_local  # noqa: PLW0603 - once in this process
    if not _said_local:
        _said_local = True
        sys.stderr.write("No Kubernetes is configured: the cluster runs on this machine (local=True says the same)\n")
