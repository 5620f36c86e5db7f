"""`run_dask_cluster`: a Dask cluster with the words, and what they return, of Cloudera's two helpers."""

from __future__ import annotations

import urllib.parse
from collections.abc import Collection, Mapping
from typing import Any

from dask_training.workers import output
from dask_training.workers.records import Status, Worker, now
from dask_training.workers.request import checked
from dask_training.workers.state import session

_IDLE_TIMEOUT = "60 minutes"  # a CML session's own by default


def run_dask_cluster(
    n: int | None = None,
    cpu: float | None = None,
    memory: float | None = None,
    nvidia_gpu: int = 0,
    scheduler_port: int | None = None,  # noqa: ARG001 - see below
    dashboard_port: int | str | None = None,  # noqa: ARG001 - as above
    *,
    num_workers: int | None = None,
) -> dict[str, Any]:
    """Run a Dask cluster of *n* (or *num_workers*) workers with *cpu* cores and *memory* GiB each, and wait for it.

    The dict has scheduler, scheduler_proc, workers, scheduler_address and dashboard_address:
    `Client(cluster["scheduler_address"])` connects, encrypted. The ports are accepted, but the cluster has its own. It
    ends with `stop_workers()`, with this process, or after an hour without a task. Raises RuntimeError with the reason
    if it does not come up, ValueError or TypeError for arguments that can't be used.
    """
    count = num_workers if n is None else n
    if count is None or cpu is None or memory is None:
        raise TypeError("run_dask_cluster needs n (or num_workers), cpu and memory")
    asked = checked(
        n=count,
        cpu=cpu,
        memory=memory,
        nvidia_gpu=nvidia_gpu,
        kernel="python3",
        script="",
        code="!dask worker",
        name="dask",
        env=None,
        project=session.settings.folder,
    )
    settings = session.settings
    from dask_training.session import launch_cluster  # noqa: PLC0415 - brings Dask along

    try:
        cluster = launch_cluster(
            asked.n,
            cpu=asked.cpu,
            memory=f"{asked.memory_bytes // 1024**2}Mi",
            gpu=asked.nvidia_gpu,
            namespace=settings.namespace,
            context=settings.context,
            image=settings.image or None,
            packages=settings.packages,
            idle_timeout=_IDLE_TIMEOUT,
            no_client_timeout=None,
            wait=asked.n,
            local=session.is_local(),
        )
    except Exception as error:
        output.note(f"the Dask cluster did not come up: {error}")
        raise RuntimeError(f"the Dask cluster did not come up: {error}") from error
    group = DaskGroup(cluster)
    session.adopt(group)
    workers = [worker.as_dict() for worker in session.of(group.ids)]
    return {
        "scheduler": workers[:1],
        "scheduler_proc": SchedulerProcess(group),
        "workers": workers[1:],
        "scheduler_address": cluster.scheduler_address,
        "dashboard_address": cluster.dashboard_link,
    }


class DaskGroup:
    """A Dask cluster as a group of workers: its scheduler is the first."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self._closed = False
        info = cluster.scheduler_info
        dashboard = str(cluster.dashboard_link or "")
        url = f"{dashboard.removesuffix('status').rstrip('/')}/" if dashboard else ""
        name = str(cluster.name)
        self.ids = (f"{name}-scheduler", *(_worker_id(name, each) for each in info["workers"].values()))
        addresses = (cluster.scheduler_address, *info["workers"])
        for number, (each, address) in enumerate(zip(self.ids, addresses, strict=True)):
            session.table.put(
                Worker(
                    id=each,
                    label=each,
                    status=Status.RUNNING,
                    created_at=now(),
                    running_at=now(),
                    ip_address=urllib.parse.urlsplit(address).hostname or "",
                    app_url="" if number else url,
                )
            )

    def stop(self, ids: Collection[str]) -> None:
        """Close the cluster with its scheduler or its last worker; with some workers, have so many fewer."""
        scheduler, *workers = self.ids
        left = [each for each in workers if each not in ids and not _has_ended(each)]
        if scheduler in ids or not left:
            self.close()
            return
        self._cluster.scale(len(left))
        self._mark([each for each in workers if each in ids])

    def begin_close(self) -> None:
        """Nothing: closing is quick."""

    def close(self) -> None:
        """Close the cluster."""
        if not self._closed:
            self._closed = True
            self._cluster.close()
        self._mark(self.ids)

    @property
    def is_closed(self) -> bool:
        """Whether it was stopped."""
        return self._closed

    def _mark(self, ids: Collection[str]) -> None:
        for each in ids:
            session.table.update(each, status=Status.STOPPED, finished_at=now())


class SchedulerProcess:
    """What scripts do with the process of a scheduler: `terminate`, `kill`, `poll` and `wait`."""

    def __init__(self, group: DaskGroup) -> None:
        self._group = group

    def poll(self) -> int | None:
        """None while the cluster is there, 0 when it was stopped."""
        return 0 if self._group.is_closed else None

    def terminate(self) -> None:
        """Stop the whole cluster."""
        self._group.close()

    kill = terminate

    def wait(self, timeout: float | None = None) -> int:
        """Stop the cluster, and return 0: it does not end by itself."""
        del timeout
        self._group.close()
        return 0


def _worker_id(cluster: str, info: Mapping[str, Any]) -> str:
    """The pod's name; on this machine workers have numbers."""
    name = str(info.get("name", info.get("id")))
    return f"{cluster}-worker-{name}" if name.isdigit() else name


def _has_ended(worker_id: str) -> bool:
    worker = session.table.get(worker_id)
    return worker is None or worker.is_final
