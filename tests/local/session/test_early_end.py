"""A worker that is told to end while it waits for its scheduler: as where a cluster is closed as soon as it is made."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from machine import slowdown

CODE = """\
import asyncio, pathlib, sys
from dask_training.runner import worker
options = worker.WorkerOptions(name="w", host="127.0.0.1", port=0, threads=1, memory_limit=0,
                               local_directory=pathlib.Path(sys.argv[2]), startup_timeout=300)
print(asyncio.run(worker.serve(sys.argv[1], options, lambda made: None)))
"""


@pytest.mark.parametrize("answers", [True, False])
def test_it_ends_at_once(tmp_path, answers):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.listen()
        port = server.getsockname()[1] if answers else 1
        connected = threading.Event()
        accepted: list[socket.socket] = []

        def accept() -> None:
            accepted.append(server.accept()[0])
            connected.set()

        if answers:
            threading.Thread(target=accept, daemon=True).start()
        process = subprocess.Popen(
            [sys.executable, "-c", CODE, f"tcp://127.0.0.1:{port}", str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for line in process.stderr:
            if "Waiting to connect" in line:
                break
        assert not answers or connected.wait(20)
        begin = time.monotonic()
        os.kill(process.pid, signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
        assert time.monotonic() - begin < 10 * slowdown()
        assert out.strip() == "True"
        assert process.returncode == 0
        for each in accepted:
            each.close()
