"""A port of this machine that leads to a pod's, through the API server."""

from __future__ import annotations

import hashlib
import os
import socket
import socketserver
import threading
import time

import pytest
from machine import give_up_at, slowdown

from dask_training.client.connection import Connection
from dask_training.client.tunnel import Tunnel

POD, PORT = "mine-scheduler", 8786


class Echo(socketserver.BaseRequestHandler):
    """Gives back what it gets; `hello` first."""

    def handle(self) -> None:
        self.request.sendall(b"hello")
        while data := self.request.recv(65536):
            self.request.sendall(data)


@pytest.fixture
def echo(api):
    """Stands for the pod's port."""
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    api.ports[POD, PORT] = server.server_address
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def tunnel(api):
    connection = Connection()
    made = Tunnel(connection, "default", lambda: POD, PORT)
    yield made
    made.close()
    connection.close()


def connect(tunnel) -> socket.socket:
    return socket.create_connection(("127.0.0.1", tunnel.port), timeout=20 * slowdown())


def exactly(sock, count: int) -> bytes:
    data = bytearray()
    while len(data) < count and (part := sock.recv(count - len(data))):
        data += part
    return bytes(data)


def test_bytes_come_whole_in_both_directions(echo, tunnel):
    sent = os.urandom(20_000_000)
    with connect(tunnel) as sock:
        assert exactly(sock, 5) == b"hello"  # before we say anything
        writer = threading.Thread(target=sock.sendall, args=(sent,))
        writer.start()
        got = exactly(sock, len(sent))
        writer.join()
    assert hashlib.sha256(got).digest() == hashlib.sha256(sent).digest()
    assert tunnel.error == ""


def test_several_connections_at_once(echo, tunnel):
    socks = [connect(tunnel) for _ in range(8)]
    for number, sock in enumerate(socks):
        sock.sendall(f"hello {number}".encode())
    for number, sock in reversed(list(enumerate(socks))):
        assert exactly(sock, 12) == f"hellohello {number}".encode()
        sock.close()


def test_one_that_is_cut_is_told_and_the_next_is_carried(echo, tunnel):
    with connect(tunnel) as sock:
        assert exactly(sock, 5) == b"hello"
        tunnel.cut()
        assert exactly(sock, 1) == b""
    with connect(tunnel) as sock:
        assert exactly(sock, 5) == b"hello"


def test_a_pod_that_ends_the_connection_ends_it_here(api, tunnel):
    with socket.create_server(("127.0.0.1", 0)) as server:
        api.ports[POD, PORT] = server.getsockname()
        with connect(tunnel) as sock:
            pod, _ = server.accept()
            pod.sendall(b"bye")
            pod.close()
            assert exactly(sock, 10) == b"bye"


@pytest.mark.parametrize(
    ("ports", "said"),
    [
        ({}, "the API server does not forward to pod mine-scheduler"),
        ({(POD, 1): ("127.0.0.1", 1)}, "connection refused"),
    ],
)
def test_what_can_t_be_reached_ends_the_connection_and_is_remembered(api, tunnel, ports, said):
    api.ports.update(ports)
    with connect(tunnel) as sock:
        assert exactly(sock, 1) == b""
    deadline = give_up_at(5)
    while said not in tunnel.error:
        assert time.monotonic() < deadline, tunnel.error
        time.sleep(0.01)


def test_who_may_not_forward_is_told_which_verbs(api, echo, tunnel):
    api.faults.append(("GET", "portforward", 403, {"reason": "Forbidden", "message": "no"}))
    with connect(tunnel) as sock:
        assert exactly(sock, 1) == b""
    deadline = give_up_at(5)
    while "ask for the verbs get and create on pods/portforward" not in tunnel.error:
        assert time.monotonic() < deadline, tunnel.error
        time.sleep(0.01)


def test_after_its_end_nobody_is_let_in(echo, tunnel):
    sock = connect(tunnel)
    assert exactly(sock, 5) == b"hello"
    tunnel.close()
    assert exactly(sock, 1) == b""
    sock.close()
    with pytest.raises(OSError, match="refused"):
        connect(tunnel)
