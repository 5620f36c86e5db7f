"""The attempt's pods: scheduler, runner and workers, those of mode Workers, and the reader of stored artifacts.

They keep to the Pod Security Standard "restricted", and more: a read-only root, no token, no service links.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from dask_training import api
from dask_training.api import Env, Label, Mode, Port, Role
from dask_training.manifests import volumes
from dask_training.manifests.attempt import Attempt
from dask_training.manifests.volumes import Mounted
from dask_training.model import Spec, TrainingJob
from dask_training.model.job import EnvVar, Resources, Runner
from dask_training.model.reserved import requests_of
from dask_training.model.scripts import modules_imported_by

Manifest: TypeAlias = dict[str, Any]
USER: Final = 1000
PROGRAM: Final = ("python", "-m", "dask_training.runner.pod")
GRACE_SECONDS: Final = {Role.RUNNER: 30, Role.SCHEDULER: 2, Role.WORKER: 60, Role.READER: 2}
ENGINE_GRACE_SECONDS: Final = 10
READER_SECONDS: Final = 600
# What an engine of CML is told of itself.
_CDSW: Final = {"CDSW_ENGINE_ID": "metadata.name", "CDSW_IP_ADDRESS": "status.podIP"}
# Neither may be moved to save a node: the attempt would be over.
_STAY: Final = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}


def scheduler_pod(attempt: Attempt) -> Manifest:
    """The Dask scheduler."""
    spec = attempt.job.spec
    variables = {Env.DASHBOARD: str(spec.scheduler.dashboard).lower(), Env.THREADS: str(spec.workers.nthreads)}
    if spec.mode is Mode.SESSION:
        variables[Env.IDLE_TIMEOUT] = str(spec.idle_timeout_seconds)
        if spec.session is not None and spec.session.no_client_timeout_seconds is not None:
            variables[Env.NO_CLIENT_TIMEOUT] = str(spec.session.no_client_timeout_seconds)
    ports = {"scheduler": Port.SCHEDULER, "http": Port.SCHEDULER_HTTP}
    return _pod(attempt, Role.SCHEDULER, spec.scheduler.resources, variables, ports=ports)


def runner_pod(attempt: Attempt, scheduler_address: str) -> Manifest:
    """The pod that runs the user's code."""
    runner = _runner(attempt)
    variables = {
        Env.SCHEDULER_ADDRESS: scheduler_address,
        Env.STORE_URL: store_url(attempt.job),
        Env.FIRST_STARTED: attempt.first_started.isoformat(),
    }
    if attempt.settings.prices is not None:
        variables[Env.PRICES] = msgspec.json.encode(attempt.settings.prices).decode()
    # On somebody else's cluster it is the runner that the operator asks how far the job is.
    ports = {"http": Port.SCHEDULER_HTTP} if attempt.job.spec.cluster_ref is not None else None
    return _pod(attempt, Role.RUNNER, runner.resources, variables, ports=ports, env=runner.env)


def worker_pod(attempt: Attempt, index: int, scheduler_address: str) -> Manifest:
    """Worker number `index`, counted from 0."""
    workers = attempt.job.spec.workers
    variables = {Env.SCHEDULER_ADDRESS: scheduler_address, Env.THREADS: str(workers.nthreads)}
    return _pod(attempt, Role.WORKER, workers.resources, variables, index=index, ports={"worker": Port.WORKER})


