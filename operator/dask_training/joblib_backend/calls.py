"""One `Parallel` call: between joblib, which dispatches batches, and the driver, which sends them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from joblib._utils import eval_expr
from joblib.parallel import TASK_ERROR, BatchCompletionCallBack, BatchedCalls

from dask_training.joblib_backend.cluster import ClusterView
from dask_training.joblib_backend.data import DataStore, Entry
from dask_training.joblib_backend.dispatcher import Dispatcher
from dask_training.joblib_backend.driver import Batch, Driver, SendSettings
from dask_training.joblib_backend.frames import Frames
from dask_training.joblib_backend.lookahead import Lookahead
from dask_training.joblib_backend.payload import Packing, function_name
from dask_training.joblib_backend.progress import Progress, Work
from dask_training.joblib_backend.registration import OnCallEnd, OnProgress
from dask_training.joblib_backend.remote import Outcome

SHORT_SECONDS = 0.1  # what is left of a call, if it takes no longer than this, is cut into few equal batches
LAST_BATCHES = 4  # so many per core at least: a wrong guess costs at most a quarter of a core's share

_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class CallSettings(SendSettings):
    """What a call takes from its backend."""

    pinned: Mapping[int, Entry] = field(default_factory=dict)
    on_progress: OnProgress | None = None
    on_call_end: OnCallEnd | None = None


class Report(NamedTuple):
    """What joblib's callback is given: results in order or an error, and what the batch cost."""

    results: list[Any] | None
    error: BaseException | None
    seconds: float = 0.0
    nbytes: int = 0


