"""The same cluster as processes of this machine, for where there is no Kubernetes."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from dask_training.client.packing import PACKAGES_ZIP
from dask_training.errors import OptionError
from dask_training.model.quantity import parse_memory
from dask_training.session.backend import Access
from dask_training.session.options import Options

_LONGEST_LOOK_SECONDS: Final = 5.0


class Local:
    """A distributed.LocalCluster with one process for each worker, and the time-outs that pods would have."""

    def __init__(self, options: Options) -> None:
        self.name = options.name or f"local-{os.urandom(3).hex()}"
        self.wait = options.wait
        self.shutdown_on_close = True
        self._options = options
        self._cluster: Any = None
        self._folder: Path | None = None
        self._watching: asyncio.Task[None] | None = None
        _check_packages(options)

    async def open(self, say: Callable[[str], None], on_end: Callable[[str, str], None]) -> Access:
        """See `Backend`."""
        from distributed import LocalCluster  # noqa: PLC0415 - takes a while; only here

        from dask_training.session.spawning import QuietNanny, spare_main  # noqa: PLC0415 - as above

        spare_main()
        options = self._options
        say(f"Starting {options.replicas} workers on this machine")
        for notice in _not_here(options):
            say(notice)
        self._folder = Path(tempfile.mkdtemp(prefix="dask-training-"))
        preload = self._write_code(self._folder / "code")
        try:
            self._cluster = await LocalCluster(
                name=self.name,
                n_workers=options.replicas,
                threads_per_worker=options.nthreads,
                memory_limit=parse_memory(options.memory) if options.memory else "auto",
                worker_class=QuietNanny,
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"idle_timeout": f"{options.idle_seconds}s" if options.idle_seconds else None},
                asynchronous=True,
                env=dict(options.env),
                local_directory=str(self._folder),
                **({"preload": [preload]} if preload else {}),
            )
        except BaseException:
            self._remove_folder()
            raise
        if options.is_adaptive:
            await self.adapt(options.minimum, options.maximum)
        self._watching = asyncio.ensure_future(self._watch(on_end))
        address, info = str(self._cluster.scheduler_address), self._cluster.scheduler_info
        return Access(address, self._cluster.security, info)

    async def problem(self) -> str:
        """See `Backend`."""
        return ""

    async def scale(self, count: int) -> None:
        """See `Backend`."""
        if self._cluster._adaptive is not None:  # noqa: SLF001 - as distributed's own widget does
            self._cluster._adaptive.stop()  # noqa: SLF001 - as above
        self._cluster.scale(count)

    async def adapt(self, minimum: int, maximum: int) -> None:
        """See `Backend`; distributed decides."""
        self._cluster.adapt(minimum=minimum, maximum=maximum)

    async def logs(self, *, scheduler: bool, workers: bool | Collection[str]) -> Mapping[str, str] | None:  # noqa: ARG002 - none
        """See `Backend`."""
        return None

    def dashboard(self, address: str) -> tuple[str, int] | None:  # noqa: ARG002 - as the scheduler says
        """See `Backend`."""
        return None

    def cut_off(self) -> None:
        """See `Backend`; `_watch` sees it."""

    async def close(self, *, shutdown: bool) -> None:  # noqa: ARG002 - no process outlives this one
        """See `Backend`."""
        if self._watching is not None and self._watching is not asyncio.current_task():
            self._watching.cancel()
        if self._cluster is not None:
            await self._cluster.close()
        self._remove_folder()

    def release(self) -> None:
        """See `Backend`; the processes end with this one."""
        self._remove_folder()

    def abandon(self) -> None:
        """See `Backend`."""
        self._remove_folder()

    async def _watch(self, on_end: Callable[[str, str], None]) -> None:
        """Ends the cluster when nobody has been connected to it for so long, or its deadline has come."""
        from distributed.core import Status  # noqa: PLC0415 - as above

        options, scheduler = self._options, self._cluster.scheduler
        limits = [limit for limit in (options.idle_seconds, options.no_client_seconds) if limit]
        pause = min([_LONGEST_LOOK_SECONDS, *(limit / 5 for limit in limits)])
        start = alone_since = time.monotonic()
        while True:
            await asyncio.sleep(pause)
            now = time.monotonic()
            # The scheduler counts itself among its clients.
            if any(client != "fire-and-forget" for client in scheduler.clients):
                alone_since = now
            if scheduler.status in (Status.closing, Status.closed):
                on_end("IdleTimeout", f"no task for {options.idle_seconds} s (idle_timeout)")
            elif options.no_client_seconds and now - alone_since >= options.no_client_seconds:
                on_end("IdleTimeout", f"no client for {options.no_client_seconds} s (no_client_timeout)")
            elif options.deadline_seconds and now - start >= options.deadline_seconds:
                on_end("DeadlineExceeded", f"it has run for {options.deadline_seconds} s (active_deadline)")
            else:
                continue
            return

    def _write_code(self, folder: Path) -> str:
        """Puts the code where the workers import it from, as pods have it in /code; returns what they run first."""
        if not self._options.code:
            return ""
        folder.mkdir()
        for name, content in self._options.code.items():
            (folder / name).write_bytes(content)
        paths = [str(folder / PACKAGES_ZIP), str(folder)]
        return f"import sys\nsys.path[:0] = {paths!r}\n"

    def _remove_folder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _check_packages(options: Options) -> None:
    """Packages are not installed behind the user's back; raises OptionError for those that are missing."""
    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415 - comes with dask

    for package in options.packages:
        try:
            wanted = Requirement(package)
        except InvalidRequirement:
            continue  # a file or an address: pip would know
        try:
            there = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            there = ""
        if not there or not wanted.specifier.contains(there, prereleases=True):
            found = f"version {there} is installed" if there else "it is not installed"
            raise OptionError(f"packages: {package} is wanted, {found}: on this machine, run pip install '{package}'")


def _not_here(options: Options) -> list[str]:
    """What processes of this machine can't have."""
    notices = []
    if options.secrets:
        notices.append(
            f"Without Kubernetes there are no Secrets ({', '.join(options.secrets)}): set their variables here"
        )
    if options.gpu:
        notices.append("Without Kubernetes GPUs are not shared out: all workers see all GPUs of this machine")
    return notices
