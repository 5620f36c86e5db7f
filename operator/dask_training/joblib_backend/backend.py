"""`DaskBackend`: what joblib's `Parallel` talks to."""

from __future__ import annotations

import contextlib
import math
import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

from distributed import Client, get_client, rejoin, secede
from distributed.utils import thread_state
from joblib._dask import DaskDistributedBackend
from joblib._parallel_backends import FallbackToBackend

from dask_training.joblib_backend.batching import BatchSizer
from dask_training.joblib_backend.calls import Call, CallSettings, Report
from dask_training.joblib_backend.cluster import ClusterView, view_of
from dask_training.joblib_backend.data import Entry, pinned_entry, store_of
from dask_training.joblib_backend.driver import job_limit
from dask_training.joblib_backend.registration import NAMES, OnProgress, defaults, register

NO_CLIENT = """\
To use joblib with Dask first create a Dask Client

    from dask.distributed import Client
    client = Client()
or
    client = Client('scheduler-address:8786')"""

_UNSET: Any = object()

_clients: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def check_scatter(scatter: Any) -> None:
    """Raises TypeError for anything but "auto", None, a list or a tuple."""
    if not (
        scatter is None or scatter == "auto" if isinstance(scatter, str | None) else isinstance(scatter, list | tuple)
    ):
        raise TypeError(
            f'scatter must be a list/tuple of objects or "auto", got {scatter!r:.80} ({type(scatter).__name__})'
        )


