"""Requests to an S3 API: bounded, watched, sent again when that can help, and never telling a credential."""

from __future__ import annotations

import asyncio
import concurrent.futures
import io
import logging
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import s3fs
from aiobotocore.session import AioSession  # type: ignore[import-untyped]

from dask_training.artifacts.faults import Secrets, StalledError, StoppedError, classify, store_error
from dask_training.artifacts.retry import Backoff, Stop
from dask_training.errors import ArtifactError

T = TypeVar("T")

CONNECT_TIMEOUT_SECONDS = 4.0
STALL_SECONDS = 30.0  # without a byte sent or received
SLOW_STALL_SECONDS = 120.0  # for requests that keep a server busy before it answers
_TICK_SECONDS = 0.25
# What the kernel has taken is not known to have been sent, so on a slow line it must not take much. The kernel doubles
# this; 256 KiB on each of 8 connections still give 20 MB/s at 100 ms from the store, and as much as a disk at 10 ms.
_SEND_BUFFER_BYTES = 2**17
_SECRET_NAMES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


class Beat:
    """When something last moved in an attempt."""

    def __init__(self) -> None:
        self.at = time.monotonic()

    def touch(self) -> None:
        """Something moved."""
        self.at = time.monotonic()


class Body(io.BytesIO):
    """Bytes to send that tell when they are taken, so that a slow upload isn't mistaken for one that hangs."""

    def __init__(self, data: bytes, beat: Beat) -> None:
        super().__init__(data)
        self._beat = beat

    def read(self, size: int | None = -1) -> bytes:
        self._beat.touch()
        return super().read(size)


Attempt = Callable[[s3fs.S3FileSystem, Beat], Awaitable[T]]


class S3Connection:
    """A client of one S3 endpoint. Its requests run in fsspec's own event loop thread; call from any other thread."""

    stall_seconds = STALL_SECONDS

    def __init__(self, credentials: Mapping[str, str], *, where: str, retry_deadline_seconds: float) -> None:
        self._settings = _settings(credentials)
        endpoint = credentials.get("AWS_ENDPOINT_URL") or _environment_endpoint()
        self.where = f"{where} at {endpoint}" if endpoint else where
        self.deadline_seconds = retry_deadline_seconds
        self._secrets = Secrets(
            value for name in _SECRET_NAMES for value in (credentials.get(name), os.environ.get(name)) if value
        )
        self._filesystem: s3fs.S3FileSystem | None = None
        self._lock = threading.Lock()

    def start(
        self,
        attempt: Attempt[T],
        *,
        action: str,
        stop: Stop,
        stall_seconds: float | None = None,
        deadline_seconds: float | None = None,
    ) -> concurrent.futures.Future[T]:
        """Begin a request; `attempt` makes it once and is called again after failures that may pass.

        The future raises the errors of dask_training.errors, after at most `deadline_seconds` of failing.
        """
        deadline = self.deadline_seconds if deadline_seconds is None else deadline_seconds
        filesystem = self._connected()
        # Half of the deadline: one request that hangs must not use up the time of another that wouldn't.
        patience = min(self.stall_seconds, deadline / 2) if stall_seconds is None else stall_seconds
        request = self._request(filesystem, attempt, action, stop, patience, deadline)
        return asyncio.run_coroutine_threadsafe(request, filesystem.loop)

    def call(
        self,
        attempt: Attempt[T],
        *,
        action: str,
        stop: Stop,
        stall_seconds: float | None = None,
        deadline_seconds: float | None = None,
    ) -> T:
        """`start`, and wait for what comes of it."""
        future = self.start(
            attempt, action=action, stop=stop, stall_seconds=stall_seconds, deadline_seconds=deadline_seconds
        )
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def _request(
        self,
        filesystem: s3fs.S3FileSystem,
        attempt: Attempt[T],
        action: str,
        stop: Stop,
        stall_seconds: float,
        deadline_seconds: float,
    ) -> T:
        backoff = Backoff(deadline_seconds)
        while True:
            if stop():
                raise StoppedError(f"interrupted: {action}")
            patience = min(stall_seconds, max(backoff.left, 1.0))
            try:
                return await _watched(attempt, filesystem, patience, stop)
            except ArtifactError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever the libraries raise is classified
                delay = backoff.delay(error)
                if delay is None:
                    raise store_error(
                        classify(error),
                        error,
                        action=action,
                        where=self.where,
                        waited=backoff.waited,
                        secrets=self._secrets,
                    ) from self._secrets.cause(error)
            await _sleep(delay, stop)

    def _connected(self) -> s3fs.S3FileSystem:
        with self._lock:
            if self._filesystem is None:
                _keep_credentials_out_of_logs()
                session = AioSession()
                # Servers and proxies that don't know "Expect: 100-continue" would keep each upload waiting.
                session.register("before-call.s3", _without_expect)
                self._filesystem = s3fs.S3FileSystem(**self._settings, session=session)
                self._filesystem.retries = 1  # all retries are ours, with jitter and a deadline
            return self._filesystem

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            filesystem, self._filesystem = self._filesystem, None
        if filesystem is not None and filesystem._s3 is not None:  # noqa: SLF001 - s3fs has no public way to close
            closing = asyncio.run_coroutine_threadsafe(_close(filesystem), filesystem.loop)
            closing.result(timeout=5)

    def __repr__(self) -> str:
        return f"S3Connection({self.where!r})"


