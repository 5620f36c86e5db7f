"""A store of artifacts: runs' files with a manifest each, in a folder or behind an object store's API."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import msgspec

from dask_training.api import Phase
from dask_training.artifacts import manifest as manifests
from dask_training.artifacts.collect import Source, VanishedError, collect
from dask_training.artifacts.destinations import open_storage
from dask_training.artifacts.faults import MissingError
from dask_training.artifacts.manifest import MAX_MANIFEST_BYTES, Manifest, ManifestEntry
from dask_training.artifacts.names import MANIFEST, join, shown
from dask_training.artifacts.retry import Stop, in_parallel
from dask_training.artifacts.storage import CHUNK_BYTES, Storage
from dask_training.artifacts.tree import Tree
from dask_training.errors import ArtifactError, ManifestError, StoreFullError

logger = logging.getLogger(__name__)

PROBE_SECONDS = 4.0
_DEEPEST_RUN = 4  # <namespace>/<name>/<uid>/<attempt>


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What `dask-training artifacts ls` shows of a run.

    `run` is its prefix in the store, `bytes` the size of all files; `verdict` is `phase` of the manifest's info, with
    its `reason` unless it succeeded; `problem` says why the rest is not known (then `stored_at` is None).
    """

    run: str
    url: str
    files: int = 0
    bytes: int = 0
    stored_at: datetime | None = None
    verdict: str = ""
    info: Mapping[str, Any] = {}
    problem: str | None = None


