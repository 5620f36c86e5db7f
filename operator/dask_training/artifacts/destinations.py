"""From a destination's URL to the store behind it."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from dask_training.artifacts.file_storage import FileStorage
from dask_training.artifacts.names import problem_with
from dask_training.artifacts.storage import Storage
from dask_training.errors import ArtifactError

# Scheme -> the extra of this distribution that brings its library, and that library's module.
_EXTRAS = {
    "s3": ("s3", "s3fs"),
    "s3a": ("s3", "s3fs"),
    "gs": ("gs", "gcsfs"),
    "gcs": ("gs", "gcsfs"),
    "abfs": ("abfs", "adlfs"),
    "abfss": ("abfs", "adlfs"),
    "az": ("abfs", "adlfs"),
}
_BUCKET = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,62}")
# Azure's long form names the account beside the container.
_CONTAINER = re.compile(r"[a-z0-9$][a-z0-9-]{2,62}(@[a-z0-9]{3,24}(\.[a-z0-9-]+)+)?")
_FORMS = "a path, file:///path, s3://bucket/prefix, gs://bucket/prefix or abfs://container/prefix"


class Destination(NamedTuple):
    """Where artifacts go. `bucket` is empty for a folder, whose path is `prefix` then."""

    scheme: str
    bucket: str
    prefix: str


def parse(url: str) -> Destination:
    """The parts of a destination's URL. Raises ArtifactError for one of another form, without repeating it whole."""
    if "://" not in url:
        return _folder(url, url)
    scheme = url.partition("://")[0].lower()
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ArtifactError(f"artifacts can't be kept at this {scheme!r} address: use {_FORMS}") from None
    # What follows could hold a password or a signature, so none of these messages repeats it.
    if parts.query or parts.fragment:
        raise ArtifactError(f"the {scheme}:// address of the artifacts must end before any '?' or '#'")
    if scheme == "file":
        if parts.netloc not in {"", "localhost"}:
            raise ArtifactError("a file:// address needs three slashes before an absolute path: file:///path/of/folder")
        return _folder(unquote(parts.path), url)
    if scheme not in _EXTRAS:
        raise ArtifactError(f"artifacts can't be kept at a {scheme!r} address: use {_FORMS}")
    rule = _CONTAINER if _EXTRAS[scheme][0] == "abfs" else _BUCKET
    if not rule.fullmatch(parts.netloc):
        hint = "; credentials belong into destination.secretRef or the environment" if "@" in parts.netloc else ""
        raise ArtifactError(f"the {scheme}:// address of the artifacts must go on with the name of a bucket{hint}")
    prefix = parts.path.strip("/")
    problem = problem_with(prefix) if prefix else None
    if problem is not None:
        raise ArtifactError(f"artifacts can't be kept at {scheme}://{parts.netloc}/{prefix!r}: {problem}")
    return Destination(scheme, parts.netloc, prefix)


def _folder(path: str, url: str) -> Destination:
    if not path or "\0" in path:
        raise ArtifactError(f"artifacts can't be kept at {url!r}: use {_FORMS}")
    return Destination("file", "", path)


def open_storage(url: str, credentials: Mapping[str, str], retry_deadline_seconds: float) -> Storage:
    """The store at `url`; nothing is contacted yet. Raises ArtifactError if address or credentials can't be right."""
    destination = parse(url)
    if destination.scheme == "file":
        return FileStorage(Path(destination.prefix), retry_deadline_seconds=retry_deadline_seconds)
    extra, module = _EXTRAS[destination.scheme]
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise ArtifactError(
            f"{destination.scheme}:// needs a library that isn't installed ({error}): "
            f"pip install 'dask-training[{extra}]'"
        ) from error
    # Imported here: each takes a part of a second that a run with a local folder need not spend.
    if extra == "s3":
        from dask_training.artifacts.s3_storage import S3Storage  # noqa: PLC0415 - as above

        return S3Storage(
            destination.bucket, destination.prefix, credentials, retry_deadline_seconds=retry_deadline_seconds
        )
    from dask_training.artifacts.fsspec_storage import open_fsspec  # noqa: PLC0415 - as above

    return open_fsspec(extra, destination.bucket, destination.prefix, credentials, retry_deadline_seconds)