def engine_pod(attempt: Attempt, index: int) -> Manifest:
    """Worker number `index` of mode Workers: it runs the job's code once, without Dask."""
    workers, runner = attempt.job.spec.workers, _runner(attempt)
    variables = {Env.THREADS: str(workers.nthreads)}
    mounted = volumes.of_engine(attempt.job.spec)
    pod = _pod(attempt, Role.WORKER, workers.resources, variables, index=index, env=runner.env, mounted=mounted)
    container = pod["spec"]["containers"][0]
    container["command"] = [*PROGRAM, "engine"]
    own = [each for each in container["env"] if each["name"] not in (*_CDSW, Env.PREIMPORT)]
    cdsw = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in _CDSW.items()]
    container["env"] = [*own, *cdsw]
    pod["metadata"]["annotations"] = {**_STAY, api.CODE_ANNOTATION: _code_document(runner)}
    # Its name in DNS is <pod>.<Service>. It is never run a second time, wherever it ends.
    names = {"hostname": pod["metadata"]["name"], "subdomain": attempt.name}
    pod["spec"] |= names | {"restartPolicy": "Never", "terminationGracePeriodSeconds": ENGINE_GRACE_SECONDS}
    return pod


def _code_document(runner: Runner) -> str:
    """What runner/pod/engine.py reads."""
    document = {
        "script": runner.script,
        "scriptFile": runner.script_from.config_map.key if runner.script_from is not None else None,
        "module": runner.module,
        "command": runner.command,
        "args": runner.args,
    }
    return msgspec.json.encode(document).decode()


def _runner(attempt: Attempt) -> Runner:
    runner = attempt.job.spec.runner
    if runner is None:
        raise ValueError(f"job {attempt.job.name} has no runner")
    return runner


def reader_pod(job: TrainingJob, *, name: str, image: str, token: str, uid: str = "") -> Manifest:
    """A pod that serves the job's stored artifacts for ten minutes: for the command line, through a port-forward.

    It has no label job-uid, for the operator would take it for a leftover. `uid`: the job, as its owner.
    """
    spec = job.spec
    labels = {
        Label.JOB.value: job.name,
        Label.ROLE.value: Role.READER.value,
        Label.MANAGED_BY.value: "dask-training",
        Label.NAME.value: "dask-training-reader",
    }
    metadata: Manifest = {"name": name, "namespace": job.namespace, "labels": labels}
    if uid:
        metadata["ownerReferences"] = [
            {"apiVersion": api.API_VERSION, "kind": api.KIND, "name": job.name, "uid": uid, "controller": False}
        ]
    mounted = volumes.scratch("tmp", "work") + volumes.of_store(spec)
    env = [{"name": "HOME", "value": "/work"}, {"name": Env.ROLE.value, "value": Role.READER.value}]
    env += [{"name": Env.STORE_URL.value, "value": store_url(job)}, {"name": Env.READER_TOKEN.value, "value": token}]
    env.append({"name": Env.JOB_NAMESPACE.value, "value": job.namespace})  # nothing outside it is given
    container = _container(Role.READER, image, spec.image_pull_policy or "", env, Resources(), mounted)
    container["ports"] = [{"name": "http", "containerPort": Port.READER.value}]
    pod_spec = _pod_spec(spec, Role.READER, container, mounted, spec.priority_class_name)
    pod_spec["activeDeadlineSeconds"] = READER_SECONDS
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec}


def store_url(job: TrainingJob) -> str:
    """Where the runner stores artifacts: the job's own place, or its namespace's bucket in the operator's store."""
    destination = job.spec.artifacts.destination
    if destination is None:
        return f"s3://{api.store_bucket(job.namespace)}"
    return destination.url or f"file://{volumes.STORE}"


def _pod(
    attempt: Attempt,
    role: Role,
    resources: Resources,
    variables: Mapping[Env, str],
    *,
    index: int | None = None,
    ports: Mapping[str, Port] | None = None,
    env: Iterable[EnvVar] = (),
    mounted: Mounted | None = None,
) -> Manifest:
    spec, settings = attempt.job.spec, attempt.settings
    if mounted is None:
        mounted = volumes.of_role(spec, role, attempt.secret)
    container = _container(
        role,
        attempt.image,
        spec.image_pull_policy or settings.image_pull_policy,
        _environment(attempt, role, variables, resources, env),
        resources,
        mounted,
    )
    if spec.env_from:
        container["envFrom"] = [_without_none(source) for source in spec.env_from]
    if ports:
        container["ports"] = [{"name": name, "containerPort": port.value} for name, port in ports.items()]
    metadata = attempt.metadata(attempt.child(role, index), role, index, owner=attempt.owner)
    if role is not Role.WORKER:
        metadata["annotations"] = dict(_STAY)
    priority = spec.priority_class_name or settings.priority_class
    pod_spec = _pod_spec(spec, role, container, mounted, priority)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec}


