"""Large arguments: kept on workers under keys, sent once, sent again when all their holders are gone.

An entry stands for the contents of one object at one time. Within a call an array is recognised by its identity (and a
sample of its contents: a generator may fill one buffer again and again); between calls by a fingerprint of all its
bytes, so that an array that the user changed is sent anew. Other objects (estimators, lists of texts) are recognised
by the fingerprint of their pickle alone, each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import threading
import uuid
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from typing import Any

from distributed.client import Future
from distributed.protocol import to_serialize

from dask_training.errors import SchedulerLostError, WorkersLostError
from dask_training.joblib_backend.cluster import ClusterView
from dask_training.joblib_backend.frames import Frames, dump

SHIP_BYTES = 8 * 1024  # arrays and frames from this size are sent once, apart from the tasks; smaller ones inside
IDLE_BYTES = 1 << 30  # of arrays that are alive but in no running call, so much stays on the workers
IDLE_CONTENT_BYTES = 64 << 20  # the same for objects known by their contents, within one call
REPLICAS = 2
TRIES = 3  # workers may die while data is sent to them
SAMPLES = 61


class Entry:
    """One object's contents on the workers."""

    def __init__(self, key: str, nbytes: int, *, value: Any = None, frames: Frames | None = None) -> None:
        self.key = key
        self.nbytes = nbytes
        self.frames = frames  # kept where there is no object to make them from again
        self.value: Any = value  # as above, for objects that can't be referred to weakly or that are pinned
        self.weak: weakref.ref[Any] | None = None
        self.finalizer: weakref.finalize[..., Any] | None = None
        self.future: Any = None
        self.digest: bytes | None = None
        self.sample = b""
        self.verified: set[int] = set()  # numbers of the calls that know the contents to be unchanged
        self.users = 0  # batches that are not done
        self.pinned = False  # stays on the workers while nothing uses it
        self.sending: asyncio.Future[None] | None = None

    @property
    def on_workers(self) -> bool:
        return self.future is not None and self.future.status == "finished"

    def object(self) -> Any:
        return self.value if self.weak is None else self.weak()

    def current_frames(self) -> Frames:
        """The contents, for sending; raises WorkersLostError where they are not what was sent before."""
        frames = self.frames if self.frames is not None else dump(self.object(), in_band_bytes=0)
        if self.future is not None and self.digest is not None and frames.digest() != self.digest:
            raise WorkersLostError(
                f"all workers that held an argument of {self.nbytes:,} bytes are gone, and it was changed after it was "
                "sent: tasks that need what it was can't be run again. Pass a copy instead of changing an array in use"
            )
        return frames


