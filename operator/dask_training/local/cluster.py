"""A run's Dask cluster on this machine: one scheduler and n worker processes, the same programs that run in pods."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from dask_training.api import Env
from dask_training.costs import Amounts
from dask_training.runner import channel, dask_environment, verdict
from dask_training.runner.address import write_address
from dask_training.runner.events import DashboardReady, Listener, Output
from dask_training.runner.lifeline import Lifeline
from dask_training.runner.logs import LogFile
from dask_training.runner.memory import MemoryWatch
from dask_training.runner.processes import Exit, RunProcess
from dask_training.runner.supervisor import ClusterFailed, Happening, WorkerEnded
from dask_training.runner.verdict import OutOfMemory
from dask_training.runner.workspace import Workspace

HOST = "127.0.0.1"
_STARTS_BEFORE_GIVING_UP = 3
_MAX_RESTART_DELAY_SECONDS = 2.0
_LONG_ENOUGH_SECONDS = 30.0  # a worker that lived so long starts again at once


@dataclass(frozen=True)
class ClusterSize:
    """How many workers, and of what kind; `memory_limit_bytes` None: no limit."""

    workers: int
    threads: int
    memory_limit_bytes: int | None
    startup_timeout: float
    dashboard_port: int | None


@dataclass
class Usage:
    """What the processes used, of those that have ended: by role, and the peak memory of any worker."""

    by_role: dict[str, Amounts] = field(default_factory=dict)
    peak_worker_memory_bytes: int | None = None

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds of all roles."""
        return sum(used.cpu for used in self.by_role.values())

    def add(self, role: str, ended: Exit) -> None:
        """One process more has ended."""
        self.by_role[role] = self.by_role.get(role, Amounts()).plus(ended.used)


@dataclass
class _Worker:
    name: str
    log: LogFile
    process: RunProcess | None = None
    started: float = 0.0
    connected: bool = False
    failed_starts: int = 0
    quick_ends: int = 0
    memory: OutOfMemory | None = field(default=None)


