"""A real S3-compatible server, and a proxy before it that cuts, delays, refuses and counts."""

import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

import pytest
from machine import free_port, give_up_at

from dask_training.artifacts import ArtifactStore
from dask_training.artifacts.s3_storage import S3Storage

KEY = "AKIDCANARY4711"
SECRET = "canary/secret+4711"
PART_BYTES = 64 * 1024  # small, so that a file of a few hundred kB is a multipart upload


class Server:
    """`rclone serve s3` on a free port of this machine, with `bucket` in the folder `root`.

    It caches listings, so tests look into `root` but change objects through the API alone. (Without its cache,
    --dir-cache-time 0s, rclone 1.75.2 locks up under parallel requests.)
    """

    def __init__(self, root: Path, log: Path) -> None:
        self.root = root
        (root / "bucket").mkdir(parents=True)
        self.port = free_port()
        binary = Path(sysconfig.get_path("scripts")) / "rclone"
        command = [str(binary), "serve", "s3", "--addr", f"127.0.0.1:{self.port}", "--auth-key", f"{KEY},{SECRET}"]
        command += ["--config", str(log.with_suffix(".conf")), str(root)]
        self._log = log.open("wb")
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        deadline = give_up_at(20)
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.05)
        self.stop()
        pytest.fail(f"rclone didn't start: {log.read_text()}")

    def objects(self, prefix: str) -> set[str]:
        """The keys below `prefix` that readers of the bucket see."""
        folder = self.root / "bucket" / prefix
        files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        return {name for name in files if ".rclone_temp" not in name}

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)
        self._log.close()


class Proxy:
    """Forwards TCP connections to `port`, until it is told otherwise.

    `cut_after`: bytes towards the server (of all connections together) after which connections are reset; `forever`:
    and new ones too. `answers`: status lines with which the next requests are answered instead. `stall`: connections
    are accepted, and nothing else. `on_bytes`: called once when so many bytes have come.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._lock = threading.Lock()
        self._listener = socket.socket()
        # What lies in buffers can't be told from what was sent, so let them be small.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.port = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self.reset()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def reset(self) -> None:
        """As at the start; open connections are closed."""
        with self._lock:
            self.cut_after: int | None = None
            self.forever = False
            self.cuts = 0
            self.answers: list[bytes] = []
            self.stall = 0
            self.delay = 0.0
            self.sent = 0
            self.requests = 0
            self.on_bytes: tuple[int, object] | None = None
        self.drop()

    def drop(self) -> None:
        """Reset all connections."""
        with self._lock:
            for connection in list(self._open):
                _reset(connection)
            self._open.clear()

    def close(self) -> None:
        # shutdown, since a thread that waits in accept() isn't woken by close().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(client)
                thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
                self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self.forever and self.cuts:
                return _reset(client)
            if self.stall:
                self.stall -= 1
                while client.recv(65536):  # takes what it gets, and never answers
                    pass
                return None
            if self.answers:
                return self._answer(client)
            self._forward(client)
        with self._lock:
            self._open.discard(client)
        client.close()
        return None

    def _answer(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            data = client.recv(65536)
            if not data:
                return client.close()
            head += data
        head, _, body = head.partition(b"\r\n\r\n")
        lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        left = int(lengths[0]) - len(body) if lengths else 0
        while left > 0:
            left -= len(client.recv(65536)) or left
        with self._lock:
            self.requests += 1
            status = self.answers.pop(0) if self.answers else b"503 Slow Down"
        client.sendall(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        return client.close()

    def _forward(self, client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self._target)) as server:
            back = threading.Thread(target=_pump, args=(server, client), daemon=True)
            back.start()
            with self._lock:
                self._threads.append(back)
            try:
                while data := client.recv(8192):
                    time.sleep(self.delay)
                    if not self._passes(client, server, data):
                        return
            finally:
                with contextlib.suppress(OSError):
                    server.shutdown(socket.SHUT_RDWR)
                back.join(5)

    def _passes(self, client: socket.socket, server: socket.socket, data: bytes) -> bool:
        with self._lock:
            before, self.sent = self.sent, self.sent + len(data)
            called = self.on_bytes if self.on_bytes and self.on_bytes[0] <= self.sent else None
            if called:
                self.on_bytes = None
            limit = self.cut_after
        if called:
            called[1]()
        if limit is not None and self.sent >= limit:
            with self._lock:
                self.cuts += 1
                if not self.forever:
                    self.cut_after = None
            server.sendall(data[: max(0, limit - before)])
            _reset(server)
            _reset(client)
            return False
        server.sendall(data)
        return True


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def _reset(connection: socket.socket) -> None:
    """Close with RST, as a crashed peer or a firewall does."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    """No credentials or proxies of the machine's."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A running server."""
    folder = tmp_path_factory.mktemp("s3")
    server = Server(folder / "root", folder / "rclone.log")
    yield server
    server.stop()


