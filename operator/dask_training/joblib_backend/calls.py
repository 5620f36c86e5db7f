"""One `Parallel` call: which batches are on the cluster, and what becomes of them."""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from distributed.scheduler import KilledWorker
from joblib._utils import eval_expr

from dask_training.errors import ClusterError, SchedulerLostError
from dask_training.joblib_backend import losses
from dask_training.joblib_backend.cluster import ClusterView, WorkerDied, no_quorum
from dask_training.joblib_backend.data import DataStore, Entry
from dask_training.joblib_backend.dispatcher import Dispatcher
from dask_training.joblib_backend.frames import Frames
from dask_training.joblib_backend.lookahead import Lookahead
from dask_training.joblib_backend.payload import Packing, describe, function_name
from dask_training.joblib_backend.progress import Progress
from dask_training.joblib_backend.registration import OnProgress
from dask_training.joblib_backend.remote import Orders, Outcome, run_batch

HOLD_SECONDS = 0.005  # so long the first batches wait to see whether there are enough of them to keep all cores busy
DEFAULT_AHEAD = 4  # batches sent per core where joblib's pre_dispatch gives no number of its own
UNEXPLAINED_LOSSES = 5  # a batch that is cancelled so often while no worker left will not succeed by being sent again

_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class CallSettings:
    """What a call takes from its backend."""

    n_jobs: int = -1
    only_workers: Sequence[str] | None = None
    submit_kwargs: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 60.0
    shared_from: float = math.inf
    pinned: Mapping[int, Entry] = field(default_factory=dict)
    on_progress: OnProgress | None = None


class Report(NamedTuple):
    """What joblib's callback is given: results in order or an error, and what the batch cost."""

    results: list[Any] | None
    error: BaseException | None
    seconds: float = 0.0
    nbytes: int = 0


@dataclass(eq=False)
class Batch:
    """Tasks that run one after the other on one worker."""

    tasks: Sequence[Any]
    callback: Any = None
    blob: bytes = b""
    entries: tuple[Entry, ...] = ()
    strikes: int = 0  # times that a worker died while it ran, or may have run, this
    confirm_start: bool = False
    key: str = ""
    future: Any = None
    verdict: BaseException | None = None  # set while it runs: what to do instead of waiting on