class DataStore:
    """What a client has on the workers for joblib calls. One per client; any thread may ask, the event loop sends."""

    def __init__(self, view: ClusterView) -> None:
        self._view = view
        self._lock = threading.RLock()
        self._by_id: OrderedDict[int, Entry] = OrderedDict()  # the longest unused first
        self._gone: deque[tuple[int, Entry]] = deque()
        self._turn = itertools.count()

    def find(self, value: Any, call: int) -> Entry | None:
        """The entry of an array or frame as it is now, held for a batch; None for what is not worth one."""
        nbytes = shippable_bytes(value)
        if nbytes is None or nbytes < SHIP_BYTES:
            return None
        with self._lock:
            known = self._by_id.get(id(value))
            if known is not None and known.object() is value:
                self._by_id.move_to_end(id(value))
                known.users += 1
            else:
                known = None
        if known is not None:
            # Not under the lock, for which the event loop waits: a fingerprint takes half a second per gigabyte.
            if self._unchanged(known, value, call):
                return known
            self._forget(id(value), known)
            self.let_go([known])
        entry = Entry(_key(value), nbytes)
        entry.sample = _sample(value)
        entry.verified.add(call)
        entry.users = 1
        self._watch(value, entry)
        with self._lock:
            self._by_id[id(value)] = entry
        return entry

    def find_content(self, frames: Frames, value: Any, known: dict[bytes, Entry]) -> Entry:
        """The entry in `known` with these contents, held for a batch; made if there is none."""
        digest = frames.digest()
        with self._lock:
            entry = known.get(digest)
            if entry is None or entry.frames is None:
                entry = known[digest] = Entry(_key(value), frames.nbytes, frames=frames)
                entry.pinned = True  # while the call lasts, see `drop`
            entry.users += 1
            self._drop_idle(known, IDLE_CONTENT_BYTES)
            return entry

    def drop(self, known: dict[bytes, Entry]) -> None:
        """The call that knew these by their contents is over."""
        with self._lock:
            for entry in known.values():
                entry.pinned = False
            self._drop_idle(known, 0)

    def _drop_idle(self, known: dict[bytes, Entry], allowed: int) -> None:
        idle = [(digest, entry) for digest, entry in known.items() if entry.users == 0]
        excess = sum(entry.nbytes for _, entry in idle) - allowed
        for digest, entry in idle:
            if excess <= 0:
                return
            excess -= entry.nbytes
            del known[digest]
            _release(entry)

    def _unchanged(self, entry: Entry, value: Any, call: int) -> bool:
        if entry.sample != _sample(value):
            return False
        if call in entry.verified:
            return True
        if entry.digest is None or dump(value, in_band_bytes=0).digest() != entry.digest:
            return False
        if len(entry.verified) > 64:
            entry.verified.clear()
        entry.verified.add(call)
        return True

    def _watch(self, value: Any, entry: Entry) -> None:
        """Have the entry forgotten when the object is gone."""
        entry.weak = weakref.ref(value)
        entry.finalizer = weakref.finalize(value, _note_gone, weakref.ref(self), id(value), entry)
        entry.finalizer.atexit = False

    def note_gone(self, key: int, entry: Entry) -> None:
        """The object of an entry is gone. Called by the garbage collector: at any time, in any thread."""
        self._gone.append((key, entry))
        with contextlib.suppress(RuntimeError, SchedulerLostError):  # no loop, no data
            self._view.client.loop.asyncio_loop.call_soon_threadsafe(self._sweep)

    def _sweep(self) -> None:
        while self._gone:
            with contextlib.suppress(IndexError):  # another thread was faster
                self._forget(*self._gone.popleft())

    def _forget(self, key: int, entry: Entry) -> None:
        with self._lock:
            if self._by_id.get(key) is entry:
                del self._by_id[key]
            if entry.finalizer is not None:
                entry.finalizer.detach()
            if entry.users == 0:
                _release(entry)

    def hold(self, entry: Entry) -> None:
        """One batch more needs this."""
        with self._lock:
            entry.users += 1

    def verify_pinned(self, entry: Entry) -> None:
        """See to it that a pinned object that was changed since the last call is sent anew."""
        known = entry.digest is None or entry.users > 0
        if not known and dump(entry.value, in_band_bytes=0).digest() != entry.digest:
            entry.future.release()
            entry.future = entry.digest = None

    def let_go(self, entries: Iterable[Entry]) -> None:
        """One batch less needs these."""
        with self._lock:
            for entry in entries:
                entry.users -= 1
                if entry.users == 0 and not self._kept(entry):
                    _release(entry)
            self._trim()

    def _kept(self, entry: Entry) -> bool:
        value = entry.object()
        return entry.pinned or (value is not None and self._by_id.get(id(value)) is entry)

    def _trim(self) -> None:
        idle = sum(e.nbytes for e in self._by_id.values() if e.users == 0)
        for key, entry in list(self._by_id.items()):
            if idle <= IDLE_BYTES:
                return
            if entry.users == 0:
                idle -= entry.nbytes
                self._forget(key, entry)

    async def ensure(self, entries: Sequence[Entry], seconds: float, *, after_loss: bool = False) -> None:
        """See to it that all entries are on workers; raises WorkersLostError if no worker comes in `seconds`."""
        if after_loss:
            await self._drop_lost(entries)
        while True:
            missing = [entry for entry in entries if not entry.on_workers]
            if not missing:
                return
            mine = [entry for entry in missing if entry.sending is None]
            if mine:
                await self._send(mine, seconds)
            for entry in missing:
                if entry.sending is not None:
                    await asyncio.shield(entry.sending)

    async def _drop_lost(self, entries: Sequence[Entry]) -> None:
        """The scheduler knows better than the futures, whose news may still be under way."""
        keys = [entry.key for entry in entries if entry.on_workers]
        holders = await self._view.client.scheduler.who_has(keys=keys) if keys else {}
        for entry in entries:
            if entry.on_workers and not holders.get(entry.key):
                entry.future.release()
                entry.future = None if entry.digest is None else _Gone()

    async def _send(self, entries: Sequence[Entry], seconds: float) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for entry in entries:
            entry.sending = done
        try:
            frames = {}
            for entry in entries:
                frames[entry] = entry.current_frames()
                entry.key = _renew(entry.key)
            sums = asyncio.get_running_loop().run_in_executor(None, _digests, list(frames.values()))
            try:
                await self._put({entry.key: frames[entry] for entry in entries}, seconds)
            finally:
                digests = await sums
            client = self._view.client
            for entry, digest in zip(entries, digests, strict=True):
                entry.digest = digest
                entry.future = Future(entry.key, client)
                client.futures[entry.key].finish(type=Frames)
        finally:
            for entry in entries:
                entry.sending = None
            if not done.done():
                done.set_result(None)

    async def _put(self, data: dict[str, Frames], seconds: float) -> None:
        for turn in range(TRIES):
            if turn > 0 or not self._view.threads:
                await self._view.wait_for_workers(1, seconds)
            client = self._view.client
            try:
                if await self._view.reachable():
                    await self._put_directly(client, data)
                else:
                    wrapped = {key: to_serialize(frames) for key, frames in data.items()}
                    await client.scheduler.scatter(
                        data=wrapped,
                        workers=None,
                        client=client.id,
                        broadcast=min(REPLICAS, len(self._view.threads)),
                        timeout=seconds,
                    )
            except (OSError, KeyError, ValueError, TimeoutError):  # a worker died under it
                if turn == TRIES - 1:
                    raise
                await asyncio.sleep(0.1)
            else:
                return

    async def _put_directly(self, client: Any, data: dict[str, Frames]) -> None:
        addresses = sorted(self._view.threads)
        if not addresses:
            raise OSError("no worker to send data to")
        first = next(self._turn)
        chosen = list(dict.fromkeys(addresses[(first + i) % len(addresses)] for i in range(REPLICAS)))
        sent = await asyncio.gather(*(_update(client, address, data) for address in chosen), return_exceptions=True)
        holders = [a for a, reply in zip(chosen, sent, strict=True) if not isinstance(reply, BaseException)]
        if not holders:
            raise next(reply for reply in sent if isinstance(reply, BaseException))
        nbytes = {key: sys.getsizeof(frames) for key, frames in data.items()}
        await client.scheduler.update_data(who_has=dict.fromkeys(data, holders), nbytes=nbytes, client=client.id)