class Call:
    """The state of one call. It looks into `Parallel`, whose inside a backend is: joblib gives no other way."""

    def __init__(self, parallel: Any, view: ClusterView, store: DataStore, settings: CallSettings) -> None:
        self._parallel = parallel
        self._lock = parallel._lock  # noqa: SLF001 - see the class's docstring, and below
        self._settings = settings
        self._view = view
        self._store = store
        self._packing = Packing(store, next(_numbers), settings.pinned)
        self._dispatcher = Dispatcher("dask-training-joblib")
        self._settled = threading.Event()
        self._lookahead: Lookahead | None = None
        self._progress: Progress | None = None
        self._work = Work()
        self._outstanding = 0  # batches that joblib waits for; changes under `_lock`
        self._loop = view.client.loop.asyncio_loop
        self._driver = Driver(
            view, store, self._packing, settings, self._deliver, self._window, lambda: self._dispatcher.put(self._widen)
        )
        self._loop.call_soon_threadsafe(view.listen, self._driver)

    # ---- the user's threads -------------------------------------------------------------------------------------

    def prepare(self, entries: Sequence[Entry]) -> None:
        """Send what the user asked to scatter; anew where it was changed since the last call."""
        for entry in entries:
            self._store.verify_pinned(entry)
        self._ship(entries)

    def _ship(self, entries: Sequence[Entry]) -> None:
        if any(not entry.on_workers for entry in entries):
            self._view.call(self._store.ensure(entries, self._settings.seconds_to_wait))

    def submit(self, tasks: Sequence[Any], callback: Any) -> None:
        """Send a batch as soon as there is room for it. Never raises: joblib could not pass it on everywhere."""
        batch = Batch(tasks, callback)
        self._outstanding += 1
        if self._progress is None and self._settings.on_progress is not None:
            self._progress = Progress(self._settings.on_progress, function_name(tasks))
        try:
            batch.blob, batch.entries = self._packing.pack(tasks)
            self._ship(batch.entries)  # before the user's generator goes on: it may change the array next
        except BaseException as error:
            self._store.let_go(batch.entries)
            if not isinstance(error, Exception):
                raise  # Control-C in the user's thread
            self._deliver(batch, error)
            return
        self._loop.call_soon_threadsafe(self._driver.admit, batch)

    def retrieve(self) -> None:
        """All first batches are there; wait until the call is settled, unless the user wants results as they come."""
        self._loop.call_soon_threadsafe(self._driver.let_loose)
        if self._parallel.return_generator or self._parallel.timeout is not None:
            return
        self._read_ahead()
        self._check_settled()
        self._settled.wait()

    def _read_ahead(self) -> None:
        parallel = self._parallel
        with self._lock:
            source = parallel._original_iterator  # noqa: SLF001
            if source is None or self._window(1) is None:
                return
            self._lookahead = Lookahead(source, parallel.n_dispatched_tasks + self._queued())
            parallel._original_iterator = self._lookahead  # noqa: SLF001
        self._lookahead.read_ahead(lambda: not (self._settled.is_set() or parallel._aborting))  # noqa: SLF001

    def finish(self) -> None:
        """The call is over, well or not: what still runs is cancelled, what it holds is let go."""
        self._dispatcher.stop()
        self._settled.set()
        if self._progress is not None:
            self._progress.finish()
        if self._settings.on_call_end is not None:
            self._work.tell(self._settings.on_call_end)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._driver.close)
        self._packing.close()

    # ---- the dispatcher's thread --------------------------------------------------------------------------------

    def _deliver(self, batch: Batch, result: list[Frames] | BaseException) -> None:
        self._dispatcher.put(lambda: self._hand_over(batch, result))

    def _hand_over(self, batch: Batch, result: list[Frames] | BaseException) -> None:
        report = Report(None, result) if isinstance(result, BaseException) else _read(result)
        with self._lock:
            self._outstanding -= 1
        self._work.add(len(report.results or ()), report.seconds)
        self._guard(lambda: batch.callback(report))
        if self._progress is not None:
            self._progress.update(self._parallel.n_completed_tasks, self._total())
        self._check_settled()

    def _guard(self, work: Callable[[], None]) -> None:
        """Do what may run the user's generator; joblib passes on what is an Exception, the rest would be lost here."""
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - SystemExit in a generator
            tracker = BatchCompletionCallBack(0, 1, self._parallel)
            self._parallel._register_new_job(tracker)  # noqa: SLF001
            tracker._register_outcome({"result": error, "status": TASK_ERROR})  # noqa: SLF001

    def _check_settled(self) -> None:
        parallel = self._parallel
        with self._lock:
            if parallel._original_iterator is None:  # noqa: SLF001
                parallel._iterating = False  # noqa: SLF001 - joblib sets it in two threads, not always in this order
            if parallel._aborting or not parallel._wait_retrieval():  # noqa: SLF001
                self._settled.set()

    def _queued(self) -> int:
        return sum(map(len, self._parallel._ready_batches.queue))  # noqa: SLF001

    def _total(self) -> int | None:
        parallel = self._parallel
        with self._lock:
            if parallel.n_tasks is not None:
                return int(parallel.n_tasks)
            if self._lookahead is not None:
                return self._lookahead.total
            if parallel._original_iterator is not None or parallel._iterating:  # noqa: SLF001
                return None
            return int(parallel.n_dispatched_tasks) + self._queued()

    def batch_size(self, wanted: int, seconds_each: float) -> int:
        """`wanted`, or less where so few tasks are left that not all cores would get some.

        What is left is cut into equal batches here if it is short: joblib's own cut makes many small ones at the end.
        """
        with self._lock:
            left = 0 if self._lookahead is None else self._lookahead.left
            if left == 0:
                return wanted
            cores = max(1, self._driver.cores)
            size = -(-left // (LAST_BATCHES * cores))
            if left * seconds_each <= SHORT_SECONDS * cores:
                self._cut_rest(left, size)
            return min(wanted, size)

    def _cut_rest(self, left: int, size: int) -> None:
        parallel = self._parallel
        if parallel.batch_size == "auto" and not self._queued():
            tasks = list(itertools.islice(self._lookahead, left))  # type: ignore[arg-type]
            for start in range(0, left, size):
                parallel._ready_batches.put(BatchedCalls(tasks[start : start + size], (None, None)))  # noqa: SLF001

    def _window(self, cores: int) -> int | None:
        """Batches that may be dispatched and not done, of joblib's pre_dispatch; None where that is a plain number."""
        asked = self._parallel.pre_dispatch
        if not isinstance(asked, str) or "n_jobs" not in asked:
            return None
        return max(1, int(eval_expr(asked.replace("n_jobs", str(max(2, cores))))))

    def _widen(self) -> None:
        """Workers joined: dispatch more than one batch for each that is done, until they have enough."""
        parallel, cores = self._parallel, self._driver.cores
        with self._lock:
            parallel._cached_effective_n_jobs = max(2, cores)  # noqa: SLF001
            window = self._window(cores)
            while (
                window is not None
                and parallel._original_iterator is not None  # noqa: SLF001
                and not (parallel._aborting or self._driver.closed)  # noqa: SLF001
                and self._outstanding < window
            ):
                self._guard(parallel.dispatch_next)
        self._check_settled()


def _read(frames: Sequence[Frames]) -> Report:
    results: list[Any] = []
    seconds, nbytes = 0.0, 0
    for part in frames:
        try:
            outcome: Outcome = part.load_writable()
        except Exception as error:  # noqa: BLE001 - unpickling a user's result runs the user's code
            return Report(None, error)
        if outcome.error is not None:
            return Report(None, outcome.error)
        results += outcome.results or []
        seconds += outcome.seconds
        nbytes += part.nbytes
    return Report(results, None, seconds, nbytes)