class ArtifactStore:
    """Stores the files of runs, each under a prefix of its own, and gives them back verified.

    A run is complete when its `manifest.json` is there: that is written last, and readers trust nothing else. One
    writer per prefix at a time. Can be used as a context manager, which closes connections at the end.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    @classmethod
    def from_url(
        cls, url: str, *, credentials: Mapping[str, str] = MappingProxyType({}), retry_deadline_seconds: float = 60.0
    ) -> Self:
        """The store at `url`: a path, `file://`, `s3://bucket/prefix`, or `gs://`, `abfs://` with their extras.

        `credentials` are named as in the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN,
        AWS_ENDPOINT_URL, AWS_REGION; what is missing there is looked for where the store's own tools do. A request
        that fails for a passing reason is sent again for `retry_deadline_seconds`. Nothing is contacted yet.
        Raises ArtifactError for an address or credentials that can't be right, or a library that isn't installed.
        """
        return cls(open_storage(url, credentials, retry_deadline_seconds))

    @property
    def url(self) -> str:
        """The address of the store, without credentials."""
        return self._storage.url

    def url_of(self, prefix: str) -> str:
        """The address of a run's folder, without credentials."""
        return f"{self.url.rstrip('/')}/{prefix}" if prefix else self.url

    def check_writable(self) -> None:
        """Write a small object and remove it, to fail before hours of training rather than after.

        Takes about 5 seconds at most. Raises StoreUnavailableError, StoreDeniedError or StoreFullError.
        """
        self._storage.probe(PROBE_SECONDS)

    def store(
        self,
        folder: Path,
        *,
        prefix: str,
        size_limit_bytes: int | None,
        info: Mapping[str, object] = MappingProxyType({}),
        stop: threading.Event | None = None,
    ) -> Manifest:
        """Store every file below `folder` under `prefix`, each whole or not at all, and the manifest last.

        An earlier manifest there is removed first. `info` (JSON values) goes into the manifest. A file that changes
        meanwhile is stored as it was read, one that is removed meanwhile is left out. Setting `stop` ends it soon.

        Raises UnsafeNameError or SizeLimitError before anything is sent (see `collect`), then StoreUnavailableError
        after retries, StoreDeniedError and StoreFullError at once (what was stored till then is removed if the store is
        full), ArtifactError for a file that can't be read.
        """
        sources = collect(folder, size_limit_bytes=size_limit_bytes)
        keys = {source.path: join(prefix, source.path) for source in sources}
        manifest_key = join(prefix, MANIFEST)
        manifests.build((), info)  # raises here, not after the upload, if info is no JSON
        self._refuse_overlap(folder, prefix)

        stored: list[str] = []

        def put(source: Source, stopped: Stop) -> ManifestEntry | None:
            try:
                entry = self._storage.put(source, keys[source.path], stopped)
            except VanishedError:
                logger.warning("%s was removed before it was stored; it is not kept", shown(source.path))
                return None
            stored.append(keys[source.path])
            return entry

        stopped = _stop(stop)
        # First, so that it never speaks of files that are being replaced.
        self._storage.remove(manifest_key, stopped)
        self._storage.sweep(prefix, stopped)
        try:
            entries = in_parallel(put, sources, threads=self._storage.threads, stop=stopped)
            self._storage.flush()
            manifest = manifests.build((entry for entry in entries if entry is not None), info)
            self._storage.put_bytes(manifest.raw, manifest_key, stopped)
        except StoreFullError:
            self._make_room(stored)
            raise
        return manifest

    def _make_room(self, keys: list[str]) -> None:
        """Remove what was stored of a run that doesn't fit: a full store must not stay full of what nobody can use."""
        with contextlib.suppress(ArtifactError):  # that the store is full is what the user has to know
            in_parallel(self._storage.remove, keys, threads=self._storage.threads, stop=_stop(None))

    def _refuse_overlap(self, folder: Path, prefix: str) -> None:
        if self._storage.root is None:
            return
        source, target = folder.resolve(), (self._storage.root / prefix).resolve()
        if source.is_relative_to(target) or target.is_relative_to(source):
            raise ArtifactError(f"can't store {folder} into itself ({target}): choose another destination")

    def manifest(self, prefix: str) -> Manifest:
        """The manifest of the run at `prefix`. Raises ManifestError if it is missing or malformed, or a store error."""
        where = self.url_of(join(prefix, MANIFEST))
        try:
            raw = b"".join(self._storage.read(join(prefix, MANIFEST), MAX_MANIFEST_BYTES + 1, _stop(None)))
        except MissingError as error:
            raise ManifestError(
                f"{where} doesn't exist: the run isn't there, still runs, or its files were not all stored"
            ) from error
        if len(raw) > MAX_MANIFEST_BYTES:
            raise ManifestError(f"{where} can't be trusted: it has more than {MAX_MANIFEST_BYTES} bytes")
        return manifests.parse(raw, where=where)

    def verify(self, prefix: str, *, stop: threading.Event | None = None) -> list[str]:
        """Read every file of the run at `prefix`; what doesn't agree with its manifest, one line each, is returned.

        Raises as `manifest` does.
        """

        def problem(entry: ManifestEntry, stopped: Stop) -> str | None:
            try:
                for _ in self._verified(prefix, entry, stopped):
                    pass
            except ManifestError as error:
                return str(error)
            return None

        files = self.manifest(prefix).files
        problems = in_parallel(problem, files, threads=self._storage.threads, stop=_stop(stop))
        return [found for found in problems if found is not None]

    def get(
        self,
        prefix: str,
        target: Path,
        *,
        only: Collection[str] | None = None,
        stop: threading.Event | None = None,
    ) -> list[Path]:
        """Copy the files of the run at `prefix`, or `only` those, into the folder `target` and return their paths.

        Each is verified before it takes its place, replacing what has its name. `target` is made if need be; with all
        files it gets the manifest.json, too, last of all, so that the copy can be verified. Nothing is ever written
        outside `target`, whatever the manifest says or links in `target` lead to.

        Raises ManifestError for a file that doesn't agree or isn't listed, UnsafeNameError for a link in the way,
        ArtifactError if `target` can't be written, a store's error otherwise.
        """
        manifest = self.manifest(prefix)
        chosen = _chosen(manifest, only)
        tree = Tree(target)

        def fetch(entry: ManifestEntry, stopped: Stop) -> Path:
            with _local_errors(f"write {shown(entry.path)}", target), tree.replace(entry.path) as file:
                for data in self._verified(prefix, entry, stopped):
                    file.write(data)
            return target / entry.path

        with _local_errors("write", target):
            tree.make_root()
            tree.remove(MANIFEST)  # an older one would not agree with what comes now
        paths = in_parallel(fetch, chosen, threads=self._storage.threads, stop=_stop(stop))
        with _local_errors("write", target):
            if only is None:
                with tree.replace(MANIFEST) as file:
                    file.write(manifest.raw)
            tree.sync_folders()
        return paths

    def read(self, prefix: str, path: str) -> tuple[int, Iterator[bytes]]:
        """Size and content, in pieces, of one file of the run at `prefix`; verified while it is read.

        Raises ManifestError if the run has no such file; from the iterator if it is not what the manifest says.
        """
        entry = _chosen(self.manifest(prefix), [path])[0]
        return entry.size, self._verified(prefix, entry, _stop(None))

    def runs(self, prefix: str = "") -> list[str]:
        """Prefixes of the complete runs at or below `prefix`, sorted; at most four folders deep."""
        found: list[str] = []
        level = [prefix]
        for depth in range(_DEEPEST_RUN + 1):
            listed = in_parallel(self._storage.children, level, threads=self._storage.threads, stop=_stop(None))
            deeper = []
            for parent, (folders, has_manifest) in zip(level, listed, strict=True):
                if has_manifest:
                    found.append(parent)  # what is below are the run's own files
                elif depth < _DEEPEST_RUN:
                    deeper += [f"{parent}/{name}" if parent else name for name in folders]
            level = deeper
        return sorted(found)

    def summaries(self, prefix: str = "") -> list[RunSummary]:
        """What there is to say of each complete run at or below `prefix`, the latest last."""

        def summary(run: str, _: Stop) -> RunSummary:
            try:
                manifest = self.manifest(run)
            except ManifestError as error:
                return RunSummary(run=run, url=self.url_of(run), problem=str(error))
            return RunSummary(
                run=run,
                url=self.url_of(run),
                files=len(manifest.files),
                bytes=manifest.total_bytes,
                stored_at=manifest.stored_at,
                verdict=_verdict(manifest.info),
                info=manifest.info,
            )

        found = in_parallel(summary, self.runs(prefix), threads=self._storage.threads, stop=_stop(None))
        return sorted(found, key=lambda run: (run.stored_at is not None, run.stored_at or "", run.run))

    def _verified(self, prefix: str, entry: ManifestEntry, stopped: Stop) -> Iterator[bytes]:
        """The file's content in pieces; raises ManifestError instead of ending if it isn't what the manifest says."""
        digest = hashlib.sha256()
        size = 0
        try:
            # One byte more than there should be, to see that there is no more.
            for data in self._storage.read(join(prefix, entry.path), entry.size + 1, stopped):
                digest.update(data)
                size += len(data)
                yield data
        except MissingError as error:
            raise ManifestError(f"{shown(entry.path)} is missing") from error
        if size != entry.size:
            got = f"more than {entry.size}" if size > entry.size else str(size)
            raise ManifestError(f"{shown(entry.path)} has {got} bytes, the manifest says {entry.size}")
        if digest.hexdigest() != entry.sha256:
            raise ManifestError(f"{shown(entry.path)} has another content than the manifest says (SHA-256 differs)")

    def close(self) -> None:
        """Close the connections to the store; it can't be used after."""
        self._storage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ArtifactStore({self.url!r})"


