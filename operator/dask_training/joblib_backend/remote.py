"""What runs on a worker: one batch of tasks. Imported by the scheduler as well, so light at the top."""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from dask_training.joblib_backend.frames import Frames, dump, unpack


class Orders(NamedTuple):
    """How a batch is to be run; a plain tuple on the wire."""

    key: str
    topic: str
    shared_from: float = float("inf")  # bytes from which an argument's buffers are shared, read-only, by all tasks
    nested_on_cluster: bool = False  # the outer call leaves cores idle, so nested calls may use the cluster
    is_guest: bool = False  # the worker is somebody else's: what its joblib calls "dask" stays as it is


class Outcome(NamedTuple):
    """What a batch gave: `results` in order, or `error`; `seconds` are what its tasks took."""

    results: list[Any] | None
    error: Any
    seconds: float


def run_batch(blob: bytes, orders: tuple[Any, ...], *entries: Frames) -> Frames:
    """Run a packed batch and give its `Outcome` as frames; user errors are part of it, never raised here."""
    order, data = Orders(*orders), list(entries)
    _announce(order)
    results: list[Any] = []
    error: BaseException | None = None
    start = time.perf_counter()
    try:
        if not blob:  # too large for the scheduler
            packed = data.pop()
            blob = bytes(packed.header)
        tasks = unpack(blob, [frames.load(order.shared_from) for frames in data])
        start = time.perf_counter()
        _run(tasks, order, results)
    except BaseException as raised:  # noqa: BLE001 - the client raises it again, SystemExit too
        error = raised
    seconds = time.perf_counter() - start
    if error is None:
        try:
            return dump(Outcome(results, None, seconds))
        except Exception as raised:  # noqa: BLE001 - whatever the results' own pickling raises
            error = pickle.PicklingError(
                f"the result of a task could not be pickled: {type(raised).__name__}: {raised}"
            )
            error.__cause__ = raised
    return dump(Outcome(None, _portable(error), seconds))


def _run(tasks: Sequence[Any], order: Orders, results: list[Any]) -> None:
    from joblib import parallel_config  # noqa: PLC0415 - the scheduler imports this module and needs no joblib

    from dask_training.joblib_backend.backend import NestedSequential, nested_backend  # noqa: PLC0415 - as above

    task_state = _task_state(order.key) if len(tasks) > 1 else None
    inner = NestedSequential() if order.is_guest else nested_backend(on_cluster=order.nested_on_cluster)
    with parallel_config(backend=inner):
        for function, args, kwargs in tasks:
            if task_state is not None and task_state.state == "cancelled":
                return  # nobody waits for it any more
            results.append(function(*args, **kwargs))


def _worker() -> Any:
    from distributed import get_worker  # noqa: PLC0415 - as above

    try:
        return get_worker()
    except ValueError:  # not on a worker: a unit test, or a plain call
        return None


def _task_state(key: str) -> Any:
    worker = _worker()
    return None if worker is None else worker.state.tasks.get(key)


def _announce(order: Orders) -> None:
    """Tell the client that the batch has begun, so that it can tell who killed a worker from who only waited there.

    Waits until the scheduler knows (a millisecond or two): a task can kill its worker faster than news travels.
    """
    worker = _worker()
    if worker is not None:
        from distributed.utils import sync  # noqa: PLC0415 - as above

        message = {"key": order.key, "worker": worker.address}
        sync(worker.loop, worker.scheduler.log_event, topic=order.topic, msg=message)


def _portable(error: BaseException) -> Any:
    """`error` with its traceback as text, replaced by a RuntimeError if it would not survive the way to the client."""
    from joblib._utils import _ExceptionWithTraceback  # noqa: PLC0415 - as above

    try:
        wrapped = _ExceptionWithTraceback(error)
        dump(wrapped).load_writable()
    except Exception:  # noqa: BLE001 - whatever the exception's own pickling raises
        said = f"{type(error).__module__}.{type(error).__qualname__}: {error}"
        substitute = RuntimeError(f"{said} (this exception can't be pickled, so it arrives as a RuntimeError)")
        substitute.__traceback__ = error.__traceback__
        return _ExceptionWithTraceback(substitute)
    return wrapped
