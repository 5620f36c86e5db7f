"""Port-forward as the kubelet serves it over a websocket: channel 0 has data, channel 1 errors, after the port."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import struct
import threading

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BINARY, _CLOSE, _PING, _PONG = 2, 8, 9, 10


def serve(handler, port: int, target: tuple[str, int] | None) -> None:
    """Takes over the connection of an http.server *handler*; *target* is the pod's *port*, None: nobody listens."""
    accept = base64.b64encode(hashlib.sha1(handler.headers["Sec-WebSocket-Key"].encode() + _GUID).digest()).decode()
    handler.send_response(101, "Switching Protocols")
    handler.send_header("Upgrade", "websocket")
    handler.send_header("Connection", "Upgrade")
    handler.send_header("Sec-WebSocket-Accept", accept)
    handler.send_header("Sec-WebSocket-Protocol", "v4.channel.k8s.io")
    handler.end_headers()
    handler.close_connection = True
    lock = threading.Lock()

    def write(channel: int, data: bytes, code: int = _BINARY) -> None:
        with lock:
            handler.wfile.write(_frame(code, bytes((channel,)) + data if code == _BINARY else data))
            handler.wfile.flush()

    for channel in (0, 1):
        write(channel, struct.pack("<H", port))
    if target is None:
        write(1, f"an error occurred forwarding {port}: connection refused".encode())
        return
    with socket.create_connection(target) as pod:
        thread = threading.Thread(target=_back, args=(pod, write), daemon=True)
        thread.start()
        with contextlib.suppress(OSError, EOFError):
            _forth(handler, pod, write)
        with contextlib.suppress(OSError):
            pod.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def _back(pod, write) -> None:
    with contextlib.suppress(OSError):
        while data := pod.recv(32768):
            write(0, data)
        write(0, b"", _CLOSE)


def _forth(handler, pod, write) -> None:
    while True:
        code, data = _read_frame(handler.rfile)
        if code == _CLOSE:
            return
        if code == _PING:
            write(0, data, _PONG)
        elif code == _BINARY and data[:1] == b"\0":
            pod.sendall(data[1:])


def _frame(code: int, data: bytes) -> bytes:
    head = bytes((0x80 | code,))
    if len(data) < 126:
        return head + bytes((len(data),)) + data
    if len(data) < 2**16:
        return head + b"\x7e" + struct.pack(">H", len(data)) + data
    return head + b"\x7f" + struct.pack(">Q", len(data)) + data


def _read_frame(file) -> tuple[int, bytes]:
    first, second = _exactly(file, 2)
    size = second & 0x7F
    if size == 126:
        (size,) = struct.unpack(">H", _exactly(file, 2))
    elif size == 127:
        (size,) = struct.unpack(">Q", _exactly(file, 8))
    mask = _exactly(file, 4) if second & 0x80 else bytes(4)
    data = _exactly(file, size)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return first & 0x0F, (int.from_bytes(data, "big") ^ key).to_bytes(size, "big")


def _exactly(file, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise EOFError
    return data
