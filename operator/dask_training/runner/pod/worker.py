"""The program of a worker's pod."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

from dask_training.api import Env, ExitCode, Port
from dask_training.errors import StartupDeadlineError
from dask_training.runner.pod import last_word, logs_over_dask, setup
from dask_training.runner.pod.paths import PodPaths

# Longer than most startupDeadlineSeconds, which are the operator's affair: then the kubelet starts the worker again.
_STARTUP_SECONDS = 900.0


def main(paths: PodPaths) -> int:
    """Runs a worker until it is told to end (0) or has lost its scheduler (69: the kubelet starts it again)."""
    failed = setup.install_packages(paths, "worker")
    if failed is not None:
        return failed
    threads = int(os.environ.get(Env.THREADS, "1"))
    setup.configure_dask(paths, "worker", threads=threads)
    setup.trim_memory()
    from dask_training import dask_ml_compat, joblib_backend  # noqa: PLC0415 - distributed reads its settings once
    from dask_training.runner import address, preimport, worker  # noqa: PLC0415

    setup.use_code(paths)
    dask_ml_compat.install()
    preimport.start()
    joblib_backend.register()  # for Parallel calls inside tasks
    options = worker.WorkerOptions(
        name=os.environ[Env.POD_NAME],
        host=os.environ[Env.POD_IP],
        port=_port(),
        threads=threads,
        memory_limit=last_word.memory_limit() or 0,
        local_directory=paths.work,
        startup_timeout=_STARTUP_SECONDS,
    )

    async def hand_over(of: worker.JobWorker) -> None:
        with contextlib.suppress(OSError):
            await logs_over_dask.hand_over_worker_log(of, paths.log)

    try:
        scheduler = address.scheduler_address(None, timeout=_STARTUP_SECONDS)
        serving = worker.serve(
            scheduler, options, lambda ready: logs_over_dask.serve_worker_log(ready, paths.log), hand_over
        )
        dismissed = asyncio.run(serving)
    except (StartupDeadlineError, OSError) as error:
        sys.stderr.write(f"dask-training: {error}\n")
        dismissed = False
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ExitCode.OK if dismissed else ExitCode.WORKERS_LOST)  # a task may still run, for nobody


def _port() -> int:
    """8788; in tests, which have one machine for all pods, what the environment says."""
    return int(os.environ.get("DASK_TRAINING_WORKER_PORT", Port.WORKER))
