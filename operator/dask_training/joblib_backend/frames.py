"""Objects as frames: a pickle and its large buffers apart, so that arrays travel without a copy.

Imported by scheduler, workers and the client alike: standard library and cloudpickle only.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import pickle
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import cloudpickle  # type: ignore[import-untyped]

Buffer: TypeAlias = "bytes | bytearray | memoryview | pickle.PickleBuffer"

PROTOCOL = 5
IN_BAND_BYTES = 64 * 1024  # smaller buffers are copied into the pickle: a view would keep a whole message alive


class Frames:
    """A pickled object: `header` is the pickle, `buffers` are what it refers to by order."""

    __slots__ = ("__weakref__", "buffers", "header")

    def __init__(self, header: Buffer, buffers: Sequence[Buffer] = ()) -> None:
        self.header = header
        self.buffers = list(buffers)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        if protocol < PROTOCOL:  # distributed's choice until two peers have told each other what they speak
            return Frames, (bytes(self.header), [bytes(b) for b in self.buffers])
        # The header goes out of band too: distributed pickles twice what has "__main__" in its pickle.
        return Frames, (pickle.PickleBuffer(self.header), [pickle.PickleBuffer(b) for b in self.buffers])

    def __sizeof__(self) -> int:
        return self.nbytes + 200

    @property
    def nbytes(self) -> int:
        return memoryview(self.header).nbytes + sum(memoryview(b).nbytes for b in self.buffers)

    def digest(self) -> bytes:
        """A fingerprint of the contents; equal objects may differ in it, different ones never agree."""
        found = hashlib.sha256(self.header)
        for buffer in self.buffers:
            found.update(memoryview(buffer).nbytes.to_bytes(8, "little"))
            found.update(buffer)
        return found.digest()

    def load(self, shared_from: float = 0) -> Any:
        """The object; buffers of `shared_from` bytes and more are shared and read-only, smaller ones copied.

        That is what joblib's process backends do with `max_nbytes`: a task that writes into a large argument gets an
        error, never another task's data.
        """
        return pickle.loads(self.header, buffers=[_view(b, shared_from) for b in self.buffers])  # noqa: S301 - ours

    def load_writable(self) -> Any:
        """The object, its buffers used as they are (copied only where they are read-only)."""
        return pickle.loads(self.header, buffers=[_writable(b) for b in self.buffers])  # noqa: S301 - ours


def _view(buffer: Buffer, shared_from: float) -> Buffer:
    view = memoryview(buffer)
    return view.toreadonly() if view.nbytes >= shared_from else bytearray(view)


def _writable(buffer: Buffer) -> Buffer:
    view = memoryview(buffer)
    return bytearray(view) if view.readonly else view


def dump(value: object, in_band_bytes: int = IN_BAND_BYTES) -> Frames:
    """`value` as frames; its large buffers are referred to, not copied. Raises what pickling raises."""
    buffers: list[Buffer] = []

    def out_of_band(buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes < in_band_bytes:
            return True
        buffers.append(buffer.raw())
        return False

    return Frames(cloudpickle.dumps(value, protocol=PROTOCOL, buffer_callback=out_of_band), buffers)


class _Packer(cloudpickle.Pickler):
    """Pickles what `find` does not know; for the rest it leaves what `find` gave: an index, or a function's pickle."""

    def __init__(self, file: io.BytesIO, find: Callable[[Any], int | bytes | None]) -> None:
        super().__init__(file, protocol=PROTOCOL)
        self._find = find

    def persistent_id(self, obj: Any) -> int | bytes | None:
        return self._find(obj)

    def reducer_override(self, obj: Any) -> Any:
        # scikit-learn sends the caller's filters of warnings along: a notebook's name classes of IPython's.
        if isinstance(obj, type) and issubclass(obj, Warning) and obj.__module__ not in ("builtins", "__main__"):
            return warning_class, (obj.__module__, obj.__qualname__)
        return super().reducer_override(obj)


class UnknownWarning(Warning):
    """In the place of a category of warnings that only the caller has: nothing here warns of it."""


def warning_class(module: str, name: str) -> type[Warning]:
    """The category of warnings of that name; UnknownWarning where it can't be imported."""
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return UnknownWarning
    return found if isinstance(found, type) and issubclass(found, Warning) else UnknownWarning


class _Unpacker(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, data: Sequence[Any]) -> None:
        super().__init__(file)
        self._data = data
        self._functions: dict[bytes, Any] = {}

    def persistent_load(self, pid: Any) -> Any:
        if isinstance(pid, int):
            return self._data[pid]
        if pid not in self._functions:
            self._functions[pid] = pickle.loads(pid)  # noqa: S301 - ours
        return self._functions[pid]


def pack(tasks: Sequence[Any], find: Callable[[Any], int | bytes | None]) -> bytes:
    """The tasks as bytes, without the objects for which `find` gives an index."""
    file = io.BytesIO()
    _Packer(file, find).dump(tasks)
    return file.getvalue()


def unpack(blob: bytes, data: Sequence[Any]) -> list[Any]:
    """What `pack` was given, with `data` in the places left out."""
    tasks: list[Any] = _Unpacker(io.BytesIO(blob), data).load()
    return tasks
