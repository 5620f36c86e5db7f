"""The scheduler's JSON endpoint: what the operator asks for, who has a token and does not speak Dask."""

from __future__ import annotations

import asyncio
import hmac
import os
from typing import Any, Protocol

import msgspec
from distributed import Scheduler, SchedulerPlugin
from tornado import web

from dask_training.api import Env
from dask_training.runner.pod.demand import demand, target_seconds
from dask_training.runner.pod.news import TOPIC, JobNews
from dask_training.runner.pod.usage import Usage

PATH = "/dask-training/v1/status"
# The runner has said goodbye, or is gone: then the operator ends this pod, unless it is down itself.
_LINGER_SECONDS = 30.0
_RUNNER_GONE_SECONDS = 120.0


class JobState(SchedulerPlugin):
    """What the runner says of the job; without `has_runner` nobody is missed."""

    name = "dask-training-job"

    def __init__(self, scheduler: Scheduler, usage: Usage, *, has_runner: bool = True) -> None:
        self._scheduler = scheduler
        self._usage = usage
        self._has_runner = has_runner
        self.news = JobNews()
        self._runner: str | None = None
        self._ending: asyncio.TimerHandle | None = None

    def log_event(self, topic: str, msg: Any) -> None:
        """Takes note of the runner's news."""
        if topic != TOPIC:
            return
        try:
            self.news = msgspec.convert(msg, JobNews)
        except msgspec.ValidationError:
            return  # any task may log an event
        if self.news.ended:
            self._end_in(_LINGER_SECONDS, "the job has ended")

    def add_client(self, scheduler: Scheduler, client: str) -> None:  # noqa: ARG002 - upstream's
        """Takes note of the runner, which is there before anybody else."""
        if self._ending is not None and not self.news.ended:
            self._ending.cancel()
            self._ending = None

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """A runner's cluster without any client computes for nobody."""
        if self._has_runner and not [name for name in scheduler.clients if name not in ("fire-and-forget", client)]:
            self._end_in(_RUNNER_GONE_SECONDS, "the runner is gone")

    def _end_in(self, seconds: float, reason: str) -> None:
        if self._ending is None:
            loop = asyncio.get_running_loop()
            self._ending = loop.call_later(seconds, lambda: asyncio.ensure_future(self._scheduler.close(reason=reason)))

    def status(self) -> dict[str, Any]:
        """The endpoint's reply."""
        scheduler, usage = self._scheduler, self._usage
        asked = demand(scheduler, threads=int(os.environ.get(Env.THREADS, "1")))
        return {
            "workers": len(scheduler.workers),
            "threads": scheduler.total_nthreads,
            "codeStarted": self.news.code_started,
            "progress": msgspec.to_builtins(self.news.progress),
            "metrics": self.news.metrics,
            "versions": self.news.versions,
            "queued": len(scheduler.queued) + len(scheduler.unrunnable),
            "processing": sum(len(worker.processing) for worker in scheduler.workers.values()),
            "idleSeconds": usage.idle_seconds,
            "clients": usage.clients,
            "noClientSeconds": usage.no_client_seconds,
            "target": asked.target,
            "idleWorkers": asked.idle,
        }


class State(Protocol):
    """Who can tell how far the job is."""

    def status(self) -> dict[str, Any]:
        """The endpoint's reply."""


class StatusHandler(web.RequestHandler):
    """`GET /dask-training/v1/status`, for whoever has the token."""

    def initialize(self, state: State, token: str) -> None:
        self._state = state
        self._token = token.encode()

    def get(self) -> None:
        given = self.request.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(given, b"Bearer " + self._token):
            self.set_status(401)
            self.set_header("WWW-Authenticate", "Bearer")
            self.finish({"error": "the Authorization header must be 'Bearer <token>' with this attempt's token"})
            return
        self.set_header("Cache-Control", "no-store")
        self.finish(self._state.status())


def add(scheduler: Scheduler, token: str, *, has_runner: bool = True) -> Usage:
    """Adds the endpoint to the scheduler's HTTP server; returns who uses the cluster."""
    if not token:
        raise ValueError("the token is empty: anybody could read the job's status")
    target_seconds()  # a value that can't be used is told of now, and not by the endpoint's silence
    usage = Usage(scheduler)
    scheduler.add_plugin(usage)
    state = JobState(scheduler, usage, has_runner=has_runner)
    scheduler.add_plugin(state)
    scheduler.http_application.add_handlers(r".*$", [(PATH, StatusHandler, {"state": state, "token": token})])
    return usage