def store_of(view: ClusterView) -> DataStore:
    """The store of a view's client; always the same one."""
    with _making:
        if view.store is None:
            view.store = DataStore(view)
    found: DataStore = view.store
    return found


_making = threading.Lock()


class _Gone:
    """In the place of a future: the entry was sent once, and is lost."""

    status = "lost"

    def release(self) -> None:
        pass


async def _update(client: Any, address: str, data: dict[str, Frames]) -> Any:
    rpc = client.rpc(address)
    try:
        return await rpc.update_data(data={key: to_serialize(frames) for key, frames in data.items()})
    finally:
        with contextlib.suppress(OSError):
            await rpc.close_rpc()


def _note_gone(store: weakref.ref[DataStore], key: int, entry: Entry) -> None:
    alive = store()
    if alive is not None:
        alive.note_gone(key, entry)


def _digests(frames: Sequence[Frames]) -> list[bytes]:
    return [f.digest() for f in frames]


def _release(entry: Entry) -> None:
    future, entry.future, entry.frames, entry.value = entry.future, None, None, None
    if future is not None:
        future.release()


def _key(value: Any) -> str:
    return f"joblib-data-{type(value).__name__.lower()}-{uuid.uuid4().hex}"


def _renew(key: str) -> str:
    """A key of its own for each sending: the scheduler may still be forgetting the last."""
    return f"{key.rpartition('-')[0]}-{uuid.uuid4().hex}"


def pinned_entry(value: Any) -> Entry:
    """An entry for an object that the user asked to scatter; it lives as long as its backend."""
    entry = Entry(_key(value), 0, value=value)
    entry.pinned = True
    return entry


def shippable_bytes(value: Any) -> int | None:
    """The size of a NumPy array, pandas or SciPy-sparse object; None for anything else."""
    numpy, module = sys.modules.get("numpy"), type(value).__module__.partition(".")[0]
    if numpy is not None and isinstance(value, numpy.ndarray):
        # An array of objects is a list of references: it changes without its own bytes changing.
        return None if value.dtype.hasobject else int(value.nbytes)
    if module == "pandas" and hasattr(value, "iloc"):
        return 8 * int(value.size)
    if module == "scipy" and hasattr(value, "nnz") and hasattr(value, "data"):
        return 12 * int(value.nnz)
    return None


def _sample(value: Any) -> bytes:
    """Some of the contents, to notice within a call that an object in use was filled anew. Microseconds, no proof."""
    if hasattr(value, "iloc"):  # pandas
        return dump(value.iloc[:: max(1, len(value) // SAMPLES)]).digest()
    array = value.data if hasattr(value, "nnz") else value  # SciPy's matrices, NumPy's arrays
    if not getattr(getattr(array, "flags", None), "forc", False):
        return b""
    flat = array.reshape(-1, order="A")
    picked: bytes = flat[:: max(1, flat.size // SAMPLES)].tobytes()
    return picked + flat[-1:].tobytes()