class LocalProcessCluster:
    """Starts the processes, starts workers again that end, and says through `post` what happens to them."""

    def __init__(
        self,
        size: ClusterSize,
        workspace: Workspace,
        environment: Mapping[str, str],
        lifeline: Lifeline,
        memory_watch: MemoryWatch,
        listener: Listener,
        post: Callable[[Happening], None],
    ) -> None:
        self._size = size
        self._workspace = workspace
        self._environment = environment
        self._lifeline = lifeline
        self._memory_watch = memory_watch
        self._listener = listener
        self._post = post
        self._lock = threading.RLock()
        self._closing = False
        self._timers: set[threading.Timer] = set()
        self.usage = Usage()
        self._scheduler_log = LogFile(workspace.logs / "scheduler.log")
        self._scheduler: RunProcess | None = None
        self._workers = [
            _Worker(name, LogFile(workspace.logs / f"{name}.log"))
            for name in (f"worker-{number}" for number in range(size.workers))
        ]

    def start(self) -> None:
        """Starts all processes at once; the workers wait for the scheduler's address by themselves."""
        command = [sys.executable, "-m", "dask_training.runner.scheduler", "--host", HOST]
        if self._size.dashboard_port is not None:
            command += ["--dashboard-port", str(self._size.dashboard_port)]
        self._scheduler = RunProcess(
            command,
            env=self._environment_of("scheduler"),
            cwd=self._workspace.spill,
            lifeline=self._lifeline,
            on_line=lambda line, _: self._scheduler_log.write(line),
            on_event=self._scheduler_said,
            on_exit=self._scheduler_ended,
        )
        for worker in self._workers:
            self._start_worker(worker)

    def close(self) -> None:
        """Kills all processes: what they hold is not needed any more."""
        with self._lock:
            self._closing = True
            for timer in self._timers:
                timer.cancel()
            processes = [worker.process for worker in self._workers if worker.process]
            processes += [self._scheduler] if self._scheduler else []
        for process in processes:
            process.kill()
        for process in processes:
            process.wait(2.0)
        for log in (self._scheduler_log, *(worker.log for worker in self._workers)):
            log.close()

    def _environment_of(self, role: str) -> dict[str, str]:
        threads = self._size.threads if role == "worker" else 1
        return {
            **self._environment,
            **dask_environment.worker_variables(threads),
            **dask_environment.tls_variables(role, self._workspace.tls),
            Env.ROLE: role,
        }

    def _start_worker(self, worker: _Worker) -> None:
        with self._lock:
            if self._closing:
                return
            worker.started = time.monotonic()
            worker.connected = False
            worker.memory = None
            folder = self._workspace.spill / worker.name
            folder.mkdir(exist_ok=True)
            worker.process = RunProcess(
                self._worker_command(worker.name, folder),
                env=self._environment_of("worker"),
                cwd=folder,
                lifeline=self._lifeline,
                on_line=lambda line, stream: self._worker_printed(worker, line, stream),
                on_event=lambda line: self._worker_said(worker, line),
                on_exit=lambda ended: self._worker_ended(worker, ended),
            )
            limit = self._size.memory_limit_bytes
            if limit is not None:
                death = OutOfMemory(worker.name, limit, "spec.workers.resources.limits.memory")
                self._memory_watch.add(worker.process, limit, lambda _: setattr(worker, "memory", death))

    def _worker_command(self, name: str, folder: Path) -> list[str]:
        return [
            *(sys.executable, "-m", "dask_training.runner.worker"),
            *("--name", name),
            *("--host", HOST),
            *("--threads", str(self._size.threads)),
            *("--memory-limit", str(self._size.memory_limit_bytes or 0)),
            *("--local-directory", str(folder)),
            *("--address-file", str(self._workspace.address_file)),
            *("--startup-timeout", str(self._size.startup_timeout)),
        ]

    def _scheduler_said(self, line: bytes) -> None:
        ready = _ready(line)
        if ready is not None:
            write_address(self._workspace.address_file, ready.address)
            if ready.dashboard:
                self._listener(DashboardReady(url=ready.dashboard))

    def _scheduler_ended(self, ended: Exit) -> None:
        with self._lock:
            self.usage.add("scheduler", ended)
            if self._closing:
                return
        self._post(ClusterFailed(verdict.scheduler_lost(self._scheduler_log.tail(5))))

    def _worker_printed(self, worker: _Worker, line: str, stream: str) -> None:
        worker.log.write(line)
        if stream == "stdout":  # distributed logs to stderr; what tasks print belongs on the screen
            self._listener(Output(line=line, source=worker.name))

    def _worker_said(self, worker: _Worker, line: bytes) -> None:
        if _ready(line) is not None:
            worker.connected = True
            worker.failed_starts = 0

    def _worker_ended(self, worker: _Worker, ended: Exit) -> None:
        with self._lock:
            self.usage.add("workers", ended)
            peak = self.usage.peak_worker_memory_bytes or 0
            self.usage.peak_worker_memory_bytes = max(peak, ended.peak_memory_bytes)
            if self._closing:
                return
            if not worker.connected:
                worker.failed_starts += 1
        if worker.failed_starts >= _STARTS_BEFORE_GIVING_UP:
            lines = worker.log.tail(5)
            outcome = verdict.worker_cannot_start(
                worker.name, tries=worker.failed_starts, memory=worker.memory, last_lines=lines
            )
            self._post(ClusterFailed(outcome))
            return
        worker.log.write(f"[dask-training: {worker.name} ended with {ended.code}; it is started again]")
        self._post(WorkerEnded(worker.name, memory=worker.memory))
        self._start_again(worker)

    def _start_again(self, worker: _Worker) -> None:
        """At once the first time, then with growing delays, so that one that ends at once does not keep a core busy."""
        lived = time.monotonic() - worker.started
        worker.quick_ends = 0 if lived > _LONG_ENOUGH_SECONDS else worker.quick_ends + 1
        delay = min(0.25 * 2 ** (worker.quick_ends - 2), _MAX_RESTART_DELAY_SECONDS) if worker.quick_ends > 1 else 0.0
        timer = threading.Timer(delay, self._start_worker, args=(worker,))
        timer.daemon = True
        with self._lock:
            if not self._closing:
                self._timers.add(timer)
                timer.start()


def _ready(line: bytes) -> channel.Ready | None:
    try:
        message = channel.parse(line)
    except msgspec.DecodeError:
        return None
    return message if isinstance(message, channel.Ready) else None
