"""What of a job a run on this machine can't do: what it misses, and what it leaves out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from dask_training.api import Mode
from dask_training.model.job import EnvVar, KeyRef, TrainingJob
from dask_training.model.problems import Path

Objects: TypeAlias = Mapping[str, Mapping[str, str]]


def missing(
    job: TrainingJob, config_maps: Objects, secrets: Objects, environ: Mapping[str, str]
) -> list[tuple[Path, str]]:
    """What the job needs, with its path, that is not in its file or needs Kubernetes."""
    spec = job.spec
    found: list[tuple[Path, str]] = []
    if spec.mode is not Mode.BATCH:
        found.append((("spec", "mode"), f"mode {spec.mode} needs Kubernetes: on this machine only Batch runs"))
    if spec.cluster_ref:
        found.append((("spec", "clusterRef"), "needs Kubernetes: leave it out to run on a cluster of the job's own"))
    if spec.code and spec.code.config_map.name not in config_maps:
        found.append(
            (("spec", "code", "configMap", "name"), _not_here("ConfigMap", spec.code.config_map.name, config_maps))
        )
    found += _missing_script(job, config_maps)
    for index, env_from in enumerate(spec.env_from):
        for field, kind, source, objects in (
            ("configMapRef", "ConfigMap", env_from.config_map_ref, config_maps),
            ("secretRef", "Secret", env_from.secret_ref, secrets),
        ):
            if source and not source.optional and source.name not in objects:
                found.append((("spec", "envFrom", index, field, "name"), _not_here(kind, source.name, objects)))
    found += _missing_values(spec.env, ("spec", "env"), config_maps, secrets, environ)
    if spec.runner:
        found += _missing_values(spec.runner.env, ("spec", "runner", "env"), config_maps, secrets, environ)
    return found


def ignored(job: TrainingJob, other_kinds: Sequence[str]) -> list[str]:
    """One sentence for each thing that a run on this machine leaves out."""
    spec, runner = job.spec, job.spec.runner
    fields = {
        "image": spec.image,
        "imagePullPolicy": spec.image_pull_policy,
        "imagePullSecrets": spec.image_pull_secrets,
        "volumes": spec.volumes,
        "serviceAccountName": spec.service_account_name,
        "priorityClassName": spec.priority_class_name,
        "nodeSelector": spec.node_selector,
        "tolerations": spec.tolerations,
        "affinity": spec.affinity,
        "suspend": spec.suspend,
        "runner.volumeMounts": runner and runner.volume_mounts,
        "scheduler.resources": spec.scheduler.resources.requests or spec.scheduler.resources.limits,
        "workers.volumeMounts": spec.workers.volume_mounts,
    }
    without_effect = [f"spec.{field}" for field, value in fields.items() if value]
    sentences = [f"On this machine these have no effect: {', '.join(without_effect)}."] if without_effect else []
    if spec.workers.is_adaptive:
        sentences.append(
            f"spec.workers.maxReplicas is not followed on this machine: it has {spec.workers.replicas} worker(s) "
            "(spec.workers.replicas) throughout."
        )
    extended = {
        key for given in (spec.workers.resources.requests, spec.workers.resources.limits) for key in given if "/" in key
    }
    sentences += [f"spec.workers.resources: {key} is not reserved on this machine." for key in sorted(extended)]
    if spec.artifacts.destination and spec.artifacts.destination.persistent_volume_claim:
        sentences.append(
            "spec.artifacts.destination.persistentVolumeClaim needs Kubernetes: artifacts go to the local folder."
        )
    for variable in (*spec.env, *(runner.env if runner else ())):
        if variable.value_from and (ref := variable.value_from.field_ref):
            sentences.append(
                f"{variable.name} stays unset: there is no pod on this machine to take {ref.field_path} from."
            )
    if other_kinds:
        sentences.append(f"Left out of this file: {', '.join(other_kinds)}.")
    return sentences


def _not_here(kind: str, name: str, objects: Objects) -> str:
    known = f" (it has: {', '.join(sorted(objects))})" if objects else ""
    return f"there is no {kind} {name!r} in this file{known}: on this machine it must be a document of the job file"


def _missing_key(kind: str, ref: KeyRef, objects: Objects) -> tuple[str, str] | None:
    """Which part of the reference, name or key, leads nowhere, and the message."""
    if ref.name not in objects:
        return "name", _not_here(kind, ref.name, objects)
    if ref.key not in objects[ref.name]:
        return (
            "key",
            f"{kind} {ref.name!r} has no key {ref.key!r}; it has: {', '.join(sorted(objects[ref.name])) or 'none'}",
        )
    return None


def _missing_script(job: TrainingJob, config_maps: Objects) -> Iterator[tuple[Path, str]]:
    if job.spec.runner and (source := job.spec.runner.script_from):
        ref = KeyRef(name=source.config_map.name, key=source.config_map.key)
        if gap := _missing_key("ConfigMap", ref, config_maps):
            part, message = gap
            yield ("spec", "runner", "scriptFrom", "configMap", part), message


def _missing_values(
    env: Sequence[EnvVar], path: Path, config_maps: Objects, secrets: Objects, environ: Mapping[str, str]
) -> Iterator[tuple[Path, str]]:
    for index, variable in enumerate(env):
        if not variable.value_from or variable.name in environ:
            continue
        for field, kind, ref, objects in (
            ("configMapKeyRef", "ConfigMap", variable.value_from.config_map_key_ref, config_maps),
            ("secretKeyRef", "Secret", variable.value_from.secret_key_ref, secrets),
        ):
            if ref and not ref.optional and (gap := _missing_key(kind, ref, objects)):
                part, message = gap
                yield (*path, index, "valueFrom", field, part), f"{message}, or {variable.name} set in the environment"