def _chosen(manifest: Manifest, only: Collection[str] | None) -> list[ManifestEntry]:
    unknown = set(only or ()) - {entry.path for entry in manifest.files}
    if unknown:
        raise ManifestError(f"the run has no file {shown(min(unknown))}")
    return [entry for entry in manifest.files if only is None or entry.path in only]


@contextlib.contextmanager
def _local_errors(action: str, folder: Path) -> Iterator[None]:
    """What goes wrong with the reader's own disk must not look like the store's fault."""
    try:
        yield
    except OSError as error:
        raise ArtifactError(f"can't {action} in {folder}: {error.strerror or error}") from error


def _verdict(info: Mapping[str, Any]) -> str:
    phase, reason = str(info.get("phase", "")), str(info.get("reason", ""))
    return phase if phase == Phase.SUCCEEDED or not reason else f"{phase}: {reason}".removeprefix(": ")


def _stop(event: threading.Event | None) -> Stop:
    return event.is_set if event is not None else lambda: False


def manifest_of(
    folder: Path, *, size_limit_bytes: int | None = None, info: Mapping[str, object] = MappingProxyType({})
) -> Manifest:
    """The manifest that `ArtifactStore.store` would give the files below `folder`, without storing them.

    Raises what `collect` raises.
    """

    def entry(source: Source) -> ManifestEntry:
        digest = hashlib.sha256()
        size = 0
        with source.open() as reader:
            while data := reader.read(CHUNK_BYTES):
                digest.update(data)
                size += len(data)
        return ManifestEntry(source.path, size, digest.hexdigest())

    sources = collect(folder, size_limit_bytes=size_limit_bytes)
    entries = []
    for source in sources:
        try:
            entries.append(entry(source))
        except VanishedError:
            continue
    return manifests.build(entries, info)
