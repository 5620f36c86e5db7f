"""The runner's connection to its cluster: the workers that it has, the news that it gets, the logs that it leaves."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from dask_training.runner.address import listens
from dask_training.runner.pod import logs_over_dask
from dask_training.runner.pod.news import TOPIC, JobNews
from dask_training.runner.telemetry import Telemetry

_NEWS_SECONDS = 1.0
_LOST_SECONDS = 3.0
_GOODBYE_SECONDS = 0.5
_LOGS_SECONDS = 10.0


class Link(Telemetry):
    """As telemetry is, and tells the scheduler the news; `on_lost` is called once, when nothing answers any more."""

    def __init__(
        self, address: str, tls: Path, on_workers: Callable[[int], None], on_lost: Callable[[], None], *, timeout: float
    ) -> None:
        self._address = address
        self._on_lost = on_lost
        self._silent_since: float | None = None
        self._logs: dict[str, str] = {}
        self._news = JobNews()
        self._told = JobNews()
        self._told_at = 0.0
        self._news_lock = threading.Lock()
        super().__init__(None, tls, on_workers, timeout=timeout)

    def tell(self, **news: Any) -> None:
        """Changes fields of the news; the scheduler hears of it within about a second."""
        with self._news_lock:
            self._news = msgspec.structs.replace(self._news, **news)

    def write_logs(self, folder: Path) -> None:
        """Writes the log of each pod that was reached by `write_reports` to a file `<pod>.log`."""
        for name, text in self._logs.items():
            (folder / f"{name}.log").write_text(text)

    async def _fetch_facts(self) -> None:
        """And the logs, which come as soon."""
        await asyncio.gather(super()._fetch_facts(), self._fetch_logs())

    async def _fetch_logs(self) -> None:
        with contextlib.suppress(Exception):  # as reports: what is not there does not decide how a run ends
            self._logs = await asyncio.wait_for(logs_over_dask.collect(self._client), _LOGS_SECONDS)

    def say_goodbye(self) -> None:
        """Tells the scheduler that the job has ended: it need not wait for the operator to go."""
        self.tell(ended=True)
        with contextlib.suppress(Exception):
            self._send()

    def _look(self) -> None:
        super()._look()
        self._silent_since = None
        if self._news != self._told and time.monotonic() - self._told_at > _NEWS_SECONDS:
            self._send()

    def _send(self) -> None:
        with self._news_lock:
            news = self._news
        self._client.sync(
            self._client.scheduler.log_event,
            topic=TOPIC,
            msg=msgspec.to_builtins(news),
            callback_timeout=_GOODBYE_SECONDS if news.ended else 5.0,
        )
        self._told, self._told_at = news, time.monotonic()

    def _failed(self) -> None:
        now = time.monotonic()
        self._silent_since = self._silent_since or now
        if now - self._silent_since > _LOST_SECONDS and not listens(self._address):
            self._on_lost()