class DaskBackend(DaskDistributedBackend):
    """Runs joblib tasks on a Dask cluster; the defaults of what is not given are those of `register`.

    scheduler_host: the address of a scheduler to connect to; by default the process's Dask client is used.
    scatter: "auto", or a list of objects to keep on the workers under their identity, whatever their size.
    client: a connected `distributed.Client`.
    wait_for_workers_timeout: seconds to wait for workers; 0 does not wait.
    min_workers: a call waits for so many workers before it sends its first task.
    on_progress: called with (done, total or None, number of the call, function name).
    submit_kwargs: passed to `Client.submit` for each batch (`workers`, `resources`, `priority`, ...).

    Raises ValueError if there is no client, TypeError for a wrong `scatter`; a call raises WorkersLostError if too few
    workers come in time, SchedulerLostError, TaskKilledWorkersError, or what a task raised.
    """

    def __init__(
        self,
        scheduler_host: str | None = None,
        scatter: str | Sequence[Any] | None = _UNSET,
        client: Any = None,
        loop: Any = None,
        wait_for_workers_timeout: float = _UNSET,
        *,
        min_workers: int = _UNSET,
        on_progress: OnProgress | None = _UNSET,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        **submit_kwargs: Any,
    ) -> None:
        # Not upstream's own: it makes a collector of futures that this backend has no use for.
        super(DaskDistributedBackend, self).__init__(
            nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads
        )
        default = defaults()
        scatter = default.scatter if scatter is _UNSET else scatter
        check_scatter(scatter)
        self.client = client if client is not None else find_client(scheduler_host, loop)
        self.wait_for_workers_timeout = (
            default.wait_for_workers_timeout if wait_for_workers_timeout is _UNSET else wait_for_workers_timeout
        ) or 0.0
        self.min_workers = default.min_workers if min_workers is _UNSET else min_workers
        self._most_cores = default.most_cores
        self.on_progress = default.on_progress if on_progress is _UNSET else on_progress
        self.submit_kwargs = submit_kwargs
        self.parallel: Any = None
        self._scatter = list(scatter) if isinstance(scatter, list | tuple) else []
        self._pinned: dict[int, Entry] = {id(value): pinned_entry(value) for value in self._scatter}
        self._n_jobs = -1
        self._shared_from = math.inf
        self._call: Call | None = None
        self._sizer = BatchSizer()
        self._last: Report | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return nested_backend, (True,)

    # ---- joblib asks: how many ----------------------------------------------------------------------------------

    def configure(self, n_jobs: int = 1, parallel: Any = None, **kwargs: Any) -> int:
        """Called by joblib before a call: waits for the workers; gives 1 only where the user asked for 1."""
        if self.parallel is not parallel:
            # A Parallel of its own: under parallel_config(...) several of them, even at once, share one template.
            raise FallbackToBackend(self._bound_to(parallel))
        self._n_jobs = n_jobs
        max_nbytes = kwargs.get("max_nbytes")
        self._shared_from = math.inf if max_nbytes is None or kwargs.get("mmap_mode") != "r" else max_nbytes
        if n_jobs not in (0, 1) and self.wait_for_workers_timeout:
            view = self._view()
            cores = view.cores_now(self._only_workers)
            if len(view.threads) < self.min_workers or not cores:
                view.call(view.wait_for_workers(self.min_workers, self.wait_for_workers_timeout, self._only_workers))
        return self.effective_n_jobs(n_jobs)

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Tasks that run at once; at least 2 unless `n_jobs` is 1, for which joblib runs everything here."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs == 1:
            return 1
        cores = self._view().cores_now(self._only_workers)
        if cores == 0:
            if not self.wait_for_workers_timeout:
                return 0
            cores = self.min_workers * defaults().threads_per_worker
        cores = max(cores, self._cores_to_come)
        limit = job_limit(-1 if n_jobs is None else n_jobs, cores)
        return max(2, cores if limit is None else min(limit, cores))

    def _bound_to(self, parallel: Any) -> DaskBackend:
        bound = object.__new__(type(self))  # copy.copy would pickle
        bound.__dict__.update(self.__dict__, parallel=parallel, _sizer=BatchSizer(), _call=None, _last=None)
        bound.reset_batch_stats()
        return bound

    @property
    def _only_workers(self) -> list[str] | None:
        workers = self.submit_kwargs.get("workers")
        if workers is None:
            return None
        return [workers] if isinstance(workers, str) else [str(worker) for worker in workers]

    @property
    def _cores_to_come(self) -> int:
        return self._most_cores if self._only_workers is None else 0

    def _view(self) -> ClusterView:
        if self.client.asynchronous:
            raise ValueError("joblib can't wait inside an event loop: make the Dask client with asynchronous=False")
        return view_of(self.client)

    # ---- joblib says: begin, run this, end ----------------------------------------------------------------------

    def start_call(self) -> None:
        view = self._view()
        settings = CallSettings(
            n_jobs=self._n_jobs,
            only_workers=self._only_workers,
            most_cores=self._cores_to_come,
            submit_kwargs=self.submit_kwargs,
            seconds_to_wait=self.wait_for_workers_timeout,
            shared_from=self._shared_from,
            pinned=self._pinned,
            on_progress=self.on_progress,
            on_call_end=defaults().on_call_end,
            is_guest=defaults().is_guest,
        )
        self._call = Call(self.parallel, view, store_of(view), settings)
        self._call.prepare(list(self._pinned.values()))

    def submit(self, func: Any, callback: Any = None) -> None:
        if self._call is not None:
            self._call.submit(func.items, callback)

    def retrieve_result_callback(self, out: Report) -> list[Any]:
        self._last = out
        if out.error is not None:
            raise out.error
        return out.results or []

    def batch_completed(self, batch_size: int, duration: float) -> None:  # noqa: ARG002 - joblib's signature
        if self._last is not None:
            wanted = self._sizer.completed(batch_size, self._last.seconds, self._last.nbytes)
            self._last = None
            call = self._call
            self._effective_batch_size = wanted if call is None else call.batch_size(wanted, self._sizer.seconds_each)

    @contextlib.contextmanager
    def retrieval_context(self) -> Iterator[None]:
        """On a worker, give the thread's place to another task while waiting: nested calls always end."""
        on_worker = hasattr(thread_state, "execution_state")
        if on_worker:
            secede()
        try:
            if self._call is not None:
                self._call.retrieve()
            yield
        finally:
            if on_worker:
                rejoin()

    def abort_everything(self, ensure_ready: bool = True) -> None:  # noqa: ARG002, FBT001, FBT002 - joblib's signature
        self._end_call()

    def stop_call(self) -> None:
        self._end_call()

    def _end_call(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.finish()

    def get_nested_backend(self) -> tuple[Any, int]:
        return self, -1  # never used: `run_batch` makes the nested backend on the worker


class NestedSequential(DaskBackend):
    """For calls inside a task while all cores are busy: they run in the task's own thread."""

    def __init__(self) -> None:
        super(DaskDistributedBackend, self).__init__(nesting_level=0)
        self.parallel = None

    def __reduce__(self) -> tuple[Any, ...]:
        return nested_backend, (False,)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **kwargs: Any) -> int:  # noqa: ARG002 - as above
        self.parallel = parallel
        return self.effective_n_jobs(n_jobs)

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        return 1


def nested_backend(on_cluster: bool) -> DaskBackend:  # noqa: FBT001 - called by pickle
    """The backend for calls inside a task; also makes this worker's "dask" ours, for tasks that name it."""
    import joblib.parallel  # noqa: PLC0415 - only this function looks into joblib's registry

    if any(joblib.parallel.BACKENDS.get(name) is not DaskBackend for name in NAMES):
        register()
    # Ahead of outer tasks that wait: the outer task that waits for these has a worker already.
    return DaskBackend(nesting_level=0, priority=1) if on_cluster else NestedSequential()


def find_client(scheduler_host: str | None, loop: Any = None) -> Any:
    """The client to use: of `scheduler_host`, of `register`, or the current one. Raises ValueError if there is none."""
    if scheduler_host:
        with _lock:
            client = _clients.get(scheduler_host)
            if client is None or client.status != "running":
                client = _clients[scheduler_host] = Client(scheduler_host, loop=loop, set_as_default=False)
        return client
    registered = defaults().client
    if registered is not None and registered.status == "running":
        return registered
    try:
        return get_client()
    except ValueError as error:
        raise ValueError(NO_CLIENT) from error
