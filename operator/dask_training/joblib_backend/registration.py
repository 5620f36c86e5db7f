"""`register`: our backend under joblib's names, with a process's defaults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

OnProgress: TypeAlias = "Callable[[int, int | None, int, str], None]"
OnCallEnd: TypeAlias = "Callable[[int, int, float], None]"

NAMES = ("dask", "dask.distributed")  # the second is what scripts of 2017 to 2019 say


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What a `DaskBackend` takes where its maker says nothing."""

    client: Any = None
    min_workers: int = 1
    threads_per_worker: int = 1
    most_cores: int = 0
    wait_for_workers_timeout: float = 60.0
    scatter: str | Sequence[Any] | None = "auto"
    on_progress: OnProgress | None = None
    on_call_end: OnCallEnd | None = None
    is_guest: bool = False


class _Registry:
    """This process's defaults; one writer, `register`."""

    defaults = Defaults()


def defaults() -> Defaults:
    """The defaults that `register` was called with last, or the built-in ones."""
    return _Registry.defaults


def register(
    *,
    client: Any = None,
    min_workers: int = 1,
    threads_per_worker: int = 1,
    most_cores: int = 0,
    wait_for_workers_timeout: float = 60.0,
    scatter: str | Sequence[Any] | None = "auto",
    on_progress: OnProgress | None = None,
    on_call_end: OnCallEnd | None = None,
    is_guest: bool = False,
) -> None:
    """Make joblib's "dask" and "dask.distributed" this backend, with these defaults for backends made later.

    client: a connected `distributed.Client`; by default the current one when a backend is made.
    min_workers: a call waits for so many workers before it sends its first task.
    threads_per_worker: what the workers will have, for `n_jobs` while none is connected yet.
    most_cores: threads of all workers that a cluster may have that grows with its work: a call sends tasks for so many
        from the start, for else it would not grow. 0: it does not.
    wait_for_workers_timeout: seconds to wait for workers, at a call's start and when all are lost; 0: not.
    scatter: "auto", or objects to send to the workers ahead of the first task.
    on_progress: called with (done, total or None, number of the call, function name), at most ten times a second.
    on_call_end: called once at a call's end with (tasks done, batches they were sent in, seconds that they ran).
    is_guest: the cluster is somebody else's: nothing stays in its workers but what was imported. Calls inside tasks run
        in the task's own thread.

    Raises ValueError or TypeError for values that can't work.
    """
    import joblib  # noqa: PLC0415 - the scheduler imports this module and needs no joblib

    from dask_training.joblib_backend.backend import DaskBackend, check_scatter  # noqa: PLC0415 - as above

    if min_workers < 1:
        raise ValueError(f"min_workers must be at least 1, got {min_workers}")
    if threads_per_worker < 1:
        raise ValueError(f"threads_per_worker must be at least 1, got {threads_per_worker}")
    if most_cores < 0:
        raise ValueError(f"most_cores must not be below 0, got {most_cores}")
    check_scatter(scatter)
    _Registry.defaults = Defaults(
        client=client,
        min_workers=min_workers,
        threads_per_worker=threads_per_worker,
        most_cores=most_cores,
        wait_for_workers_timeout=wait_for_workers_timeout,
        scatter=scatter,
        on_progress=on_progress,
        on_call_end=on_call_end,
        is_guest=is_guest,
    )
    for name in NAMES:
        joblib.register_parallel_backend(name, DaskBackend)
