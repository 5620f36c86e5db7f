"""Artifacts in a bucket of Amazon S3, or of anything that speaks its API.

An object appears whole or not at all: one PUT, or a multipart upload that is completed at the end. What a killed
upload leaves is invisible but takes space, so the next run into the same prefix aborts it; for runs that are never
tried again the bucket should have a lifecycle rule AbortIncompleteMultipartUpload.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import secrets
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, wait
from typing import Any

import s3fs

from dask_training.artifacts import retry
from dask_training.artifacts.collect import Source, SourceReader
from dask_training.artifacts.faults import Fault, MissingError, classify
from dask_training.artifacts.manifest import ManifestEntry
from dask_training.artifacts.names import MANIFEST, problem_with, shown
from dask_training.artifacts.retry import Stop
from dask_training.artifacts.s3_connection import SLOW_STALL_SECONDS, Beat, Body, S3Connection
from dask_training.artifacts.tree import TEMPORARY_PREFIX, TEMPORARY_SUFFIX
from dask_training.errors import ArtifactError, StoreDeniedError, StoreUnavailableError

logger = logging.getLogger(__name__)

PART_BYTES = 8 * 2**20  # S3 wants at least 5 MiB
MOST_PARTS = 9_000  # S3 allows 10,000
PARTS_IN_FLIGHT = 8  # of all files together: bounds memory
READ_BYTES = 2**16
_ABORT_SECONDS = 2.0  # tidying up must not hold up the message of what went wrong


class UploadLostError(Exception):
    """The server no longer knows a multipart upload: completed unnoticed, or aborted by another. Start over."""


class S3Storage:
    """One bucket and the prefix in it that everything lies under."""

    threads = 8
    root = None

    def __init__(
        self,
        bucket: str,
        prefix: str,
        credentials: Mapping[str, str],
        *,
        retry_deadline_seconds: float,
        part_bytes: int = PART_BYTES,
    ) -> None:
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._part_bytes = part_bytes
        self._parts = threading.BoundedSemaphore(PARTS_IN_FLIGHT)
        self._connection = S3Connection(credentials, where=self.url, retry_deadline_seconds=retry_deadline_seconds)

    def put(self, source: Source, key: str, stop: Stop) -> ManifestEntry:
        for _ in range(3):
            try:
                with source.open() as reader:
                    return self._put(reader, source, key, stop)
            except UploadLostError:
                logger.info("the multipart upload of %s is gone, starting over", shown(key))
        raise StoreUnavailableError(
            f"can't store {shown(key)} in {self._connection.where}: the server lost its multipart upload three times: "
            "check that nothing else aborts uploads there, then store again"
        )

    def _put(self, reader: SourceReader, source: Source, key: str, stop: Stop) -> ManifestEntry:
        part_bytes = max(self._part_bytes, -(-source.size // MOST_PARTS))
        first = reader.read(part_bytes)
        second = reader.read(part_bytes)
        if second:
            return self._put_parts(reader, [second, first], source.path, key, part_bytes, stop)
        self.put_bytes(first, key, stop)
        return ManifestEntry(source.path, len(first), hashlib.sha256(first).hexdigest())

    def put_bytes(self, data: bytes, key: str, stop: Stop) -> None:
        self._put_object(data, key, f"store {shown(key)}", stop)

    def _put_object(
        self, data: bytes, key: str, action: str, stop: Stop, deadline_seconds: float | None = None
    ) -> None:
        async def attempt(s3: s3fs.S3FileSystem, beat: Beat) -> None:
            await _call(s3, "put_object", **self._object(key), Body=Body(data, beat))

        try:
            self._connection.call(attempt, action=action, stop=stop, deadline_seconds=deadline_seconds)
        except MissingError as error:  # a missing bucket says so, this is some other server
            raise StoreDeniedError(f"{error}: check that AWS_ENDPOINT_URL is the address of an S3 API") from error

    def _put_parts(
        self, reader: SourceReader, read_ahead: list[bytes], path: str, key: str, part_bytes: int, stop: Stop
    ) -> ManifestEntry:
        upload = self._begin_upload(key, stop)
        digest = hashlib.sha256()
        size = 0
        futures: list[Future[dict[str, Any]]] = []
        try:
            while data := read_ahead.pop() if read_ahead else reader.read(part_bytes):
                # Hashed once and sent from this very buffer, however often: what the manifest says is what was sent.
                digest.update(data)
                size += len(data)
                self._wait_for_room(futures, stop)
                futures.append(self._send_part(upload, data, len(futures) + 1, stop))
            parts = [future.result() for future in futures]
            self._complete(upload, parts, stop)
        except BaseException as error:
            self._abandon(upload, futures, 0.0 if isinstance(error, StoreUnavailableError) else _ABORT_SECONDS)
            if isinstance(error, MissingError):  # NoSuchUpload
                raise UploadLostError from error
            raise
        return ManifestEntry(path, size, digest.hexdigest())

    def _begin_upload(self, key: str, stop: Stop) -> dict[str, str]:
        tries = 0

        async def attempt(s3: s3fs.S3FileSystem, _: Beat) -> str:
            nonlocal tries
            tries += 1
            return str((await _call(s3, "create_multipart_upload", **self._object(key)))["UploadId"])

        upload_id = self._connection.call(attempt, action=f"store {shown(key)}", stop=stop)
        if tries > 1:  # one whose answer was lost may have been made, too
            self._abort_uploads(self._prefix + key, stop, keep=upload_id)
        return {**self._object(key), "UploadId": upload_id}

    def _wait_for_room(self, futures: list[Future[dict[str, Any]]], stop: Stop) -> None:
        """Until one more part may be sent; raises what an earlier one failed with."""
        while True:
            for future in futures:
                if future.done():
                    future.result()
            retry.check(stop)
            if self._parts.acquire(timeout=0.25):
                return

    def _send_part(self, upload: Mapping[str, str], data: bytes, number: int, stop: Stop) -> Future[dict[str, Any]]:
        async def attempt(s3: s3fs.S3FileSystem, beat: Beat) -> dict[str, Any]:
            answer = await _call(s3, "upload_part", **upload, PartNumber=number, Body=Body(data, beat))
            return {"PartNumber": number, "ETag": answer["ETag"]}

        action = f"store part {number} of {shown(upload['Key'])}"
        try:
            future = self._connection.start(attempt, action=action, stop=stop)
        except BaseException:
            self._parts.release()
            raise
        future.add_done_callback(lambda _: self._parts.release())
        return future

    def _complete(self, upload: Mapping[str, str], parts: list[dict[str, Any]], stop: Stop) -> None:
        async def attempt(s3: s3fs.S3FileSystem, _: Beat) -> None:
            await _call(s3, "complete_multipart_upload", **upload, MultipartUpload={"Parts": parts})

        action = f"store {shown(upload['Key'])}"
        self._connection.call(attempt, action=action, stop=stop, stall_seconds=SLOW_STALL_SECONDS)

    def _abandon(
        self, upload: Mapping[str, str], futures: list[Future[dict[str, Any]]], deadline_seconds: float
    ) -> None:
        for future in futures:
            future.cancel()
        wait(futures, timeout=_ABORT_SECONDS)  # a part that arrives after the abort would be kept
        self._abort(upload["Key"], upload["UploadId"], deadline_seconds)

    def _abort(self, full_key: str, upload_id: str, deadline_seconds: float) -> None:
        async def attempt(s3: s3fs.S3FileSystem, _: Beat) -> None:
            await _call(s3, "abort_multipart_upload", Bucket=self._bucket, Key=full_key, UploadId=upload_id)

        # The error that led here is the one to tell; `sweep` tries again.
        with contextlib.suppress(ArtifactError):
            self._connection.call(
                attempt, action="clean up", stop=_never, stall_seconds=_ABORT_SECONDS, deadline_seconds=deadline_seconds
            )

    def sweep(self, prefix: str, stop: Stop) -> None:
        full_prefix = f"{self._prefix}{prefix}/" if prefix else self._prefix
        if full_prefix:  # in a bucket's root there are other people's uploads
            self._abort_uploads(full_prefix, stop)

    def _abort_uploads(self, full_prefix: str, stop: Stop, keep: str = "") -> None:
        async def attempt(s3: s3fs.S3FileSystem, _: Beat) -> list[dict[str, Any]]:
            uploads: list[dict[str, Any]] = []
            more: dict[str, Any] = {}
            while True:
                page = await _call(s3, "list_multipart_uploads", Bucket=self._bucket, Prefix=full_prefix, **more)
                uploads += page.get("Uploads") or []
                if not page.get("IsTruncated"):
                    return uploads
                more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

        try:
            uploads = self._connection.call(attempt, action="list unfinished uploads", stop=stop)
        except StoreUnavailableError:
            raise
        except ArtifactError as error:
            if stop():
                raise
            # Not every server has this call, and not every user may make it; only space is lost.
            logger.debug("unfinished uploads can't be listed: %s", error)
            return
        for upload in uploads:
            if upload["Key"].startswith(full_prefix) and upload["UploadId"] != keep:
                self._abort(upload["Key"], upload["UploadId"], _ABORT_SECONDS)

    def read(self, key: str, limit: int, stop: Stop) -> Iterator[bytes]:
        start = 0
        while start < limit:
            end = min(limit, start + self._part_bytes)
            data = self._read_range(key, start, end, stop)
            if data:
                yield data
            start += len(data)
            if start < end:
                return

    def _read_range(self, key: str, start: int, end: int, stop: Stop) -> bytes:
        async def attempt(s3: s3fs.S3FileSystem, beat: Beat) -> bytes:
            try:
                answer = await _call(s3, "get_object", **self._object(key), Range=f"bytes={start}-{end - 1}")
            except Exception as error:
                if _is_beyond_the_end(error):
                    return b""
                raise
            body = answer["Body"]
            try:
                if start and "ContentRange" not in answer:
                    raise ArtifactError(f"{self._connection.where} gives whole objects only: it ignores Range")
                data = bytearray()
                while len(data) < end - start and (piece := await body.read(min(READ_BYTES, end - start - len(data)))):
                    beat.touch()
                    data += piece
                return bytes(data)
            finally:
                body.close()

        return self._connection.call(attempt, action=f"read {shown(key)}", stop=stop)

    def remove(self, key: str, stop: Stop) -> None:
        # Looked for first: in a bucket with versions, deleting what isn't there would leave a delete marker.
        if self._exists(key, stop):
            self._delete(key, stop)

    def _exists(self, key: str, stop: Stop, deadline_seconds: float | None = None) -> bool:
        async def attempt(s3: s3fs.S3FileSystem, _: Beat) -> bool:
            try:
                await _call(s3, "head_object", **self._object(key))
            except Exception as error:
                if classify(error) is Fault.MISSING:
                    return False
                raise
            return True

        action = f"look for {shown(key)}"
        return self._connection.call(attempt, action=action, stop=stop, deadline_seconds=deadline_seconds)

    def _delete(self, key: str, stop: Stop, deadline_seconds: float | None = None) -> None:
        async def attempt(s3: s3fs.S3FileSystem, _: Beat) -> None:
            await _call(s3, "delete_object", **self._object(key))

        self._connection.call(attempt, action=f"remove {shown(key)}", stop=stop, deadline_seconds=deadline_seconds)

    def flush(self) -> None:
        """An answered PUT is durable."""

    def children(self, prefix: str, stop: Stop) -> tuple[list[str], bool]:
        full_prefix = f"{self._prefix}{prefix}/" if prefix else self._prefix

        async def attempt(s3: s3fs.S3FileSystem, _: Beat) -> tuple[list[str], bool]:
            folders: list[str] = []
            has_manifest = False
            more: dict[str, str] = {}
            while True:
                page = await _call(
                    s3, "list_objects_v2", Bucket=self._bucket, Prefix=full_prefix, Delimiter="/", **more
                )
                names = [entry["Prefix"][len(full_prefix) :].rstrip("/") for entry in page.get("CommonPrefixes") or []]
                folders += [name for name in names if problem_with(name) is None]
                has_manifest |= any(entry["Key"] == full_prefix + MANIFEST for entry in page.get("Contents") or [])
                if not page.get("IsTruncated"):
                    return sorted(folders), has_manifest
                more = {"ContinuationToken": page["NextContinuationToken"]}

        return self._connection.call(attempt, action=f"list {shown(prefix or '/')}", stop=stop)

    def probe(self, deadline_seconds: float) -> None:
        key = f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"

        # The PUT first: its refusal says why, which that of a HEAD can't.
        self._put_object(b"", key, "write", _never, deadline_seconds)
        self._delete(key, _never, deadline_seconds)
        self._exists(key, _never, deadline_seconds)

    def close(self) -> None:
        self._connection.close()

    def _object(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}


async def _call(s3: s3fs.S3FileSystem, method: str, **parameters: Any) -> Any:
    return await s3._call_s3(method, **parameters)  # noqa: SLF001 - fsspec's name for the awaitable form of call_s3


def _is_beyond_the_end(error: BaseException) -> bool:
    response = getattr(error.__cause__, "response", None) or {}
    return bool((response.get("ResponseMetadata") or {}).get("HTTPStatusCode") == 416)


def _never() -> bool:
    return False
