"""Artifacts in a store that fsspec knows, through nothing but fsspec's own interface: gs and abfs.

An object appears when the file object written to is closed, and not at all if it is discarded. A failed file is sent
again from its start.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import fsspec

from dask_training.artifacts import retry
from dask_training.artifacts.collect import Source
from dask_training.artifacts.faults import MissingError, Secrets
from dask_training.artifacts.manifest import ManifestEntry
from dask_training.artifacts.names import MANIFEST, problem_with, shown
from dask_training.artifacts.retry import Stop
from dask_training.artifacts.storage import CHUNK_BYTES
from dask_training.artifacts.tree import TEMPORARY_PREFIX, TEMPORARY_SUFFIX

T = TypeVar("T")

BLOCK_BYTES = 8 * 2**20
# Names of credentials, as in the environment -> arguments of the file system. What isn't given is looked for by the
# library itself: in the environment, in files, or where its cloud hands them out.
_ARGUMENTS = {
    "gs": {"GOOGLE_APPLICATION_CREDENTIALS": "token", "GOOGLE_CLOUD_PROJECT": "project"},
    "abfs": {
        "AZURE_STORAGE_ACCOUNT_NAME": "account_name",
        "AZURE_STORAGE_ACCOUNT_KEY": "account_key",
        "AZURE_STORAGE_SAS_TOKEN": "sas_token",
        "AZURE_STORAGE_CONNECTION_STRING": "connection_string",
    },
}
_NO_SECRETS = {"AZURE_STORAGE_ACCOUNT_NAME", "GOOGLE_CLOUD_PROJECT"}


def open_fsspec(
    protocol: str, bucket: str, prefix: str, credentials: Mapping[str, str], retry_deadline_seconds: float
) -> FsspecStorage:
    """The store behind `gs://` or `abfs://`; its library must be installed."""
    names = _ARGUMENTS[protocol]
    arguments = {argument: credentials[name] for name, argument in names.items() if credentials.get(name)}
    container, _, account = bucket.partition("@")
    if account:
        arguments.setdefault("account_name", account.partition(".")[0])
    known = (credentials.get(name) or os.environ.get(name) for name in names if name not in _NO_SECRETS)
    return FsspecStorage(
        lambda: fsspec.filesystem(protocol, skip_instance_cache=True, use_listings_cache=False, **arguments),
        f"{container}/{prefix}".rstrip("/"),
        url=f"{protocol}://{bucket}/{prefix}".rstrip("/"),
        secrets_=Secrets(value for value in known if value),
        retry_deadline_seconds=retry_deadline_seconds,
    )


class FsspecStorage:
    """Everything below the path `root` of a file system, which is made, and may connect, with the first request."""

    threads = 8
    root = None

    def __init__(
        self,
        make_filesystem: Callable[[], Any],
        root: str,
        *,
        url: str,
        secrets_: Secrets,
        retry_deadline_seconds: float,
    ) -> None:
        self.url = url
        self._make_filesystem = make_filesystem
        self._made: Any = None
        self._root = root
        self._secrets = secrets_
        self._deadline_seconds = retry_deadline_seconds

    def put(self, source: Source, key: str, stop: Stop) -> ManifestEntry:
        def send() -> ManifestEntry:
            digest = hashlib.sha256()
            size = 0
            with source.open() as reader, self._writer(key) as file:
                while data := reader.read(CHUNK_BYTES):
                    retry.check(stop)
                    digest.update(data)
                    file.write(data)
                    size += len(data)
            return ManifestEntry(source.path, size, digest.hexdigest())

        return self._call(send, f"store {shown(key)}", stop)

    def put_bytes(self, data: bytes, key: str, stop: Stop) -> None:
        def send() -> None:
            with self._writer(key) as file:
                file.write(data)

        self._call(send, f"store {shown(key)}", stop)

    @contextlib.contextmanager
    def _writer(self, key: str) -> Iterator[Any]:
        """A file object that is committed at the end of the block, and discarded on an error."""
        file = self._filesystem.open(self._path(key), "wb", block_size=BLOCK_BYTES)
        try:
            yield file
        except BaseException:
            with contextlib.suppress(Exception):  # the first error is the one to tell
                file.discard()
            file.closed = True  # its close() and its finalizer would commit what is there
            raise
        try:
            file.close()
        except BaseException:
            file.closed = True
            raise

    def read(self, key: str, limit: int, stop: Stop) -> Iterator[bytes]:
        action = f"read {shown(key)}"
        file = self._call(
            lambda: self._filesystem.open(self._path(key), "rb", block_size=BLOCK_BYTES, cache_type="readahead"),
            action,
            stop,
        )
        with file:
            start = 0
            while start < limit:
                data = self._call(_reading(file, start, min(CHUNK_BYTES, limit - start)), action, stop)
                if not data:
                    return
                start += len(data)
                yield data

    def remove(self, key: str, stop: Stop) -> None:
        with contextlib.suppress(MissingError):
            self._call(lambda: self._filesystem.rm_file(self._path(key)), f"remove {shown(key)}", stop)

    def sweep(self, prefix: str, stop: Stop) -> None:
        """Nothing to do: these stores forget unfinished uploads by themselves, after a week."""

    def flush(self) -> None:
        """A closed file is durable."""

    def children(self, prefix: str, stop: Stop) -> tuple[list[str], bool]:
        def listed() -> list[Mapping[str, Any]]:
            found: list[Mapping[str, Any]] = self._filesystem.ls(self._path(prefix), detail=True)
            return found

        try:
            found = self._call(listed, f"list {shown(prefix or '/')}", stop)
        except MissingError:
            return [], False
        names = [(str(entry["name"]).rstrip("/").rpartition("/")[2], entry["type"]) for entry in found]
        folders = [name for name, kind in names if kind == "directory" and problem_with(name) is None]
        return sorted(folders), (MANIFEST, "file") in names

    def probe(self, deadline_seconds: float) -> None:
        path = self._path(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}{TEMPORARY_SUFFIX}")
        self._call(lambda: self._filesystem.pipe_file(path, b"x"), "write", _never, deadline_seconds)
        self._call(lambda: self._filesystem.rm_file(path), "remove", _never, deadline_seconds)

    def close(self) -> None:
        """The libraries close their connections themselves, when they are no longer used."""
        self._made = None

    @property
    def _filesystem(self) -> Any:
        if self._made is None:
            self._made = self._make_filesystem()
        return self._made

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}" if key else self._root

    def _call(self, attempt: Callable[[], T], action: str, stop: Stop, deadline_seconds: float | None = None) -> T:
        return retry.call(
            attempt,
            action=action,
            where=self.url,
            deadline_seconds=self._deadline_seconds if deadline_seconds is None else deadline_seconds,
            secrets=self._secrets,
            stop=stop,
        )


def _reading(file: Any, start: int, size: int) -> Callable[[], bytes]:
    def read() -> bytes:
        file.seek(start)
        data: bytes = file.read(size)
        return data

    return read


def _never() -> bool:
    return False
