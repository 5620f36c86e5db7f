"""`manifest.json`: what a run keeps, written last of all; readers trust nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec

from dask_training.artifacts.names import MANIFEST, check_name, shown
from dask_training.errors import ManifestError, UnsafeNameError

MAX_FILES = 100_000
MAX_MANIFEST_BYTES = 64 * 2**20  # MAX_FILES entries with long names fit

_Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class ManifestEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One kept file: its path below the run's folder, its size in bytes and the SHA-256 of its content, in hex."""

    path: str
    size: _Size
    sha256: _Sha256


class _Document(msgspec.Struct, frozen=True, rename="camel"):
    # No forbid_unknown_fields: a later version may add fields, and its files can still be read.
    version: Literal[1]
    stored_at: Annotated[datetime, msgspec.Meta(tz=True)]
    info: dict[str, Any]
    files: list[ManifestEntry]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The kept files of a run, sorted by path; `sha256` is that of the manifest.json itself.

    `stored_at` is in UTC; `info` is what the caller of `store` gave, JSON values only.
    """

    files: tuple[ManifestEntry, ...]
    stored_at: datetime
    info: Mapping[str, Any]
    sha256: str
    raw: bytes

    @property
    def total_bytes(self) -> int:
        """The sizes of all files together, without manifest.json."""
        return sum(entry.size for entry in self.files)


def build(files: Iterable[ManifestEntry], info: Mapping[str, object], *, now: datetime | None = None) -> Manifest:
    """The manifest of `files`; raises ManifestError for paths it can't have, TypeError for other info than JSON."""
    document = _Document(
        version=1,
        stored_at=(now or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0),
        info=dict(info),
        files=sorted(files, key=lambda entry: entry.path),
    )
    raw = msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"
    return parse(raw, where=MANIFEST)


def parse(raw: bytes, *, where: str) -> Manifest:
    """The manifest in `raw`; `where` is its address for the message.

    Raises ManifestError for anything malformed, and for paths that must not be written anywhere: whoever can write to
    a store must not be able to make a reader write outside the folder it chose.
    """
    try:
        document = msgspec.json.decode(raw, type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ManifestError(f"{where} is not a manifest of this version: {error}") from error
    problem = _problem_with_paths([entry.path for entry in document.files])
    if problem is not None:
        raise ManifestError(f"{where} can't be trusted: {problem}")
    return Manifest(
        files=tuple(document.files),
        stored_at=document.stored_at.astimezone(UTC),
        info=MappingProxyType(document.info),
        sha256=hashlib.sha256(raw).hexdigest(),
        raw=raw,
    )


def _problem_with_paths(paths: list[str]) -> str | None:
    if len(paths) > MAX_FILES:
        return f"it lists {len(paths)} files, at most {MAX_FILES} are allowed"
    seen: set[str] = set()
    for path in paths:
        try:
            check_name(path)
        except UnsafeNameError as error:
            return str(error)
        if path.split("/", 1)[0] == MANIFEST:
            return f"it lists {MANIFEST} itself"
        if path in seen:
            return f"it lists {shown(path)} twice"
        seen.add(path)
    for path in paths:
        folder = path
        while folder := folder.rpartition("/")[0]:
            if folder in seen:
                return f"it lists {shown(folder)} both as a file and as a folder"
    return None
