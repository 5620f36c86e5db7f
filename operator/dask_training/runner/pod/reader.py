"""The program of a reader's pod: gives a namespace's stored artifacts, read-only, to whoever has the token.

It listens on the pod's own loopback alone: the command line comes through a port-forward.
"""

from __future__ import annotations

import asyncio
import hmac
import http.client
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec
from tornado import web
from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError

from dask_training.api import Env, ExitCode, Port
from dask_training.artifacts import ArtifactStore
from dask_training.artifacts.names import problem_with
from dask_training.errors import ArtifactError, ManifestError, StoreDeniedError
from dask_training.runner.pod.paths import PodPaths
from dask_training.runner.store_credentials import credentials_of, mounted_secret

T = TypeVar("T")

HOST = "127.0.0.1"


class _Handler(web.RequestHandler):
    """What all have in common: the token, and errors as JSON."""

    def initialize(self, store: ArtifactStore, namespace: str, token: str, threads: ThreadPoolExecutor) -> None:
        self._store = store
        self._namespace = namespace
        self._token = token.encode()
        self._threads = threads

    def prepare(self) -> None:
        given = self.request.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(given, b"Bearer " + self._token):
            raise web.HTTPError(401, "the Authorization header must be 'Bearer <token>'")

    def write_error(self, status_code: int, **kwargs: object) -> None:
        information = kwargs.get("exc_info")
        error = information[1] if isinstance(information, tuple) else None
        text = (error.log_message if isinstance(error, web.HTTPError) else None) or http.client.responses.get(
            status_code
        )
        self.finish({"error": text})

    def run_prefix(self) -> str:
        """The run that is asked for, which must be of this namespace."""
        prefix = self.get_query_argument("prefix")
        problem = problem_with(prefix)
        if problem is not None:
            raise web.HTTPError(400, f"prefix: {problem}".replace("%", "%%"))
        if prefix.partition("/")[0] != self._namespace:
            raise web.HTTPError(403, f"only what is below {self._namespace}/ can be read here")
        return prefix

    async def in_thread(self, call: Callable[..., T], *args: Any) -> T:
        """What the blocking call gives; a store's errors as HTTP has them."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call, *args)
        except ManifestError as error:
            raise web.HTTPError(404, str(error).replace("%", "%%")) from error
        except StoreDeniedError as error:
            raise web.HTTPError(403, str(error).replace("%", "%%")) from error
        except ArtifactError as error:
            raise web.HTTPError(502, str(error).replace("%", "%%")) from error


class _Runs(_Handler):
    async def get(self) -> None:
        runs = await self.in_thread(self._store.summaries, self.run_prefix())
        self.set_header("Content-Type", "application/json")
        self.finish(msgspec.json.encode({"runs": runs}, enc_hook=dict))


class _Manifest(_Handler):
    async def get(self) -> None:
        manifest = await self.in_thread(self._store.manifest, self.run_prefix())
        self.set_header("Content-Type", "application/json")
        self.finish(manifest.raw)


class _File(_Handler):
    async def get(self) -> None:
        path = self.get_query_argument("path", strip=False)
        size, pieces = await self.in_thread(self._store.read, self.run_prefix(), path)
        self.set_header("Content-Type", "application/octet-stream")
        self.set_header("Content-Length", str(size))
        try:
            held = b""  # the last piece goes out when all are known to be right
            while (data := await self.in_thread(_next, pieces)) is not None:
                self.write(held)
                await self.flush()
                held = data
            self.finish(held)
        except StreamClosedError:
            return  # the reader went
        except web.HTTPError:
            # Not what the manifest says: too late for another status, so the connection breaks off.
            self.request.connection.close()  # type: ignore[union-attr]
            raise


class _Health(web.RequestHandler):
    def get(self) -> None:
        self.finish("ok")


def _next(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)


def main(paths: PodPaths) -> int:
    """Serves until SIGTERM."""
    namespace, token = os.environ.get(Env.JOB_NAMESPACE, ""), os.environ.get(Env.READER_TOKEN, "")
    if not namespace or not token:
        sys.stderr.write(f"dask-training: {Env.JOB_NAMESPACE} and {Env.READER_TOKEN} must be set\n")
        return ExitCode.USAGE
    credentials = credentials_of(mounted_secret(paths.store_secret), os.environ)
    with ArtifactStore.from_url(os.environ[Env.STORE_URL], credentials=credentials) as store:
        asyncio.run(_serve(store, namespace, token))
    return ExitCode.OK


async def _serve(store: ArtifactStore, namespace: str, token: str) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    with ThreadPoolExecutor(8) as threads:
        given = {"store": store, "namespace": namespace, "token": token, "threads": threads}
        routes = [("/v1/runs", _Runs, given), ("/v1/manifest", _Manifest, given), ("/v1/file", _File, given)]
        server = HTTPServer(web.Application([*routes, ("/healthz", _Health)]))
        server.listen(int(os.environ.get("DASK_TRAINING_READER_PORT", Port.READER)), HOST)
        await ended.wait()
        server.stop()