def _pod_spec(spec: Spec, role: Role, container: Manifest, mounted: Mounted, priority: str) -> Manifest:
    optional = {
        "serviceAccountName": spec.service_account_name,
        "priorityClassName": priority,
        "nodeSelector": dict(spec.node_selector),
        "tolerations": [msgspec.to_builtins(toleration) for toleration in spec.tolerations],
        "affinity": msgspec.to_builtins(spec.affinity),
        "imagePullSecrets": [{"name": secret.name} for secret in spec.image_pull_secrets],
    }
    return {
        # The kubelet makes a crashed worker again by itself, with the operator down, too. Code never runs twice.
        "restartPolicy": "OnFailure" if role is Role.WORKER else "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS[role],
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": list(mounted.volumes),
        **{name: value for name, value in optional.items() if value},
    }


def _container(
    role: Role, image: str, pull_policy: str, env: list[Manifest], resources: Resources, mounted: Mounted
) -> Manifest:
    return {
        "name": role.value,
        "image": image,
        **({"imagePullPolicy": pull_policy} if pull_policy else {}),
        "command": [*PROGRAM, role.value],
        "workingDir": "/work",
        "env": env,
        "resources": _resources(role, resources),
        "volumeMounts": list(mounted.mounts),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _resources(role: Role, given: Resources) -> Manifest:
    return {"requests": requests_of(role, given), **({"limits": dict(given.limits)} if given.limits else {})}


def _environment(
    attempt: Attempt, role: Role, variables: Mapping[Env, str], resources: Resources, env: Iterable[EnvVar]
) -> list[Manifest]:
    """The job's own variables, then ours, which it can't set."""
    spec, metadata = attempt.job.spec, attempt.job.metadata
    own = {variable.name: _variable(variable) for variable in (*spec.env, *env)}
    script = spec.runner.script if spec.runner else None
    values = {
        Env.JOB_NAME: metadata.name,
        Env.JOB_NAMESPACE: metadata.namespace,
        Env.JOB_UID: metadata.uid,
        Env.ATTEMPT: str(attempt.number),
        Env.ROLE: role.value,
        **variables,
    }
    if spec.packages:
        values[Env.PACKAGES] = json.dumps(spec.packages)
    if modules := modules_imported_by(script or ""):
        values[Env.PREIMPORT] = ",".join(modules)
    own.setdefault("HOME", {"name": "HOME", "value": "/work"})
    ours: list[Manifest] = [{"name": name.value, "value": value} for name, value in values.items()]
    for name, path in ((Env.POD_IP, "status.podIP"), (Env.POD_NAME, "metadata.name")):
        ours.append({"name": name.value, "valueFrom": {"fieldRef": {"fieldPath": path}}})
    if "memory" in resources.limits:
        limit = {"resourceFieldRef": {"resource": "limits.memory", "containerName": role.value}}
        ours.append({"name": Env.MEMORY_LIMIT.value, "valueFrom": limit})
    return [*own.values(), *ours]


def _variable(variable: EnvVar) -> Manifest:
    if variable.value_from is None:
        return {"name": variable.name, "value": variable.value or ""}
    return _without_none(variable)


def _without_none(struct: msgspec.Struct) -> Manifest:
    """A part of the spec as Kubernetes takes it: without the alternatives that were not chosen."""
    found: Manifest = _cleaned(msgspec.to_builtins(struct))
    return found


def _cleaned(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _cleaned(item) for key, item in value.items() if item is not None}
    return value
