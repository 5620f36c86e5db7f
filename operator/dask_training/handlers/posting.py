"""Posts Events in their own time: nothing waits for them, and nothing fails with them."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from dask_training.handlers.logs import about
from dask_training.kube import KubeClient
from dask_training.kube.client import JSONObject
from dask_training.kube.errors import ApiError, NotFoundError, RefusedError, ThrottledError, UnknownOutcomeError
from dask_training.kube.events import event, post
from dask_training.status import timestamp

LOG = logging.getLogger(__name__)

TRIES = 5
WAITING_LIMIT = 10_000


class EventPoster:
    """A queue of Events and the one task that posts them."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._waiting: asyncio.Queue[JSONObject] = asyncio.Queue(WAITING_LIMIT)

    def post(self, job: JSONObject, kind: str, reason: str, message: str) -> None:
        """Take in an Event on `job` (its object)."""
        about_what = f"{job['metadata'].get('generation')}/{(job.get('status') or {}).get('attempt')}/{message}"
        now = timestamp(datetime.now(UTC))
        try:
            self._waiting.put_nowait(event(job, kind=kind, reason=reason, message=message, about=about_what, now=now))
        except asyncio.QueueFull:
            LOG.warning("too many Events wait: %s is dropped", reason, extra=about(job))

    async def run(self) -> None:
        """Post for ever."""
        while True:
            await self._post(await self._waiting.get())

    async def drain(self) -> None:
        """Post what waits, once `run` is over."""
        while not self._waiting.empty():
            await self._post(self._waiting.get_nowait())

    async def _post(self, body: JSONObject) -> None:
        for attempt in range(TRIES):
            try:
                await post(self._client, body)
            except (NotFoundError, RefusedError) as error:  # the namespace is on its way out
                LOG.debug("an Event is refused: %s", error)
            except ThrottledError as error:
                await asyncio.sleep(error.retry_after)
                continue
            except UnknownOutcomeError as error:
                await asyncio.sleep(max(error.retry_after, 0.2 * 2**attempt))
                continue
            except ApiError as error:
                LOG.warning("an Event could not be posted: %s", error)
            return
        LOG.warning("Event %s (%s) could not be posted", body["metadata"]["name"], body["reason"])
