"""What a local run's processes get: their environment variables, and the script."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from dask_training.api import Env
from dask_training.model import JobFile, TrainingJob
from dask_training.model.job import EnvFrom, EnvVar
from dask_training.model.scripts import modules_imported_by
from dask_training.runner.code import SCRIPT_NAME, runner_of
from dask_training.runner.dask_environment import thread_variables, tls_variables, without_dask
from dask_training.runner.workspace import Workspace


def script_of(job: TrainingJob, job_file: JobFile) -> tuple[str, str] | None:
    """The script's file name and text; None where the code is a module or a command."""
    runner = runner_of(job)
    if runner.script is not None:
        return SCRIPT_NAME, runner.script
    if runner.script_from is not None:
        source = runner.script_from.config_map
        return source.key, job_file.config_maps[source.name][source.key]
    return None


def of_all(job: TrainingJob, job_file: JobFile, workspace: Workspace, attempt: int) -> dict[str, str]:
    """What all processes get: `spec.env` and `spec.envFrom`, where the code is, and what the run is called."""
    places = [str(workspace.layer_site), str(workspace.code), os.environ.get("PYTHONPATH", "")]
    script = script_of(job, job_file)
    return {
        **without_dask(os.environ),
        **_from(job.spec.env_from, job_file),
        **_values(job.spec.env, job_file),
        "PYTHONPATH": os.pathsep.join(place for place in places if place),
        "PYTHONUNBUFFERED": "1",
        "DASK_TEMPORARY_DIRECTORY": str(workspace.spill),
        # So that `python` in a command is the Python that runs this.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        Env.JOB_NAME: job.name,
        Env.JOB_NAMESPACE: job.namespace,
        Env.JOB_UID: job.metadata.uid,
        Env.ATTEMPT: str(attempt),
        Env.PREIMPORT: ",".join(modules_imported_by(script[1])) if script else "",
    }


def of_runner(shared: Mapping[str, str], job: TrainingJob, job_file: JobFile, workspace: Workspace) -> dict[str, str]:
    """What the user's code gets beside what all processes get."""
    runner = runner_of(job)
    # As on a cluster: BLAS follows the runner's CPU request, where it has one, and not the machine.
    cpus = runner.resources.cpu_request
    return {
        **shared,
        **(thread_variables(max(1, round(cpus))) if cpus is not None else {}),
        **_values(runner.env, job_file),
        **tls_variables("client", workspace.tls),
        Env.ARTIFACTS_DIR: str(workspace.artifacts),
        Env.ROLE: "runner",
    }


def _from(sources: Iterable[EnvFrom], job_file: JobFile) -> dict[str, str]:
    found: dict[str, str] = {}
    for source in sources:
        for ref, objects in (
            (source.config_map_ref, job_file.config_maps),
            (source.secret_ref, job_file.secrets),
        ):
            if ref is not None:
                found |= {source.prefix + key: value for key, value in objects.get(ref.name, {}).items()}
    return found


def _values(variables: Iterable[EnvVar], job_file: JobFile) -> dict[str, str]:
    """Values as written; one from an object that the file lacks is taken from this process's environment, if there."""
    found: dict[str, str] = {}
    for variable in variables:
        value = variable.value if variable.value_from is None else _referenced(variable, job_file)
        if value is not None:
            found[variable.name] = value
    return found


def _referenced(variable: EnvVar, job_file: JobFile) -> str | None:
    source = variable.value_from
    if source is None or source.field_ref is not None:
        return None
    for ref, objects in (
        (source.config_map_key_ref, job_file.config_maps),
        (source.secret_key_ref, job_file.secrets),
    ):
        if ref is not None and ref.key in objects.get(ref.name, {}):
            return objects[ref.name][ref.key]
    return os.environ.get(variable.name)
