"""Who runs the script: our job, and dask-kubernetes' with its documented readiness probe and with a quick one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("train.py").read_text(encoding="utf-8")
WORKERS = 2
PODS = WORKERS + 2  # and a scheduler and a runner
OURS, DOCUMENTED, TUNED = "ours", "documented", "tuned"

Body = dict[str, Any]


@dataclass(frozen=True)
class Contender:
    """One column of the table: how to make its job, and how to read what becomes of it."""

    name: str
    title: str
    group: str
    version: str
    plural: str
    job_label: str  # on pods: the job's name
    role_label: str  # on pods: scheduler, worker, or the runner's
    runner_role: str
    keeps_runner: bool  # whether the runner's pod stays after the end, Completed
    make: Callable[[str, str], Body]  # (job's name, image) -> body
    reached: Callable[
        [Mapping[str, Any]], set[str]
    ]  # status -> artifacts, verdict, complete, failed: as far as it tells

    @property
    def api_version(self) -> str:
        """What the manifest says."""
        return f"{self.group}/{self.version}"


def _our_job(name: str, image: str) -> Body:
    resources = {"requests": {"cpu": "100m", "memory": "256Mi"}}  # all pods and two operators share two cores
    return {
        "apiVersion": "dask-training.io/v1alpha1",
        "kind": "DaskTrainingJob",
        "metadata": {"name": name},
        "spec": {
            "image": image,
            "runner": {"script": SCRIPT, "resources": resources},
            "scheduler": {"resources": resources},
            "workers": {"replicas": WORKERS, "minReplicas": WORKERS, "threads": 1, "resources": resources},
        },
    }


def _our_stages(status: Mapping[str, Any]) -> set[str]:
    true = {each["type"] for each in status.get("conditions", ()) if each["status"] == "True"}
    stages = {
        "ArtifactsStored": "artifacts",
        "SuccessCriteriaMet": "verdict",
        "Complete": "complete",
        "FailureTarget": "failed",
        "Failed": "failed",
    }
    return {stage for condition, stage in stages.items() if condition in true}


def _dask_job(name: str, image: str, *, delay: int, period: int) -> Body:
    """The documented YAML; `dask scheduler` and `dask worker` for the commands that Dask no longer has."""
    ports = {"tcp-comm": 8786, "http-dashboard": 8787}
    health = {"httpGet": {"port": "http-dashboard", "path": "/health"}}
    runner = {"name": "job", "image": image, "imagePullPolicy": "IfNotPresent", "args": ["python", "-c", SCRIPT]}
    scheduler = {
        "name": "scheduler",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["dask", "scheduler"],
        "ports": [{"name": port, "containerPort": number, "protocol": "TCP"} for port, number in ports.items()],
        "readinessProbe": health | {"initialDelaySeconds": delay, "periodSeconds": period},
        "livenessProbe": health | {"initialDelaySeconds": 15, "periodSeconds": 20},
    }
    worker_args = "dask worker --name $(DASK_WORKER_NAME) --nthreads 1 --dashboard --dashboard-address 8788"
    worker = {
        "name": "worker",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": worker_args.split(),
        "ports": [{"name": "http-dashboard", "containerPort": 8788, "protocol": "TCP"}],
    }
    service = {
        "type": "ClusterIP",
        "selector": {"dask.org/cluster-name": name, "dask.org/component": "scheduler"},
        "ports": [
            {"name": port, "protocol": "TCP", "port": number, "targetPort": port} for port, number in ports.items()
        ],
    }
    return {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskJob",
        "metadata": {"name": name},
        "spec": {
            "job": {"spec": {"restartPolicy": "Never", "containers": [runner]}},
            "cluster": {
                "spec": {
                    "worker": {"replicas": WORKERS, "spec": {"containers": [worker]}},
                    "scheduler": {"spec": {"containers": [scheduler]}, "service": service},
                }
            },
        },
    }


def _dask_job_stages(status: Mapping[str, Any]) -> set[str]:
    stages = {"Successful": "verdict", "Failed": "failed"}
    return {stage for value, stage in stages.items() if status.get("jobStatus") == value}


def _peer(name: str, title: str, *, delay: int, period: int) -> Contender:
    return Contender(
        name=name,
        title=title,
        group="kubernetes.dask.org",
        version="v1",
        plural="daskjobs",
        job_label="dask.org/cluster-name",
        role_label="dask.org/component",
        runner_role="job-runner",
        keeps_runner=True,
        make=lambda job, image: _dask_job(job, image, delay=delay, period=period),
        reached=_dask_job_stages,
    )


CONTENDERS = {
    each.name: each
    for each in (
        Contender(
            name=OURS,
            title="DaskTrainingJob",
            group="dask-training.io",
            version="v1alpha1",
            plural="dasktrainingjobs",
            job_label="dask-training.io/job",
            role_label="dask-training.io/role",
            runner_role="runner",
            keeps_runner=False,
            make=_our_job,
            reached=_our_stages,
        ),
        _peer(DOCUMENTED, "DaskJob as documented", delay=5, period=10),
        _peer(TUNED, "DaskJob tuned", delay=0, period=1),
    )
}
