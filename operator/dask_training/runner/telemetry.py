"""The supervisor's own connection to the scheduler: how many workers there are, and the reports that stay."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import html
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dask_training.errors import StartupDeadlineError
from dask_training.runner.address import scheduler_address
from dask_training.runner.run_summary import ClusterFacts
from dask_training.runner.versions import Comparison, packages_of

_POLL_SECONDS = 0.25
_RPC_SECONDS = 10.0
_LOOK_SECONDS = 5.0
_ASKED_AT_ONCE = 50  # workers, for their versions: the scheduler connects to each
_FACTS_SECONDS = 10.0
_REPORT_SECONDS = 20.0  # for each of the reports, which the scheduler makes one after the other


@dataclass(frozen=True)
class ClusterReport:
    """What a cluster said at its end: versions on scheduler and workers as far as known, and what was counted there."""

    versions: Mapping[str, Any] = field(default_factory=dict)
    facts: ClusterFacts | None = None


async def profile_page(dask_scheduler: Any, start: float) -> str:
    """The profile of the workers since `start`, as a page; runs on the scheduler, which has bokeh imported already."""
    from bokeh.embed import file_html  # noqa: PLC0415 - slow to import
    from bokeh.resources import CDN  # noqa: PLC0415
    from distributed import profile  # noqa: PLC0415

    state = await dask_scheduler.get_profile(start=start)
    figure, _ = profile.plot_figure(profile.plot_data(state), sizing_mode="stretch_both")
    return file_html(figure, CDN, "Profile")


class Telemetry:
    """Connects once the scheduler is up, then calls `on_workers` with the number of workers whenever it changes."""

    def __init__(
        self, address_file: Path | None, tls: Path, on_workers: Callable[[int], None], *, timeout: float
    ) -> None:
        self._address_file = address_file
        self._tls = tls
        self._on_workers = on_workers
        self._timeout = timeout
        self._client: Any = None
        self._facts: ClusterFacts | None = None
        self._seen = -1
        self._comparison: Comparison | None = None
        self._on_difference: Callable[[str], None] = lambda _: None
        self._compared: set[str] = set()
        self._asking: concurrent.futures.Future[None] | None = None
        self._connecting = threading.Event()  # set when that is over, with a client or without one
        self._closed = threading.Event()
        self._started = time.time()
        self._thread = threading.Thread(target=self._follow, name="telemetry", daemon=True)
        self._thread.start()

    def compare(self, comparison: Comparison, on_difference: Callable[[str], None]) -> None:
        """From now on asks the scheduler, and each worker that comes, for its versions, and hands what differs on."""
        self._on_difference = on_difference
        self._comparison = comparison

    def write_reports(self, folder: Path, *, reachable: bool = True) -> ClusterReport:
        """Writes `performance_report.html` and `profile.html`; where there is no scheduler any more, they say so.

        A scheduler that is not `reachable` is not waited for.
        """
        if self._client is None and reachable:
            self._connecting.wait(_RPC_SECONDS)
        found: Sequence[Any] = (ConnectionError("there is none"),) * 3
        if self._client is not None and reachable:
            try:
                found = self._client.sync(self._fetch, callback_timeout=_FACTS_SECONDS + _REPORT_SECONDS + 1)
            except Exception as error:  # noqa: BLE001 - a report must not decide how a run ends
                found = (error,) * 3
        performance, profile, versions = found
        _write(folder / "performance_report.html", "Performance report", performance)
        _write(folder / "profile.html", "Profile", profile)
        kept: dict[str, Any] = {}
        if not isinstance(versions, BaseException):
            kept = {role: versions[role] for role in ("scheduler", "workers")}
        if self._comparison is not None:
            kept["differences"] = self._comparison.summary
        return ClusterReport(kept, self._facts)

    def has_worked(self) -> bool | None:
        """Whether any task has come to the workers until now; None where the scheduler does not tell."""
        try:
            return bool(self._client.sync(self._any_task, callback_timeout=_LOOK_SECONDS))
        except Exception:  # noqa: BLE001 - no client yet, or none any more: what it would have said is not missed
            return None

    async def _any_task(self) -> bool:
        from dask_training.runner import accounting  # noqa: PLC0415 - distributed reads its settings once

        if any((await self._client.scheduler.processing()).values()):
            return True
        tasks = (await accounting.read(self._client)).tasks
        return tasks.done + tasks.failed > 0

    async def _fetch(self) -> Sequence[Any]:
        """What comes in milliseconds first: the reports keep the scheduler busy for much longer."""
        await self._fetch_facts()
        return await self._fetch_reports()

    async def _fetch_facts(self) -> None:
        from dask_training.runner import accounting  # noqa: PLC0415 - distributed reads its settings once

        with contextlib.suppress(Exception):  # as reports: what is not there does not decide how a run ends
            self._facts = await asyncio.wait_for(accounting.read(self._client), _FACTS_SECONDS)

    async def _fetch_reports(self) -> Sequence[Any]:
        """All at once: the end of a run should not take long."""
        client = self._client
        asked = (
            client.scheduler.performance_report(start=self._started, last_count=0, code=""),
            client._run_on_scheduler(profile_page, start=self._started),  # noqa: SLF001 - run_on_scheduler is for other threads
            self._versions(),
        )
        return await asyncio.gather(
            *(asyncio.wait_for(each, _REPORT_SECONDS) for each in asked), return_exceptions=True
        )

    async def _versions(self) -> dict[str, Any]:
        """What the scheduler and all workers have now, compared as far as that was not done yet."""
        comparison, client = self._comparison, self._client
        packages = list(comparison.packages) if comparison is not None else []
        found: dict[str, Any] = await client._get_versions(packages=packages)  # noqa: SLF001 - as above
        if comparison is not None:
            await self._take_versions(comparison, found)
        return found

    def close(self) -> None:
        self._closed.set()
        self._thread.join(timeout=1.0)
        if self._client is not None:
            with contextlib.suppress(Exception):
                self._client.close(timeout=0.5)

    def _follow(self) -> None:
        try:
            address = scheduler_address(self._address_file, timeout=self._timeout)
            self._client = self._connect(address)
        except (StartupDeadlineError, OSError):
            return  # the supervisor has its own deadline for that
        finally:
            self._connecting.set()
        while not self._closed.wait(_POLL_SECONDS):
            try:
                self._look()
            except Exception:  # noqa: BLE001 - whatever a cluster that ends makes distributed raise
                self._failed()

    def _look(self) -> None:
        workers = self._client.sync(self._client.scheduler.ncores, callback_timeout=_LOOK_SECONDS)
        ready = len(workers)
        if ready != self._seen:
            self._seen = ready
            self._on_workers(ready)
        comparison = self._comparison
        new = [address for address in workers if address not in self._compared]
        if new and comparison is not None and (self._asking is None or self._asking.done()):
            # Not waited for: a worker may be deaf for as long as a task of its own holds the interpreter.
            asked = self._ask_versions(comparison, new[:_ASKED_AT_ONCE])
            self._asking = asyncio.run_coroutine_threadsafe(asked, self._client.loop.asyncio_loop)

    async def _ask_versions(self, comparison: Comparison, workers: list[str]) -> None:
        scheduler, packages = self._client.scheduler, list(comparison.packages)
        found = {
            "scheduler": await scheduler.versions(packages=packages),
            "workers": await scheduler.broadcast(
                msg={"op": "versions", "packages": packages}, workers=workers, on_error="ignore"
            ),
        }
        await self._take_versions(comparison, found)

    async def _take_versions(self, comparison: Comparison, found: dict[str, Any]) -> None:
        """Compares those that were not before; asks for their names only where somebody has to be named."""
        news = comparison.add_scheduler(packages_of(found["scheduler"]))
        replies = {worker: reply for worker, reply in found["workers"].items() if worker not in self._compared}
        differing = {worker: reply for worker, reply in replies.items() if comparison.differs(packages_of(reply))}
        known = (await self._client.scheduler.identity())["workers"] if differing else {}
        for worker, reply in differing.items():
            name = str(known.get(worker, {}).get("name", worker))
            news |= comparison.add_worker(name, packages_of(reply))
        self._compared |= set(replies)
        comparison.workers = len(self._compared)
        if news:
            self._on_difference(comparison.summary)

    def _failed(self) -> None:
        """Called when the scheduler did not answer."""

    def _connect(self, address: str) -> Any:
        from distributed import Client  # noqa: PLC0415 - imported while the scheduler starts
        from distributed.security import Security  # noqa: PLC0415

        # What it would log - a connection that breaks when the cluster ends - the supervisor reports in its own words.
        for name in ("distributed", "distributed.client", "distributed.core"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        leaf = str(self._tls / "client.pem")
        security = Security(
            tls_ca_file=str(self._tls / "ca.pem"), tls_client_cert=leaf, tls_client_key=leaf, require_encryption=True
        )
        return Client(address, security=security, set_as_default=False, timeout=self._timeout)


def _write(path: Path, title: str, text: str | BaseException) -> None:
    if isinstance(text, BaseException):
        reason = html.escape(f"{type(text).__name__}: {text}")
        text = (
            f"<!doctype html><title>{title}</title><h1>{title}</h1>"
            f"<p>Not available: the scheduler could not give it any more ({reason}).</p>\n"
        )
    path.write_text(text)
