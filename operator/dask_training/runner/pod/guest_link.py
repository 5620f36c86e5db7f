"""The runner's connection to a cluster of somebody else's: it asks as any client may, and leaves nothing there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from tornado import web
from tornado.httpserver import HTTPServer

from dask_training.api import Port
from dask_training.runner import guest
from dask_training.runner.pod.endpoint import PATH, StatusHandler
from dask_training.runner.pod.link import Link

_NO_REPORT = (
    "it is made from what a plugin of the scheduler collects, and the scheduler is not the job's own. Ask whoever runs"
    " the cluster for its dashboard"
)


class GuestLink(Link):
    """As a link is, but the news are served here, to the operator, in place of being told to the scheduler."""

    def __init__(
        self,
        address: str,
        token: str,
        on_workers: Callable[[int], None],
        on_lost: Callable[[], None],
        *,
        timeout: float,
    ) -> None:
        super().__init__(address, Path(), on_workers, on_lost, timeout=timeout)
        _serve(self, token)

    def status(self) -> dict[str, Any]:
        """The endpoint's reply: of what a scheduler of our own says, what a client knows."""
        with self._news_lock:
            news = self._news
        return {
            "workers": max(self._seen, 0),
            "codeStarted": news.code_started,
            "progress": msgspec.to_builtins(news.progress),
            "metrics": news.metrics,
            "versions": news.versions,
        }

    def write_logs(self, folder: Path) -> None:
        """Writes nothing: their logs tell of everybody's work."""

    def say_goodbye(self) -> None:
        """Leaves as a client should, so that the scheduler need not find out."""
        self.close()

    def _connect(self, address: str) -> Any:
        for name in ("distributed", "distributed.client", "distributed.core"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # as `Telemetry` does
        return guest.connect(address, set_as_default=False, timeout=self._timeout)

    def _send(self) -> None:
        self._told = self._news

    async def _fetch(self) -> Sequence[Any]:
        found: Sequence[Any] = await asyncio.gather(
            self._profile_page(),
            self._versions(),
            return_exceptions=True,
        )
        return (PermissionError(_NO_REPORT), *found)

    async def _profile_page(self) -> str:
        """What the workers did since the start, for whomever."""
        from bokeh.embed import file_html  # noqa: PLC0415 - slow to import
        from bokeh.resources import CDN  # noqa: PLC0415
        from distributed import profile  # noqa: PLC0415

        state = await self._client.scheduler.profile(start=self._started, merge_workers=True)
        figure, _ = profile.plot_figure(profile.plot_data(state), sizing_mode="stretch_both")
        page: str = file_html(figure, CDN, "Profile")
        return page


def _serve(link: GuestLink, token: str) -> None:
    """Answers the operator until this process ends; a job whose status can't be asked for runs all the same."""
    port = int(os.environ.get("DASK_TRAINING_HTTP_PORT", Port.SCHEDULER_HTTP))

    async def serve() -> None:
        server = HTTPServer(web.Application([(PATH, StatusHandler, {"state": link, "token": token})]))
        try:
            server.listen(port)
        except OSError as error:
            sys.stderr.write(f"dask-training: the job's status can't be served on port {port}: {error}\n")
            return
        await asyncio.Event().wait()

    def run() -> None:
        with contextlib.suppress(RuntimeError):  # the process ends
            asyncio.run(serve())

    threading.Thread(target=run, name="status", daemon=True).start()
