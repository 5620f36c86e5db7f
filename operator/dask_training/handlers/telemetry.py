"""Asks the schedulers of running jobs how far they are: beside everything else, and believed in nothing that matters.

What answers is the job's own pod, so it is a stranger: two seconds, 64 kB, no redirects, and numbers only.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import aiohttp
import msgspec

from dask_training.api import Mode, Phase, Port, Role
from dask_training.handlers.cache import Cache
from dask_training.handlers.demand import DemandHistory
from dask_training.handlers.logs import about_key
from dask_training.handlers.workqueue import Key
from dask_training.kube.client import JSONObject
from dask_training.manifests import scheduler_token
from dask_training.model import Workers
from dask_training.telemetry import Telemetry

LOG = logging.getLogger(__name__)

PERIOD = 10.0
"""Seconds between two questions to a job, and so between two status writes for progress alone."""
EAGER_PERIOD = 1.0
"""The same until the script runs, or has not answered for EAGER_TRIES times: it may be out of reach for good."""
EAGER_TRIES = 15
DEMAND_PERIOD = 2.0
"""The same for how many workers an adaptive job needs, and for whether anybody uses a Session.

The other numbers are told of every PERIOD all the same."""
TICK = 0.5
TIMEOUT = 2.0
AT_ONCE = 16
SIZE_LIMIT = 64 * 1024
PATH = "/dask-training/v1/status"
_RANGE = ("minReplicas", "maxReplicas", "adaptive")
POLLED = (Phase.STARTING.value, Phase.RUNNING.value)


class TelemetryPoller:
    """Keeps the last answer of each running job's scheduler; tells `changed` when there is news.

    `key` is what tokens are derived from; `address` gives the URL for a scheduler pod's address (for tests).
    An adaptive job's demand goes down when it has been lower for `scale_down` seconds.
    """

    def __init__(
        self,
        cache: Cache,
        key: bytes,
        changed: Callable[[Key], None],
        *,
        address: Callable[[str], str] = lambda ip: f"http://[{ip}]" if ":" in ip else f"http://{ip}",
        port: int = Port.SCHEDULER_HTTP,
        scale_down: float = 30.0,
    ) -> None:
        self._cache = cache
        self._key = key
        self._changed = changed
        self._address = address
        self._port = port
        self._answers: dict[tuple[str, int], Telemetry] = {}
        self._scale_down = scale_down
        self._demands: dict[tuple[str, int], DemandHistory] = {}
        self._next: dict[str, float] = {}
        self._numbers_at: dict[str, float] = {}
        self._asking: set[str] = set()
        self._unanswered: dict[str, int] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    def of(self, uid: str, attempt: int) -> Telemetry | None:
        """Give the last answer of a job's attempt, None where there is none."""
        return self._answers.get((uid, attempt))

    async def run(self) -> None:
        """Ask for ever."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        connector = aiohttp.TCPConnector(limit=AT_ONCE, force_close=True)
        async with (
            aiohttp.ClientSession(timeout=timeout, connector=connector, trust_env=False) as session,
            asyncio.TaskGroup() as group,
        ):
            while True:
                for key, job in self._due(asyncio.get_running_loop().time()):
                    group.create_task(self._ask(session, key, job))
                await asyncio.sleep(TICK)

    def _due(self, now: float) -> list[tuple[Key, JSONObject]]:
        found = []
        alive = set()
        for key in self._cache.in_phase(*POLLED):
            uid = self._cache.uid(key)
            alive.add(uid)
            if self._next.get(uid, 0.0) > now or uid in self._asking:
                continue
            job = self._cache.job(key)
            if job is not None:
                self._next[uid] = now + EAGER_PERIOD  # the answer may make it longer, and so may its lack
                found.append((key, job))
        self._next = {uid: at for uid, at in self._next.items() if uid in alive}
        self._unanswered = {uid: times for uid, times in self._unanswered.items() if uid in alive}
        self._numbers_at = {uid: at for uid, at in self._numbers_at.items() if uid in alive}
        self._answers = {place: answer for place, answer in self._answers.items() if place[0] in alive}
        self._demands = {place: known for place, known in self._demands.items() if place in self._answers}
        return found

    async def _ask(self, session: aiohttp.ClientSession, key: Key, job: JSONObject) -> None:
        uid, attempt = job["metadata"]["uid"], _attempt(job)
        ip = self._ip(uid, attempt, _teller(job))
        if not ip:
            return
        url = f"{self._address(ip)}:{self._port}{PATH}"
        headers = {"Authorization": f"Bearer {scheduler_token(self._key, uid, attempt)}"}
        self._asking.add(uid)
        try:
            async with self._slots, session.get(url, headers=headers, allow_redirects=False) as response:
                answer = await _read(response)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            LOG.debug("no telemetry: %s: %s", type(error).__name__, error, extra=about_key(key))
            self._unanswered[uid] = self._unanswered.get(uid, 0) + 1
            if self._unanswered[uid] >= EAGER_TRIES:
                self._next[uid] = asyncio.get_running_loop().time() + PERIOD
            return
        finally:
            self._asking.discard(uid)
        self._take(key, job, answer, asyncio.get_running_loop().time())

    def _take(self, key: Key, job: JSONObject, answer: Telemetry, now: float) -> None:
        """Keep an answer; tell of it if the numbers that people read were due, or the demand is another one."""
        uid, attempt = job["metadata"]["uid"], _attempt(job)
        self._unanswered.pop(uid, None)
        known, numbers_at = self._answers.get((uid, attempt)), self._numbers_at.get(uid, 0.0)
        if _follows_the_work(job, answer):
            answer = dataclasses.replace(answer, demand=self._demand(job, answer, now))
        else:
            self._demands.pop((uid, attempt), None)  # whoever makes it adaptive again begins anew
        if answer.code_started and known is not None and known.code_started and now < numbers_at:
            answer = dataclasses.replace(
                known, target=answer.target, demand=answer.demand, idle_workers=answer.idle_workers
            )
        elif answer.code_started:
            numbers_at = self._numbers_at[uid] = now + PERIOD
        if answer.code_started:
            self._next[uid] = numbers_at if answer.demand is None else min(numbers_at, now + DEMAND_PERIOD)
        elif _is_running_session(job):
            self._next[uid] = now + DEMAND_PERIOD
        self._answers[uid, attempt] = answer
        if known is None or _telling(known) != _telling(answer):
            self._changed(key)

    def _demand(self, job: JSONObject, answer: Telemetry, now: float) -> int:
        place = job["metadata"]["uid"], _attempt(job)
        if place not in self._demands:
            present = job["status"].get("workers", {}).get("desired", 0)
            self._demands[place] = DemandHistory(present, now, self._scale_down)
        return self._demands[place].add(answer.target or 0, now)

    def _ip(self, uid: str, attempt: int, role: Role) -> str:
        names = f"-{attempt}-{role}"
        for pod in self._cache.children(uid)[0]:
            status = pod.get("status") or {}
            if pod["metadata"]["name"].endswith(names) and status.get("phase") == "Running":
                return str(status.get("podIP") or "")
        return ""


async def _read(response: aiohttp.ClientResponse) -> Telemetry:
    if response.status != 200:
        raise ValueError(f"HTTP {response.status}")
    content = bytearray()
    async for chunk in response.content.iter_chunked(8192):
        content += chunk
        if len(content) > SIZE_LIMIT:
            raise ValueError(f"more than {SIZE_LIMIT} bytes")
    return Telemetry.of(msgspec.json.decode(bytes(content), type=dict[str, Any]))


def _is_running_session(job: JSONObject) -> bool:
    return bool(job["spec"].get("mode") == Mode.SESSION and job["status"]["phase"] == Phase.RUNNING)


def _follows_the_work(job: JSONObject, answer: Telemetry) -> bool:
    """Whether the number of workers is for the work to decide; not before there can be any work."""
    spec = job["spec"]
    begun = answer.code_started or _is_running_session(job)
    if answer.target is None or not begun or spec.get("clusterRef"):
        return False
    given = {field: value for field, value in (spec.get("workers") or {}).items() if field in _RANGE}
    return msgspec.convert(given, Workers).is_adaptive


def _telling(answer: Telemetry) -> Telemetry:
    """What of an answer is worth a look at the job: that a Session is idle, say, but not for how long."""
    return dataclasses.replace(
        answer,
        target=None,
        idle_workers=(),
        idle_seconds=None if answer.idle_seconds is None else 0.0,
        no_client_seconds=None if answer.no_client_seconds is None else 0.0,
    )


def _teller(job: JSONObject) -> Role:
    """Whose status it is: on a cluster that is not the job's own, its runner's."""
    return Role.RUNNER if (job.get("spec") or {}).get("clusterRef") else Role.SCHEDULER


def _attempt(job: JSONObject) -> int:
    attempt = (job.get("status") or {}).get("attempt")
    return attempt if isinstance(attempt, int) else 0
