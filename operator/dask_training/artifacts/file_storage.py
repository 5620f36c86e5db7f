"""Artifacts in a folder: of this machine, or of a volume that is mounted here."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from dask_training.artifacts import retry
from dask_training.artifacts.collect import Source
from dask_training.artifacts.faults import Secrets
from dask_training.artifacts.manifest import ManifestEntry
from dask_training.artifacts.names import MANIFEST, shown
from dask_training.artifacts.retry import Stop
from dask_training.artifacts.storage import CHUNK_BYTES
from dask_training.artifacts.tree import AtomicFile, Tree

T = TypeVar("T")


class FileStorage:
    """Each file is written under a temporary name beside its place, flushed to the disk and renamed.

    The threads are for the flushes: a file system's journal commits those that come together at once, which is what
    makes 10,000 small files a matter of seconds.
    """

    threads = 8

    def __init__(self, root: Path, *, retry_deadline_seconds: float) -> None:
        self.root = root.absolute()  # not resolve(): the user's own spelling is what messages show
        self.url = str(self.root)
        self._tree = Tree(self.root)
        self._deadline_seconds = retry_deadline_seconds
        self._secrets = Secrets(())

    def put(self, source: Source, key: str, stop: Stop) -> ManifestEntry:
        def copy() -> ManifestEntry:
            digest = hashlib.sha256()
            size = 0
            self._tree.make_root()
            with source.open() as reader, self._tree.replace(key) as file:
                while data := reader.read(CHUNK_BYTES):
                    retry.check(stop)
                    digest.update(data)
                    file.write(data)
                    size += len(data)
            return ManifestEntry(source.path, size, digest.hexdigest())

        return self._call(copy, f"store {shown(key)}", stop)

    def put_bytes(self, data: bytes, key: str, stop: Stop) -> None:
        def write() -> None:
            self._tree.make_root()
            with self._tree.replace(key) as file:
                file.write(data)
            self._tree.sync_folders()

        self._call(write, f"store {shown(key)}", stop)

    def read(self, key: str, limit: int, stop: Stop) -> Iterator[bytes]:
        descriptor = self._call(lambda: self._tree.open_file(key), f"read {shown(key)}", stop)
        try:
            while limit > 0:
                wanted = min(limit, CHUNK_BYTES)
                data = self._call(functools.partial(os.read, descriptor, wanted), f"read {shown(key)}", stop)
                if not data:
                    return
                limit -= len(data)
                yield data
        finally:
            os.close(descriptor)

    def remove(self, key: str, stop: Stop) -> None:
        self._call(lambda: self._tree.remove(key), f"replace {shown(key)}", stop)

    def sweep(self, prefix: str, stop: Stop) -> None:
        self._call(lambda: self._tree.sweep(prefix), "clean up", stop)

    def flush(self) -> None:
        self._call(self._tree.sync_folders, "store files", lambda: False)

    def children(self, prefix: str, stop: Stop) -> tuple[list[str], bool]:
        folders, files = self._call(lambda: self._tree.entries(prefix), "list", stop)
        return folders, MANIFEST in files

    def probe(self, deadline_seconds: float) -> None:
        def write() -> None:
            # The folders that are missing would be made by the first run; here only whether they can be is tried.
            place = self.root
            while not os.path.lexists(place):
                place = place.parent
            folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                with AtomicFile(folder, None) as file:
                    file.write(bytes(4096))  # a block, so that a full disk shows
            finally:
                os.close(folder)

        self._call(write, "write", lambda: False, deadline_seconds)

    def close(self) -> None:
        """Nothing is held open."""

    def _call(self, attempt: Callable[[], T], action: str, stop: Stop, deadline_seconds: float | None = None) -> T:
        return retry.call(
            attempt,
            action=action,
            where=self.url,
            deadline_seconds=self._deadline_seconds if deadline_seconds is None else deadline_seconds,
            secrets=self._secrets,
            stop=stop,
        )
