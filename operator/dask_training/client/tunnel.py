"""A port of this machine that leads to a port of a pod, through the API server: for programs that want an address."""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from dask_training.client.connection import Connection, core_path
from dask_training.client.portforward import bounded
from dask_training.errors import ForbiddenError, UnreachableError

_CHUNK_BYTES: Final = 256 * 1024
_DATA, _ERROR = 0, 1  # channels of the first port
# A connection on which nobody answers is closed, so that its user hears of it and connects again.
_DEAD_SECONDS: Final = 30
_ACCEPT_PAUSE_SECONDS: Final = 0.2


class Tunnel:
    """Listens on 127.0.0.1 and carries each connection to *port* of the pod that *pod* names at that time.

    A connection that breaks stays broken; the next one is carried on a way of its own. `close()` ends them all.
    """

    def __init__(self, connection: Connection, namespace: str, pod: Callable[[], str], port: int) -> None:
        self._connection = connection
        self._namespace = namespace
        self._pod = pod
        self._remote = port
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self.error = ""
        """Why the last connection that could not be carried was not; empty after one that was."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        """Where it listens."""
        threading.Thread(target=self._accept, name=f"tunnel to port {port}", daemon=True).start()

    def close(self) -> None:
        """Listen no more, and break all connections."""
        self._closed.set()
        # Closing alone does not end another thread's accept().
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Break the connections that there are; new ones are carried."""
        with self._lock:
            sockets = list(self._open)
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                local, _ = self._listener.accept()
            except OSError as error:
                if self._closed.is_set() or error.errno in {errno.EBADF, errno.EINVAL}:
                    return
                time.sleep(_ACCEPT_PAUSE_SECONDS)  # too many open files, say
                continue
            threading.Thread(target=self._carry, args=(local,), name="tunnel", daemon=True).start()

    def _carry(self, local: socket.socket) -> None:
        with self._lock:
            self._open.add(local)
        websocket = None
        try:
            websocket = bounded(self._reach)
            self.error = ""
            local.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _Carrier(local, websocket).run()
        except Exception as error:  # noqa: BLE001 - whatever breaks it, its user hears that it is broken
            self.error = str(error)
        finally:
            with self._lock:
                self._open.discard(local)
            local.close()
            if websocket is not None:
                with contextlib.suppress(Exception):
                    websocket.shutdown()

    def _reach(self) -> Any:
        """A websocket to the port of the pod."""
        from kubernetes.stream.ws_client import create_websocket  # noqa: PLC0415 - takes most of a second
        from websocket import WebSocketBadStatusException  # noqa: PLC0415 - comes with kubernetes

        client, pod = self._connection.api_client, self._pod()
        path = f"{core_path(self._namespace, 'pods', pod, 'portforward')}"
        headers: dict[str, str] = {}
        client.update_params_for_auth(headers, [], ["BearerToken"], path, "GET", None)
        headers = {name.lower(): value for name, value in headers.items()}
        headers["sec-websocket-protocol"] = "v4.channel.k8s.io"
        url = f"{self._connection.server}{path}?ports={self._remote}".replace("http", "ws", 1)
        try:
            websocket = create_websocket(client.configuration, url, headers)  # type: ignore[no-untyped-call]
        except WebSocketBadStatusException as error:
            if error.status_code == 403:
                raise ForbiddenError(
                    f"you may not forward ports to pods in namespace {self._namespace}: "
                    "ask for the verbs get and create on pods/portforward"
                ) from error
            said = str(error.resp_body or b"", "utf-8", "replace") if isinstance(error.resp_body, bytes) else str(error)
            raise UnreachableError(f"the API server does not forward to pod {pod}: {said}") from error
        _notice_death(websocket.sock)
        return websocket


class _Carrier:
    """Carries one connection's bytes, in one thread: a TLS connection must not be used by two at once."""

    def __init__(self, local: socket.socket, websocket: Any) -> None:
        self._local = local
        self._websocket = websocket
        self._begun: set[int] = set()

    def run(self) -> None:
        """Until either side ends; raises OSError or the websocket's own errors if it breaks."""
        # Who is busy may take its time to read; who is gone, the kernel notices.
        self._local.settimeout(None)
        self._websocket.settimeout(None)
        remote = self._websocket.sock
        with selectors.DefaultSelector() as selector:
            selector.register(self._local, selectors.EVENT_READ)
            selector.register(remote, selectors.EVENT_READ)
            while True:
                # What the TLS layer has read already, no selector tells of.
                decrypted = isinstance(remote, ssl.SSLSocket) and remote.pending() > 0
                ready = {key.fileobj for key, _ in selector.select(0 if decrypted else None)}
                if (decrypted or remote in ready) and not self._receive():
                    return
                if self._local in ready and not self._send():
                    return

    def _send(self) -> bool:
        data = self._local.recv(_CHUNK_BYTES)
        if data:
            self._websocket.send_binary(bytes((_DATA,)) + data)
        return bool(data)

    def _receive(self) -> bool:
        from websocket import ABNF  # noqa: PLC0415 - comes with kubernetes

        code, frame = self._websocket.recv_data_frame(control_frame=True)
        if code == ABNF.OPCODE_CLOSE:
            return False
        if code != ABNF.OPCODE_BINARY or not frame.data:
            return True
        channel, data = frame.data[0], frame.data[1:]
        if channel not in self._begun:  # a channel begins with the number of its port
            self._begun.add(channel)
            return True
        if channel == _ERROR:
            raise UnreachableError(data.decode("utf-8", "replace").strip())
        self._local.sendall(data)
        return True


def _notice_death(connection: Any) -> None:
    """A network that is gone, or a machine that slept: the kernel says so within a minute, not after hours."""
    options = [(socket.SOL_SOCKET, "SO_KEEPALIVE", 1), (socket.IPPROTO_TCP, "TCP_NODELAY", 1)]
    options += [(socket.IPPROTO_TCP, "TCP_KEEPIDLE", 10), (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 5)]
    options += [(socket.IPPROTO_TCP, "TCP_KEEPCNT", 4), (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", _DEAD_SECONDS * 1000)]
    for level, name, value in options:
        if hasattr(socket, name):  # not every system has each
            with contextlib.suppress(OSError):
                connection.setsockopt(level, getattr(socket, name), value)
