"""The job's code, as the child is told to run it and as messages call it."""

from __future__ import annotations

from pathlib import Path

from dask_training.model import Runner, TrainingJob
from dask_training.runner.child import ChildConfig
from dask_training.runner.guest import GuestConfig
from dask_training.runner.joblib_setup import JoblibConfig

SCRIPT_NAME = "script.py"  # not the job's name: a job called random would hide the standard library's module

# The supervisor's deadline comes first, and says more than the processes' own.
STARTUP_SLACK_SECONDS = 10.0


def runner_of(job: TrainingJob) -> Runner:
    """The job's runner, which mode Batch always has."""
    if job.spec.runner is None:
        raise ValueError(f"job {job.name} has no runner")
    return job.spec.runner


def name_of(job: TrainingJob) -> str:
    """What messages call the code."""
    runner = runner_of(job)
    if runner.script_from is not None:
        return runner.script_from.config_map.key
    if runner.script is not None:
        return "spec.runner.script"
    return f"module {runner.module}" if runner.module else f"command {runner.command[0]}"


def startup_timeout(job: TrainingJob) -> float:
    """Seconds that the processes of a cluster wait for each other."""
    return job.spec.startup_deadline_seconds + STARTUP_SLACK_SECONDS


def child_config(
    job: TrainingJob, *, script: Path | None, address_file: Path | None, code: Path | None = None
) -> ChildConfig:
    """What the child is to do; `script` is where the job's script lies, `code` the modules of `spec.code`, if any.

    `address_file` tells where the scheduler is of a run on this machine, whose number of workers is fixed.
    """
    spec = job.spec
    grows = spec.workers.is_adaptive and address_file is None and spec.cluster_ref is None
    runner = runner_of(job)
    return ChildConfig(
        script=str(script) if script else None,
        module=runner.module,
        command=runner.command,
        args=tuple(runner.args),
        joblib=JoblibConfig(
            backend=runner.joblib.backend,
            scatter=runner.joblib.scatter,
            min_workers=spec.workers.min_replicas,
            threads_per_worker=spec.workers.nthreads,
            most_cores=(spec.workers.max_replicas or 0) * spec.workers.nthreads if grows else 0,
            loss_grace=spec.workers.loss_grace_seconds,
        ),
        workers=spec.workers.replicas,
        packages=tuple(spec.packages),
        guest=_guest(job, code),
        address_file=str(address_file) if address_file else None,
        startup_timeout=startup_timeout(job),
    )


def _guest(job: TrainingJob, code: Path | None) -> GuestConfig | None:
    if job.spec.cluster_ref is None:
        return None
    return GuestConfig(cluster=job.spec.cluster_ref.name, code=str(code) if job.spec.code and code else None)
