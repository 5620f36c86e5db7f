"""The program of a runner's pod."""

from __future__ import annotations

import json
import os
import time

from dask_training.api import Env
from dask_training.runner.pod import setup
from dask_training.runner.pod.paths import PodPaths

_BEGAN = "DASK_TRAINING_BEGAN"  # monotonic; kept when the program starts itself again


def main(paths: PodPaths) -> int:
    """Runs the job's code, keeps what it leaves, and returns the code to exit with."""
    began = float(os.environ.setdefault(_BEGAN, str(time.monotonic())))
    from dask_training.model import TrainingJob  # noqa: PLC0415 - after the fork of init

    job = TrainingJob.from_body(json.loads((paths.secret / "job.json").read_bytes()))
    cpus = job.spec.runner.resources.cpu_request if job.spec.runner else None
    # As on a machine of its own: BLAS follows the CPU request, where there is one.
    threads = max(1, round(cpus)) if cpus is not None else None
    setup.configure_dask(paths, "runner", threads=threads, tls=job.spec.cluster_ref is None)
    if Env.JOB_UID not in os.environ:
        os.environ[Env.JOB_UID] = job.metadata.uid
    from dask_training.runner.pod.attempt import PodAttempt  # noqa: PLC0415 - distributed reads its configuration

    return PodAttempt(job, paths, began=began).run()