async def _watched(attempt: Attempt[T], filesystem: s3fs.S3FileSystem, stall_seconds: float, stop: Stop) -> T:
    """One attempt; ended with StalledError when nothing moves, and with StoppedError soon after `stop()`."""
    beat = Beat()
    task = asyncio.ensure_future(attempt(filesystem, beat))
    try:
        while True:
            done, _ = await asyncio.wait({task}, timeout=_TICK_SECONDS)
            if done:
                return task.result()
            if stop():
                raise StoppedError("interrupted during a request")
            idle = time.monotonic() - beat.at
            if idle > stall_seconds:
                raise StalledError(idle)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=2)
        if task.done() and not task.cancelled():
            task.exception()  # so that asyncio doesn't call it never retrieved


async def _sleep(seconds: float, stop: Stop) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and not stop():  # noqa: ASYNC110 - `stop` belongs to other threads
        await asyncio.sleep(min(left, _TICK_SECONDS))


async def _close(filesystem: s3fs.S3FileSystem) -> None:
    await filesystem._s3creator.__aexit__(None, None, None)  # noqa: SLF001 - as above


def _settings(credentials: Mapping[str, str]) -> dict[str, Any]:
    key, secret = credentials.get("AWS_ACCESS_KEY_ID"), credentials.get("AWS_SECRET_ACCESS_KEY")
    if bool(key) != bool(secret):
        given, missing = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")[:: 1 if key else -1]
        raise ArtifactError(f"the credentials of the artifact store have {given} without {missing}: give both")
    endpoint = credentials.get("AWS_ENDPOINT_URL") or _environment_endpoint()
    if endpoint is not None:
        _check_endpoint(endpoint)
    region = (
        credentials.get("AWS_REGION")
        or os.environ.get("AWS_REGION")
        or os.environ.get("AWS_DEFAULT_REGION")
        or ("us-east-1" if endpoint else None)  # others ask for one, and don't care which
    )
    return {
        "key": key or None,
        "secret": secret or None,
        "token": credentials.get("AWS_SESSION_TOKEN") or None,
        "endpoint_url": endpoint,
        "client_kwargs": {"region_name": region} if region else {},
        "config_kwargs": {
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "read_timeout": SLOW_STALL_SECONDS,
            "retries": {"mode": "standard", "total_max_attempts": 1},
            "max_pool_connections": 32,
            "connector_args": {"socket_factory": _socket},
            # Trailing checksums are Amazon's own; every server checks the SHA-256 of a signed payload.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            "s3": {"payload_signing_enabled": True},
        },
        # fsspec's caches would hold credentials, and listings that others change.
        "skip_instance_cache": True,
        "use_listings_cache": False,
    }


def _socket(address: tuple[Any, ...]) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    return made


def _environment_endpoint() -> str | None:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


def _check_endpoint(endpoint: str) -> None:
    try:
        parts = urlsplit(endpoint)
    except ValueError:
        raise ArtifactError("AWS_ENDPOINT_URL must be an address like https://s3.example.com") from None
    if parts.username is not None or parts.password is not None or parts.query:
        raise ArtifactError("AWS_ENDPOINT_URL must not hold credentials: give them as AWS_ACCESS_KEY_ID and so on")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ArtifactError(f"AWS_ENDPOINT_URL must be an address like https://s3.example.com, got {endpoint!r}")


def _without_expect(params: dict[str, Any], **_: Any) -> None:
    params["headers"].pop("Expect", None)


def _keep_credentials_out_of_logs() -> None:
    # At DEBUG these write whole requests, with session tokens and signatures, into whatever logs the caller has set up.
    for name in ("botocore", "aiobotocore", "s3fs"):
        logger = logging.getLogger(name)
        if logger.level < logging.INFO:
            logger.setLevel(logging.INFO)
