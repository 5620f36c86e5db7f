"""From joblib's tasks to what is sent: a small pickle, and the entries of its large objects."""

from __future__ import annotations

import threading
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import cloudpickle  # type: ignore[import-untyped]

from dask_training.joblib_backend.data import DataStore, Entry
from dask_training.joblib_backend.frames import PROTOCOL, Frames, dump, pack

INLINE_BYTES = 256 * 1024  # a larger batch is searched for arguments that are worth sending apart
CONTENT_BYTES = 64 * 1024  # such an argument's least size
SINGLE_MESSAGE_BYTES = 4 << 20  # a still larger pickle goes to a worker directly, not through the scheduler

_SMALL = (int, float, bool, complex, type(None), types.BuiltinFunctionType, type)


class Payload(NamedTuple):
    """What one batch sends; an empty `blob` is the last entry's contents."""

    blob: bytes
    entries: tuple[Entry, ...]


class Packing:
    """Packs the batches of one call. From any thread."""

    def __init__(self, store: DataStore, call: int, pinned: Mapping[int, Entry]) -> None:
        self._store = store
        self._call = call
        self._pinned = pinned
        self._contents: dict[bytes, Entry] = {}
        self._functions: dict[int, tuple[Any, bytes | None]] = {}
        self._lock = threading.Lock()

    def pack(self, tasks: Sequence[Any]) -> Payload:
        """The batch's payload, its entries held for it (see `DataStore.let_go`). Raises what pickling raises."""
        found = _Found()
        try:
            with self._lock:
                blob = self._pack(tasks, found)
        except BaseException:
            self._store.let_go(found.entries)
            raise
        return Payload(blob, tuple(found.entries))

    def close(self) -> None:
        """The call is over: nothing will be packed."""
        with self._lock:
            self._store.drop(self._contents)

    def _pack(self, tasks: Sequence[Any], found: _Found) -> bytes:
        for value in _values(tasks):
            if not (id(value) in found.index or id(value) in self._pinned or isinstance(value, _SMALL)):
                entry = self._store.find(value, self._call)
                if entry is not None:
                    found.add(value, entry)
        blob = pack(tasks, lambda value: self._find(value, found))
        if len(blob) > INLINE_BYTES and self._move_large_values_out(tasks, found):
            blob = pack(tasks, lambda value: self._find(value, found))
        if len(blob) > SINGLE_MESSAGE_BYTES:
            found.add(tasks, self._store.find_content(Frames(blob), tasks, self._contents))
            blob = b""
        return blob

    def _find(self, value: Any, found: _Found) -> int | bytes | None:
        index = found.index.get(id(value))
        if index is not None:
            return index
        if self._pinned:
            entry = self._pinned.get(id(value))
            if entry is not None:
                self._store.hold(entry)
                return found.add(value, entry)
        return self._function(value) if type(value) is types.FunctionType else None

    def _function(self, function: Any) -> bytes | None:
        """The pickle of a function that workers can't import, made once per call."""
        known = self._functions.get(id(function))
        if known is None:
            known = self._functions[id(function)] = (function, _pickle_by_value(function))
        return known[1]

    def _move_large_values_out(self, tasks: Sequence[Any], found: _Found) -> bool:
        moved = False
        for value in _values(tasks):
            if id(value) in found.index or isinstance(value, _SMALL):
                continue
            frames = dump(value)
            if frames.nbytes >= CONTENT_BYTES:
                found.add(value, self._store.find_content(frames, value, self._contents))
                moved = True
        return moved


class _Found:
    """The entries of one batch and whose they are; keeps those objects, so that no id is used twice."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.index: dict[int, int] = {}
        self._kept: list[Any] = []

    def add(self, value: Any, entry: Entry) -> int:
        # Two objects of the same contents stay two, each with a place: a task may change one of them.
        place = self.index[id(value)] = len(self.entries)
        self.entries.append(entry)
        self._kept.append(value)
        return place


def _values(tasks: Sequence[Any]) -> Iterator[Any]:
    for function, args, kwargs in tasks:
        yield function
        yield from args
        yield from kwargs.values()


def _pickle_by_value(function: Any) -> bytes | None:
    by_value = function.__module__ in ("__main__", "__mp_main__", None) or "<" in function.__qualname__
    if not by_value:
        return None
    pickled = cloudpickle.dumps(function, protocol=PROTOCOL)
    return pickled if len(pickled) < CONTENT_BYTES else None


def function_name(tasks: Sequence[Any]) -> str:
    """What the first task calls, for people."""
    function = tasks[0][0]
    while hasattr(function, "func") and not hasattr(function, "__name__"):  # functools.partial
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def describe(tasks: Sequence[Any]) -> str:
    """A batch's key prefix, as joblib's own backend names it; the dashboard groups by it."""
    mixed = "mixed_" if any(task[0] != tasks[0][0] for task in tasks[1:]) else ""
    return f"{mixed}batch_of_{function_name(tasks)}_{len(tasks)}_calls"


def brief(task: Any) -> str:
    """One task as a person would write it, shortly: `fit(RandomForestClassifier(...), ndarray(1000, 3), ...)`."""
    function, args, kwargs = task
    shown = [_brief_value(v) for v in args[:4]] + [f"{k}={_brief_value(v)}" for k, v in list(kwargs.items())[:4]]
    more = ["..."] if len(args) > 4 or len(kwargs) > 4 else []
    return f"{function_name([(function, args, kwargs)])}({', '.join(shown + more)})"


def _brief_value(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"{type(value).__name__}{tuple(shape)}"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # noqa: BLE001 - a user's __repr__ must not hide the error that is being told
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 60 else f"{text[:57]}..."
