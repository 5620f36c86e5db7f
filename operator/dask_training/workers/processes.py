"""Workers as processes of this machine: the same functions, states, output and variables as on a cluster."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Collection
from pathlib import Path

import msgspec

from dask_training.api import Env
from dask_training.runner.console import NO_R, STARTED, cpu_variables
from dask_training.runner.lifeline import Lifeline
from dask_training.runner.memory import MemoryWatch
from dask_training.runner.processes import Exit, RunProcess, end_all
from dask_training.workers import output
from dask_training.workers.launcher import ended_badly, label_of, launch_document
from dask_training.workers.records import Status, Table, Worker, now
from dask_training.workers.request import GIBIBYTE, Request
from dask_training.workers.session import LOCALHOST, Identity, port_variables, worker_variables

_GRACE_SECONDS = 2.0
_PROGRAM = ("-m", "dask_training.runner.console")


class Machine:
    """What all workers of a session on this machine share: they end when this process does, however that comes."""

    def __init__(self) -> None:
        self.lifeline = Lifeline()
        self.memory = MemoryWatch()
        self.pid = os.getpid()
        os.register_at_fork(after_in_child=self._let_go)

    def _let_go(self) -> None:
        """A process that this one forks must not hold the lifeline."""
        with contextlib.suppress(OSError):
            self.lifeline.let_go()


@functools.cache
def machine() -> Machine:
    """This machine's, made when the first worker is launched."""
    return Machine()


class ProcessGroup:
    """The processes of one call."""

    def __init__(self, request: Request, identity: Identity, table: Table, project: Path) -> None:
        self._request = request
        self._identity = identity
        self._table = table
        self._project = project
        self._machine = machine()
        self._lock = threading.Lock()
        self._stopping: set[str] = set()
        self._processes: dict[str, RunProcess] = {}
        self._over_memory: dict[str, int] = {}
        self._last_error: dict[str, str] = {}
        name = f"{request.name}-{secrets.token_hex(3)}"
        self.ids = tuple(label_of(name, index) for index in range(request.n))

    def start(self) -> None:
        """Start all processes. Raises RuntimeError if one can't be started; then none is left."""
        try:
            for each in self.ids:
                self._start(each)
        except OSError as error:
            self.close()
            self._table.drop(self.ids)
            raise RuntimeError(f"{len(self.ids)} workers can't be started on this machine: {error}") from error

    def stop(self, ids: Collection[str]) -> None:
        """End these processes, with all they started: SIGTERM, and SIGKILL after 2 s."""
        with self._lock:
            self._stopping.update(ids)
        started = [each for each in ids if each in self._processes]
        end_all([self._processes[each] for each in started], grace=_GRACE_SECONDS)
        self._table.wait(started, lambda worker: worker.is_final, _GRACE_SECONDS)

    def begin_close(self) -> None:
        """Send SIGTERM to all processes."""
        if os.getpid() != self._machine.pid:
            return
        with self._lock:
            self._stopping.update(self.ids)
        for process in self._processes.values():
            process.signal(signal.SIGTERM)

    def close(self) -> None:
        """As `stop`, for all."""
        if os.getpid() == self._machine.pid:
            self.stop(self.ids)

    def _start(self, worker_id: str) -> None:
        ports = _free_ports(3)
        self._table.put(
            Worker(
                id=worker_id,
                label=worker_id,
                status=Status.STARTING,
                created_at=now(),
                app_url=f"http://{LOCALHOST}:{ports[0]}/",
            )
        )
        file = _written(launch_document(self._request))
        process = RunProcess(
            [sys.executable, *_PROGRAM, "--remove", str(file)],
            env=self._environment(worker_id, ports),
            cwd=self._project,
            lifeline=self._machine.lifeline,
            on_line=lambda line, stream: self._printed(worker_id, line, stream),
            on_event=lambda line: self._said(worker_id, line),
            on_exit=lambda ended: self._ended(worker_id, ended, file),
        )
        self._processes[worker_id] = process
        limit = self._request.memory_bytes
        self._machine.memory.add(process, limit, lambda used: self._over_memory.__setitem__(worker_id, used))

    def _environment(self, worker_id: str, ports: list[int]) -> dict[str, str]:
        nested = {Env.LIFELINE_FD, Env.EVENTS_FD}
        return {
            **{name: value for name, value in os.environ.items() if name not in nested},
            **cpu_variables(self._request.threads),
            **worker_variables(self._identity),
            "CDSW_MASTER_IP": LOCALHOST,
            "CML_MASTER_IP": LOCALHOST,
            **port_variables(*ports),
            **self._request.env,
            "CDSW_ENGINE_ID": worker_id,
            "CDSW_IP_ADDRESS": LOCALHOST,
        }

    def _said(self, worker_id: str, line: bytes) -> None:
        if line == STARTED:
            self._table.update(worker_id, status=Status.RUNNING, running_at=now(), ip_address=LOCALHOST)

    def _printed(self, worker_id: str, line: str, stream: str) -> None:
        output.show(worker_id, line)
        if stream == "stderr" and line.strip():
            self._last_error[worker_id] = line.strip()

    def _ended(self, worker_id: str, ended: Exit, file: Path) -> None:
        file.unlink(missing_ok=True)  # where it was stopped before it had read it
        code = ended.code if ended.code >= 0 else 128 - ended.code
        with self._lock:
            stopped = worker_id in self._stopping
        status = Status.STOPPED if stopped else (Status.FAILED if code else Status.SUCCEEDED)
        message = self._last_error.get(worker_id, "") if status is Status.FAILED else ""
        if status is Status.FAILED and (used := self._over_memory.get(worker_id)):
            limit = self._request.memory_bytes / GIBIBYTE
            message = f"killed: it used {used / GIBIBYTE:.2f} GB, more than memory={limit:g}"
        worker = self._table.get(worker_id)
        if worker is None or worker.is_final:
            return
        worker = msgspec.structs.replace(
            worker, status=status, finished_at=now(), exit_code=None if stopped else code, message=message
        )
        if status is Status.FAILED:
            output.note(ended_badly(worker))  # before whoever awaits it goes on
        self._table.put(worker)


def launch(request: Request, identity: Identity, table: Table, project: Path) -> ProcessGroup:
    """Start the workers here. Raises RuntimeError if this machine can't run them."""
    if request.kernel == "r" and shutil.which("Rscript") is None:
        raise RuntimeError(NO_R.format(where="on this machine"))
    group = ProcessGroup(request, identity, table, project)
    group.start()
    return group


def _written(document: bytes) -> Path:
    """A file that its worker removes: the code may be longer than an argument can be."""
    descriptor, name = tempfile.mkstemp(prefix="dask-training-worker-", suffix=".json")
    with os.fdopen(descriptor, "wb") as file:
        file.write(document)
    return Path(name)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((LOCALHOST, 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