@pytest.fixture
def make_server(tmp_path):
    """Starts further servers on folders."""
    made = []

    def make(root: Path) -> Server:
        made.append(Server(root, tmp_path / f"rclone{len(made)}.log"))
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.fixture
def proxy(server):
    """A proxy before the server."""
    proxy = Proxy(server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def credentials():
    """Makes credentials for the server at a port."""

    def make(port: int, **other: str) -> dict[str, str]:
        endpoint = f"http://127.0.0.1:{port}"
        return {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": endpoint} | other

    return make


@pytest.fixture
def s3_store(server, credentials):
    """Makes stores in the bucket, with small parts; all are closed at the end."""
    made = []

    def make(port: int | None = None, *, deadline: float = 20.0, bucket: str = "bucket", stall: float | None = None):
        known = credentials(port or server.port)
        storage = S3Storage(bucket, "runs", known, retry_deadline_seconds=deadline, part_bytes=PART_BYTES)
        if stall is not None:
            storage._connection.stall_seconds = stall
        made.append(ArtifactStore(storage))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def run_folder(tmp_path):
    """A run's files: small ones, an empty one, one in a folder, and one of several parts."""
    folder = tmp_path / "run"
    (folder / "logs").mkdir(parents=True)
    (folder / "model.joblib").write_bytes(os.urandom(4 * PART_BYTES + 1))
    (folder / "metrics.json").write_text('{"accuracy": 0.93}')
    (folder / "empty").touch()
    (folder / "logs" / "runner.log").write_text("line\n" * 1000)
    (folder / "größe & mehr %20+?#.txt").write_text("odd name")
    return folder


ZYGOTE = """
import json, os, signal, sys, threading, warnings
sys.stdout.reconfigure(line_buffering=True)
import s3fs
from pathlib import Path
from dask_training.artifacts import ArtifactStore
from dask_training.artifacts.file_storage import FileStorage
from dask_training.artifacts.s3_storage import S3Storage

def die_at(count):
    # SIGKILL just before or after the system call that is number `count` of those that change a file system.
    calls, lock = 0, threading.Lock()
    def counted(function):
        def call(*args, **kwargs):
            nonlocal calls
            with lock:
                calls += 1
                number = calls
            if number == count and count % 2:
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*args, **kwargs)
            if number == count:
                os.kill(os.getpid(), signal.SIGKILL)
            return result
        return call
    for name in ("write", "fsync", "rename", "mkdir", "unlink"):
        setattr(os, name, counted(getattr(os, name)))
    return lambda: calls

for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        if order["kind"] == "s3":
            storage = S3Storage("bucket", "runs", order["credentials"], retry_deadline_seconds=5,
                                part_bytes=order["part_bytes"])
        else:
            storage = FileStorage(Path(order["root"]), retry_deadline_seconds=5)
            storage.threads = order.get("threads", 8)
        calls = die_at(order["die_at"])
        ArtifactStore(storage).store(Path(order["folder"]), prefix=order["prefix"], size_limit_bytes=None)
        Path(order["done"]).write_text(str(calls()))
        os._exit(0)
    print(child)
    print(os.waitpid(child, 0)[1])
"""


class Zygote:
    """Processes that store a folder, forked from one that has imported everything already."""

    def __init__(self, tmp_path: Path) -> None:
        self._done = tmp_path / "done"
        self._process = subprocess.Popen(
            [sys.executable, "-c", ZYGOTE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, **order) -> int:
        """Begin; the pid."""
        self._done.unlink(missing_ok=True)
        self._process.stdin.write(json.dumps({"die_at": 0, "done": str(self._done), **order}) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def ended(self) -> int | None:
        """Wait; the number of system calls that changed a file system, or None if it was killed."""
        status = int(self._process.stdout.readline())
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            return None
        assert status == 0
        return int(self._done.read_text())

    def stop(self) -> None:
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


@pytest.fixture
def zygote(tmp_path):
    """A source of processes that can be killed."""
    zygote = Zygote(tmp_path)
    yield zygote
    zygote.stop()


@pytest.fixture
def mounted(tmp_path):
    """Mounts a tmpfs with the given options, or returns None where this user may not mount."""
    mounts = []

    def mount(name: str, options: str) -> Path | None:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        if shutil.which("mount") is None:
            return None
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False
        )
        if done.returncode != 0:
            return None
        mounts.append(folder)
        return folder

    yield mount
    for folder in reversed(mounts):
        subprocess.run(["umount", folder], check=True)
