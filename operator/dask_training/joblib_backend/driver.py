"""The part of a call that lives in the client's event loop: sends batches, waits for them, sends them again."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from distributed.scheduler import KilledWorker

from dask_training.errors import ClusterError, SchedulerLostError
from dask_training.joblib_backend import losses
from dask_training.joblib_backend.cluster import ClusterView, WorkerDied, no_quorum
from dask_training.joblib_backend.data import DataStore, Entry
from dask_training.joblib_backend.frames import Frames
from dask_training.joblib_backend.payload import Packing, describe
from dask_training.joblib_backend.remote import Orders, run_batch

HOLD_SECONDS = 0.005  # so long the first batches wait to see whether there are enough of them to keep all cores busy
DEFAULT_AHEAD = 4  # batches sent per core where joblib's pre_dispatch gives no number of its own
LEAST_PATIENCE = 1.0  # seconds to wait for a worker after a loss, even where a call does not wait for its first
UNEXPLAINED_LOSSES = 5  # a batch that is cancelled so often while no worker left will not succeed by being sent again


@dataclass(eq=False)
class Batch:
    """Tasks that run one after the other on one worker."""

    tasks: Sequence[Any]
    callback: Any = None
    blob: bytes = b""
    entries: tuple[Entry, ...] = ()
    strikes: int = 0  # times that a worker died while it ran, or may have run, this
    key: str = ""
    future: Any = None
    verdict: BaseException | None = None  # set while it runs: why not to wait on


@dataclass(frozen=True, kw_only=True)
class SendSettings:
    """How batches are sent; for `most_cores` at least, where the cluster grows when it has work for more."""

    n_jobs: int = -1
    only_workers: Sequence[str] | None = None
    most_cores: int = 0
    submit_kwargs: Mapping[str, Any] = field(default_factory=dict)
    seconds_to_wait: float = 60.0
    shared_from: float = float("inf")
    is_guest: bool = False


class Driver:
    """Sends the batches of one call. All methods run in the client's event loop.

    deliver: called once per batch with its results or with the error.
    window: gives the number of batches that may be dispatched and not done for a number of cores, or None.
    joined: called when workers joined or left.
    """

    def __init__(
        self,
        view: ClusterView,
        store: DataStore,
        packing: Packing,
        settings: SendSettings,
        deliver: Callable[[Batch, list[Frames] | BaseException], None],
        window: Callable[[int], int | None],
        changed: Callable[[], None],
    ) -> None:
        self._view = view
        self._store = store
        self._packing = packing
        self._settings = settings
        self._deliver = deliver
        self._window = window
        self._changed = changed
        self._waiting: deque[Batch] = deque()
        self._sent: set[Batch] = set()
        self._running: dict[str, Batch] = {}  # by key; the parts of a split batch are here and not in `_sent`
        self._drives: set[asyncio.Task[None]] = set()
        self._held = True
        self._hold: asyncio.TimerHandle | None = None
        self.closed = False

    # ---- batches in ---------------------------------------------------------------------------------------------

    def admit(self, batch: Batch) -> None:
        """Send a batch as soon as there is room for it."""
        if self.closed:
            self._store.let_go(batch.entries)
            return
        self._waiting.append(batch)
        if self._held and self._hold is None:
            self._hold = asyncio.get_running_loop().call_later(HOLD_SECONDS, self.let_loose)
        self._pump()

    def let_loose(self) -> None:
        """The first batches are all there."""
        self._held = False
        self._pump()

    def _most_sent(self, cores: int) -> int:
        bound = job_limit(self._settings.n_jobs, cores)
        if bound is not None and bound < cores:
            return bound  # else the workers' threads are the bound, and a queue on each worker keeps them busy
        return max(self._window(cores) or DEFAULT_AHEAD * cores, DEFAULT_AHEAD)

    @property
    def cores(self) -> int:
        """Threads to keep busy: those that there are, or that there may be once there is work for them."""
        return max(self._view.cores(self._settings.only_workers), self._settings.most_cores)

    def _pump(self) -> None:
        cores = self.cores
        if self.closed or (self._held and len(self._waiting) < cores):
            return
        self._held = False
        most = self._most_sent(cores)
        # With a task for each core, what a task runs in parallel itself is best run where it is.
        # Not so on a cluster of somebody else's, whose workers would keep a client for it.
        idle = min(len(self._sent) + len(self._waiting), most) < cores and not self._settings.is_guest
        while self._waiting and len(self._sent) < most:
            batch = self._waiting.popleft()
            self._sent.add(batch)
            drive = asyncio.ensure_future(self._drive(batch, nested_on_cluster=idle))
            self._drives.add(drive)
            drive.add_done_callback(self._drives.discard)

    async def _drive(self, batch: Batch, *, nested_on_cluster: bool) -> None:
        result: list[Frames] | BaseException
        try:
            result = await self._run(batch, nested_on_cluster=nested_on_cluster)
        except Exception as error:  # noqa: BLE001 - whatever it is, joblib raises it where the user called
            result = error
        finally:
            self._sent.discard(batch)
            self._store.let_go(batch.entries)
        self._deliver(batch, result)
        self._pump()

    def close(self) -> None:
        """The call is over: cancel what runs, let go of what it holds."""
        self.closed = True
        if self._hold is not None:
            self._hold.cancel()
        self._view.forget(self)
        while self._waiting:
            self._store.let_go(self._waiting.popleft().entries)
        for drive in list(self._drives):
            drive.cancel()  # releases its future, and with it the remote task

    # ---- one batch ----------------------------------------------------------------------------------------------

    async def _run(self, batch: Batch, *, nested_on_cluster: bool) -> list[Frames]:
        """The results of a batch, run as often as it takes."""
        unexplained = 0
        while True:
            departures = self._view.departures
            self._send(batch, nested_on_cluster=nested_on_cluster)
            try:
                result = await self._result(batch)
            finally:
                self._running.pop(batch.key, None)
                self._view.started.pop(batch.key, None)
                batch.future.release()
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
            single = Batch([task], None, *payload, strikes=batch.strikes)
            try:
                await self._recover(single)
                results += await self._run(single, nested_on_cluster=False)
            finally:
                self._store.let_go(single.entries)
        return results

    async def _recover(self, batch: Batch) -> None:
        seconds = max(self._settings.seconds_to_wait, LEAST_PATIENCE)
        await self._view.wait_for_workers(1, seconds, self._settings.only_workers)
        await self._store.ensure(batch.entries, seconds, after_loss=True)

    def _send(self, batch: Batch, *, nested_on_cluster: bool) -> None:
        batch.key = f"{describe(batch.tasks)}-{uuid.uuid4().hex}"
        settings = self._settings
        orders = Orders(batch.key, self._view.topic, settings.shared_from, nested_on_cluster, settings.is_guest)
        self._running[batch.key] = batch
        options = {"pure": False, **self._settings.submit_kwargs, "key": batch.key}
        data = [entry.future for entry in batch.entries]
        batch.future = self._view.client.submit(run_batch, batch.blob, tuple(orders), *data, **options)

    async def _result(self, batch: Batch) -> Frames | None:
        """What the batch gave; None if it is lost or to be given up. Raises what Dask says of it."""
        state = batch.future._state  # noqa: SLF001 - no public way to wait without a thread
        while True:
            await state.wait()
            if state.status == "finished":
                # Shielded: a connection cut in the middle of a message is no use to anybody.
                fetching = asyncio.ensure_future(self._view.fetch(batch.future))
                fetching.add_done_callback(_ignore)  # what it raises is raised here, or of no interest any more
                found = await asyncio.shield(fetching)
                if found is not None:
                    return found
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

    # ---- news of workers ----------------------------------------------------------------------------------------

    def workers_changed(self) -> None:
        """Workers joined or left."""
        if self.closed:
            return
        if self._view.cores(self._settings.only_workers) == 0:
            patience = max(self._settings.seconds_to_wait, LEAST_PATIENCE)
            asyncio.get_running_loop().call_later(patience, self._check_not_empty, self._view.empty_since)
            return
        self._changed()
        self._pump()

    def _check_not_empty(self, since: float | None) -> None:
        if self.closed or since is None or self._view.empty_since != since:
            return
        error = no_quorum(0, 1, round(time.monotonic() - since, 1))
        for batch in list(self._running.values()):
            self._give_up(batch, error)

    def worker_died(self, death: WorkerDied) -> None:
        """A worker ended without saying so: find out who did it."""
        for key, batch in list(self._running.items()):
            # Only who had begun there: what waited on the worker for its turn is innocent, and Dask moves it itself.
            if key in death.keys and self._view.started.get(key) == death.address:
                losses.blame(batch, batch.strikes + 1, death.address)
                if batch.verdict is not None or len(batch.tasks) > 1:
                    self._give_up(batch, batch.verdict)

    def _give_up(self, batch: Batch, verdict: BaseException | None) -> None:
        """Stop waiting for the batch's present attempt; `_run` goes on from there."""
        batch.verdict = verdict
        batch.future._state.cancel(reason="given up by joblib's backend")  # noqa: SLF001 - `_result` waits for it


def _ignore(done: asyncio.Future[Any]) -> None:
    if not done.cancelled():
        done.exception()


def job_limit(n_jobs: int, cores: int) -> int | None:
    """How many tasks may run at once; None for as many as the cluster has cores."""
    if n_jobs > 0:
        return n_jobs
    return None if n_jobs == -1 else max(1, cores + 1 + n_jobs)