class Call:
    """The state of one call. `submit` and `finish` are for the user's threads; underscored methods run in the loop."""

    def __init__(self, parallel: Any, view: ClusterView, store: DataStore, settings: CallSettings) -> None:
        self.parallel = parallel
        self.settings = settings
        self._view = view
        self._store = store
        self._number = next(_numbers)
        self._packing = Packing(store, self._number, settings.pinned)
        self._dispatcher = Dispatcher("dask-training-joblib")
        self._settled = threading.Event()
        self._lookahead: Lookahead | None = None
        self._progress: Progress | None = None
        self._loop = view.client.loop.asyncio_loop
        self._waiting: deque[Batch] = deque()
        self._sent: set[Batch] = set()
        self._running: dict[str, Batch] = {}  # by key; the parts of a split batch are here and not in `_sent`
        self._drivers: set[asyncio.Task[None]] = set()
        self._outstanding = 0  # batches that joblib waits for; changes under the lock of `parallel`
        self._held = True
        self._hold: asyncio.TimerHandle | None = None
        self._closed = False
        self._loop.call_soon_threadsafe(view.listen, self)

    # ---- the user's threads -------------------------------------------------------------------------------------

    def prepare(self, entries: Sequence[Entry]) -> None:
        """Send what the user asked to scatter; anew where it was changed since the last call."""
        for entry in entries:
            self._store.verify_pinned(entry, self._number)
        if any(not entry.on_workers for entry in entries):
            self._view.call(self._store.ensure(entries, self.settings.timeout))

    def submit(self, tasks: Sequence[Any], callback: Any) -> None:
        """Send a batch as soon as there is room for it. Never raises: joblib could not pass it on everywhere."""
        batch = Batch(tasks, callback)
        self._outstanding += 1
        if self._progress is None and self.settings.on_progress is not None:
            self._progress = Progress(self.settings.on_progress, function_name(tasks))
        try:
            payload = self._packing.pack(tasks)
            batch.blob, batch.entries = payload
            # Sent before the user's generator goes on: it may change the array next.
            if any(not entry.on_workers for entry in batch.entries):
                self._view.call(self._store.ensure(batch.entries, self.settings.timeout))
        except Exception as error:  # noqa: BLE001 - told as the batch's outcome
            self._store.let_go(batch.entries)
            self._deliver(batch, Report(None, error))
            return
        self._loop.call_soon_threadsafe(self._admit, batch)

    def retrieve(self) -> None:
        """All first batches are there; wait until the call is settled, unless the user wants results as they come."""
        self._loop.call_soon_threadsafe(self._let_loose)
        if self.parallel.return_generator or self.parallel.timeout is not None:
            return
        if self._progress is not None:
            self._read_ahead()
        self._check_settled()
        self._settled.wait()

    def _read_ahead(self) -> None:
        parallel = self.parallel
        with parallel._lock:  # noqa: SLF001 - a backend is the inside of joblib
            source = parallel._original_iterator  # noqa: SLF001
            if source is None or parallel.n_tasks is not None or self._window(1) is None:
                return
            queued = sum(map(len, parallel._ready_batches.queue))  # noqa: SLF001
            self._lookahead = Lookahead(source, parallel.n_dispatched_tasks + queued)
            parallel._original_iterator = self._lookahead  # noqa: SLF001
        self._lookahead.read_ahead(lambda: not (self._settled.is_set() or parallel._aborting))  # noqa: SLF001

    def finish(self) -> None:
        """The call is over, well or not: what still runs is cancelled, what it holds is let go."""
        self._dispatcher.stop()
        self._settled.set()
        if self._progress is not None:
            self._progress.finish()
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._close)

    # ---- the dispatcher's thread --------------------------------------------------------------------------------

    def _deliver(self, batch: Batch, report: Report | list[Frames]) -> None:
        self._dispatcher.put(lambda: self._hand_over(batch, report))

    def _hand_over(self, batch: Batch, report: Report | list[Frames]) -> None:
        if not isinstance(report, Report):
            report = _read(report)
        with self.parallel._lock:  # noqa: SLF001
            self._outstanding -= 1
        batch.callback(report)
        if self._progress is not None:
            self._progress.update(self.parallel.n_completed_tasks, self._total())
        self._check_settled()

    def _check_settled(self) -> None:
        parallel = self.parallel
        with parallel._lock:  # noqa: SLF001
            if parallel._original_iterator is None:  # noqa: SLF001
                parallel._iterating = False  # noqa: SLF001 - joblib sets it in two threads, not always in this order
            if parallel._aborting or not parallel._wait_retrieval():  # noqa: SLF001
                self._settled.set()

    def _total(self) -> int | None:
        parallel = self.parallel
        if parallel.n_tasks is not None:
            return int(parallel.n_tasks)
        if self._lookahead is not None and self._lookahead.total is not None:
            return self._lookahead.total
        with parallel._lock:  # noqa: SLF001
            if parallel._original_iterator is not None or parallel._iterating:  # noqa: SLF001
                return None
            return int(parallel.n_dispatched_tasks + sum(map(len, parallel._ready_batches.queue)))  # noqa: SLF001

    def _widen(self) -> None:
        """Workers joined: dispatch more than one batch for each that is done, until they have enough."""
        parallel, cores = self.parallel, self._cores()
        with parallel._lock:  # noqa: SLF001
            parallel._cached_effective_n_jobs = max(2, cores)  # noqa: SLF001
            window = self._window(cores)
            while (
                window is not None
                and parallel._original_iterator is not None  # noqa: SLF001
                and not (parallel._aborting or self._closed)  # noqa: SLF001
                and self._outstanding < window
            ):
                parallel.dispatch_next()
        self._check_settled()

    # ---- the client's event loop --------------------------------------------------------------------------------

    def _cores(self) -> int:
        return self._view.cores(self.settings.only_workers)

    def _window(self, cores: int) -> int | None:
        """Batches that may be dispatched and not done, of joblib's pre_dispatch; None where that is a plain number."""
        asked = self.parallel.pre_dispatch
        if not isinstance(asked, str) or "n_jobs" not in asked:
            return None
        return max(1, int(eval_expr(asked.replace("n_jobs", str(max(2, cores))))))

    def _most_sent(self, cores: int) -> int:
        bound = job_limit(self.settings.n_jobs, cores)
        if bound is not None and bound < cores:
            return bound  # else the workers' threads are the bound, and a queue on each worker keeps them busy
        return max(self._window(cores) or DEFAULT_AHEAD * cores, DEFAULT_AHEAD)

    def _admit(self, batch: Batch) -> None:
        if self._closed:
            self._store.let_go(batch.entries)
            return
        self._waiting.append(batch)
        if self._held and self._hold is None:
            self._hold = self._loop.call_later(HOLD_SECONDS, self._let_loose)
        self._pump()

    def _let_loose(self) -> None:
        self._held = False
        self._pump()

    def _pump(self) -> None:
        cores = self._cores()
        if self._closed or (self._held and len(self._waiting) < cores):
            return
        self._held = False
        most = self._most_sent(cores)
        # With a task for each core, what a task runs in parallel itself is best run where it is.
        idle = min(len(self._sent) + len(self._waiting), most) < cores
        while self._waiting and len(self._sent) < most:
            batch = self._waiting.popleft()
            self._sent.add(batch)
            driver = asyncio.ensure_future(self._drive(batch, nested_on_cluster=idle))
            self._drivers.add(driver)
            driver.add_done_callback(self._drivers.discard)

    async def _drive(self, batch: Batch, *, nested_on_cluster: bool) -> None:
        report: Report | list[Frames]
        try:
            report = await self._run(batch, nested_on_cluster=nested_on_cluster)
        except Exception as error:  # noqa: BLE001 - whatever it is, joblib raises it where the user called
            report = Report(None, error)
        finally:
            self._sent.discard(batch)
            self._store.let_go(batch.entries)
        self._deliver(batch, report)
        self._pump()

    async def _run(self, batch: Batch, *, nested_on_cluster: bool) -> list[Frames]:
        """The results of a batch, run as often as it takes."""
        unexplained = 0
        while True:
            departures = self._view.departures
            self._send(batch, nested_on_cluster=nested_on_cluster)
            try:
                result = await self._result(batch)
            finally:
                self._forget(batch)
            if result is not None:
                return [result]
            if batch.verdict is not None:
                raise batch.verdict
            if batch.strikes and len(batch.tasks) > 1:
                return await self._run_apart(batch)
            unexplained = 0 if self._view.departures != departures or batch.strikes else unexplained + 1
            if unexplained > UNEXPLAINED_LOSSES:
                raise ClusterError(
                    f"Dask cancelled {losses.name_batch(batch.tasks)} {unexplained} times though no worker left: "
                    "see the scheduler's log for the reason"
                )
            await self._recover(batch)

    async def _run_apart(self, batch: Batch) -> list[Frames]:
        """Each task alone, so that one that kills its worker is not taken for its neighbours."""
        results: list[Frames] = []
        for task in batch.tasks:
            payload = await asyncio.to_thread(self._packing.pack, [task])
            single = Batch([task], None, *payload, strikes=batch.strikes, confirm_start=True)
            try:
                await self._recover(single)
                results += await self._run(single, nested_on_cluster=False)
            finally:
                self._store.let_go(single.entries)
        return results

    async def _recover(self, batch: Batch) -> None:
        timeout = max(self.settings.timeout, 1.0)
        await self._view.wait_for_workers(1, timeout, self.settings.only_workers)
        await self._store.ensure(batch.entries, timeout, after_loss=True)

    def _send(self, batch: Batch, *, nested_on_cluster: bool) -> None:
        batch.key = f"{describe(batch.tasks)}-{uuid.uuid4().hex}"
        orders = Orders(
            batch.key,
            self._view.topic,
            self.settings.shared_from,
            nested_on_cluster,
            batch.confirm_start,
        )
        self._running[batch.key] = batch
        data = [entry.future for entry in batch.entries]
        batch.future = self._view.client.submit(
            run_batch,
            batch.blob,
            tuple(orders),
            *data,
            **{"pure": False, **self.settings.submit_kwargs, "key": batch.key},
        )

    def _forget(self, batch: Batch) -> None:
        self._running.pop(batch.key, None)
        self._view.started.pop(batch.key, None)
        batch.future.release()

    async def _result(self, batch: Batch) -> Frames | None:
        """What the batch gave; None if it is lost or to be given up. Raises what Dask says of it."""
        client, state = self._view.client, batch.future._state  # noqa: SLF001 - no public way to wait without a thread
        while True:
            await state.wait()
            if state.status == "finished":
                # Shielded: other calls may wait for the same message.
                found = await asyncio.shield(
                    client._gather([batch.future], errors="skip", direct=await self._view.reachable())  # noqa: SLF001
                )
                if found:
                    return found[0]
            elif state.status == "error":
                if not isinstance(state.exception, KilledWorker):
                    raise state.exception
                losses.blame(batch, batch.strikes or 1, str(state.exception.last_worker))
                return None
            elif state.status == "cancelled":
                if getattr(state.exception, "reason", None) == "scheduler-connection-lost":
                    raise SchedulerLostError(
                        "the connection to the Dask scheduler was lost, and with it what it knew of the running "
                        "tasks: see the scheduler's log, then run the job again"
                    )
                return None

    # ---- news of workers, in the event loop ---------------------------------------------------------------------

    def workers_changed(self) -> None:
        if self._closed:
            return
        if self._cores() == 0:
            self._loop.call_later(max(self.settings.timeout, 1.0), self._check_not_empty, self._view.empty_since)
            return
        self._dispatcher.put(self._widen)
        self._pump()

    def _check_not_empty(self, since: float | None) -> None:
        if self._closed or since is None or self._view.empty_since != since:
            return
        waited = time.monotonic() - since
        for batch in list(self._running.values()):
            self._give_up(batch, no_quorum(0, 1, round(waited, 1)))

    def worker_died(self, death: WorkerDied) -> None:
        on_it = [batch for key, batch in self._running.items() if key in death.keys]
        known = [batch for batch in on_it if self._view.started.get(batch.key) == death.address]
        # With all threads known to have run something else, who only waited there is innocent; so is who would have
        # said so before it began. Of the others nobody knows: a kill can be faster than the news of a beginning.
        full = len(known) >= death.nthreads
        suspects = [batch for batch in on_it if batch in known or not (full or batch.confirm_start)]
        for batch in suspects:
            losses.blame(batch, batch.strikes + 1, death.address)
            if batch.verdict is not None or batch not in known or len(batch.tasks) > 1:
                self._give_up(batch, batch.verdict)

    def _give_up(self, batch: Batch, verdict: BaseException | None) -> None:
        """Stop waiting for the batch's present attempt; `_run` goes on from there."""
        batch.verdict = verdict
        batch.confirm_start = True
        batch.future._state.cancel(reason="given up by joblib's backend")  # noqa: SLF001

    def _close(self) -> None:
        self._closed = True
        if self._hold is not None:
            self._hold.cancel()
        self._view.forget(self)
        while self._waiting:
            self._store.let_go(self._waiting.popleft().entries)
        self._packing.close()
        for driver in list(self._drivers):
            driver.cancel()  # releases its future and with it the remote task


def job_limit(n_jobs: int, cores: int) -> int | None:
    """How many tasks may run at once; None for as many as the cluster has cores."""
    if n_jobs > 0:
        return n_jobs
    return None if n_jobs == -1 else max(1, cores + 1 + n_jobs)


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
