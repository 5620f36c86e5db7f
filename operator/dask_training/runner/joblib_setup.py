"""joblib's Dask backend, as the default of a process that runs the user's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from dask_training.runner.channel import Channel
from dask_training.runner.events import Progress

if TYPE_CHECKING:
    import joblib
    from distributed import Client


class JoblibConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`spec.runner.joblib` and what the backend has to know of the workers; times in seconds.

    `most_cores`: threads of all workers that an adaptive job may have; 0 where their number is fixed.
    """

    backend: str = "dask"
    scatter: str = "auto"
    min_workers: int = 1
    threads_per_worker: int = 1
    most_cores: int = 0
    loss_grace: float


def turn_on(config: JoblibConfig, client: Client, channel: Channel) -> joblib.parallel_config:
    """Makes `config.backend` joblib's default from here on, until the returned value's `unregister`."""
    import joblib  # noqa: PLC0415 - imported while the scheduler starts

    from dask_training import joblib_backend  # noqa: PLC0415 - as above

    def on_progress(done: int, total: int | None, call: int, name: str) -> None:
        channel.send(Progress(done=done, total=total, call=call, name=name))

    joblib_backend.register(
        client=client,
        min_workers=config.min_workers,
        threads_per_worker=config.threads_per_worker,
        most_cores=config.most_cores,
        wait_for_workers_timeout=config.loss_grace,
        scatter=config.scatter,
        on_progress=on_progress,
    )
    if config.backend == "dask":
        # For the user's own threads as well, which do not see what parallel_config sets in this one.
        joblib.register_parallel_backend("dask", joblib_backend.DaskBackend, make_default=True)
    return joblib.parallel_config(backend=config.backend)
