"""joblib's Dask backend, as the default of a process that runs the user's code."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec

from dask_training.runner.channel import Channel, JoblibCall
from dask_training.runner.events import Progress

if TYPE_CHECKING:
    import joblib
    from distributed import Client


class JoblibConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`spec.runner.joblib` and what the backend has to know of the workers; times in seconds.

    `most_cores`: threads of all workers that an adaptive job may have; 0 where their number is fixed.
    `is_guest`: they are somebody else's. `by_value` are modules that they can't import: what is of them is sent along.
    `upstream`: joblib's own Dask backend in place of ours, which the cluster does not have.
    """

    backend: str = "dask"
    scatter: str = "auto"
    min_workers: int = 1
    threads_per_worker: int = 1
    most_cores: int = 0
    loss_grace: float
    is_guest: bool = False
    by_value: tuple[str, ...] = ()
    upstream: bool = False


def turn_on(config: JoblibConfig, client: Client, channel: Channel) -> joblib.parallel_config:
    """Makes `config.backend` joblib's default from here on, until the returned value's `unregister`."""
    import joblib  # noqa: PLC0415 - imported while the scheduler starts

    from dask_training import joblib_backend  # noqa: PLC0415 - as above

    def on_progress(done: int, total: int | None, call: int, name: str) -> None:
        channel.send(Progress(done=done, total=total, call=call, name=name))

    def on_call_end(tasks: int, batches: int, seconds: float) -> None:
        channel.send(JoblibCall(tasks=tasks, batches=batches, seconds=seconds))

    if config.upstream:
        return joblib.parallel_config(backend=config.backend)
    joblib_backend.register(
        client=client,
        min_workers=config.min_workers,
        threads_per_worker=config.threads_per_worker,
        most_cores=config.most_cores,
        wait_for_workers_timeout=config.loss_grace,
        scatter=config.scatter,
        on_progress=on_progress,
        on_call_end=on_call_end,
        is_guest=config.is_guest,
    )
    if config.backend == "dask":
        # For the user's own threads as well, which do not see what parallel_config sets in this one.
        joblib.register_parallel_backend("dask", joblib_backend.DaskBackend, make_default=True)
    return joblib.parallel_config(backend=config.backend)


def pickle_by_value(modules: tuple[str, ...]) -> None:
    """Sends what is defined in these modules whole, not by name; they need not be imported yet."""
    if not modules:
        return
    import cloudpickle  # type: ignore[import-untyped]  # noqa: PLC0415 - only a guest needs it

    for name in modules:
        there = sys.modules.get(name)
        if there is None:  # cloudpickle remembers the name alone, but wants to see a module of that name
            sys.modules[name] = ModuleType(name)
        cloudpickle.register_pickle_by_value(sys.modules[name])
        if there is None:
            del sys.modules[name]
    _tell_distributed([name.encode() for name in modules])


def _tell_distributed(names: list[bytes]) -> None:
    """Makes distributed treat these modules as it treats `__main__`: what holds something of them is for cloudpickle.

    It takes the standard library's pickle where that can do it, which knows names alone.
    """
    from distributed.protocol import pickle  # noqa: PLC0415 - only a guest needs it

    without = pickle.dumps

    def dumps(x: Any, *, buffer_callback: Any = None, protocol: int | None = pickle.HIGHEST_PROTOCOL) -> bytes:
        buffers: list[Any] = []
        callback = buffers.append if buffer_callback is not None else None
        result: bytes = without(x, buffer_callback=callback, protocol=protocol)
        if any(name in result for name in names):
            buffers.clear()
            options = {"buffer_callback": callback} if (protocol or 5) >= 5 else {}
            result = pickle.cloudpickle.dumps(x, protocol=protocol, **options)
        for buffer in buffers:
            buffer_callback(buffer)
        return result

    pickle.dumps = dumps
