"""What each kind of store has to be able to do; `ArtifactStore` does the rest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from dask_training.artifacts.collect import Source
from dask_training.artifacts.manifest import ManifestEntry
from dask_training.artifacts.retry import Stop

CHUNK_BYTES = 2**20


class Storage(Protocol):
    """A place for objects. Keys are relative to `url` and have been checked.

    Everything but `close` raises the errors of dask_training.errors, after its own retries, and StoppedError soon
    after `stop()` is true. Used from several threads at once.
    """

    url: str  # for people: never with credentials
    threads: int  # how many calls at once are worth while

    @property
    def root(self) -> Path | None:
        """The folder that `url` is, or None."""

    def put(self, source: Source, key: str, stop: Stop) -> ManifestEntry:
        """Store the file at `key`, whole or not at all; what is returned describes the bytes that were sent."""

    def put_bytes(self, data: bytes, key: str, stop: Stop) -> None:
        """Store `data` at `key`, whole or not at all, and durably."""

    def read(self, key: str, limit: int, stop: Stop) -> Iterator[bytes]:
        """The object's content, at most its first `limit` bytes, in pieces. Raises MissingError if there is none."""

    def remove(self, key: str, stop: Stop) -> None:
        """Remove the object at `key` if there is one."""

    def sweep(self, prefix: str, stop: Stop) -> None:
        """Remove what writers killed in the middle left below `prefix`, other than whole objects."""

    def flush(self) -> None:
        """Make everything stored so far durable."""

    def children(self, prefix: str, stop: Stop) -> tuple[list[str], bool]:
        """Names of the folders directly below `prefix`, and whether a manifest lies there."""

    def probe(self, deadline_seconds: float) -> None:
        """Write and remove a small object; leave nothing behind."""

    def close(self) -> None:
        """Let go of connections."""
