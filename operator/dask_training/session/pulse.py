"""Says now and then that the session lives, and notices when its cluster does not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from dask_training.errors import DaskTrainingError, NotFoundError
from dask_training.session.job import SessionJob, ended

_logger = logging.getLogger("dask_training")
_RETRY_SECONDS: Final = 5.0


class Pulse:
    """A thread that writes the job's heartbeat every *seconds* (with *beats*), and tells *on_end* why it has ended.

    A heartbeat that does not arrive is tried again sooner.
    """

    def __init__(self, job: SessionJob, on_end: Callable[[str, str], None], *, beats: bool, seconds: float) -> None:
        self._job = job
        self._on_end = on_end
        self._beats = beats
        self._seconds = seconds
        self._stopped = threading.Event()
        self._look = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"heartbeat of {job.name}", daemon=True)
        self._thread.start()

    def look(self) -> None:
        """See at once whether the job has ended: its scheduler does not answer."""
        self._look.set()

    def stop(self) -> None:
        """Say nothing more."""
        self._stopped.set()
        self._look.set()

    def _run(self) -> None:
        pause = 0.0
        while not self._stopped.is_set():
            pause = self._seconds if self._beat() else min(self._seconds, _RETRY_SECONDS)
            self._look.wait(pause)
            self._look.clear()

    def _beat(self) -> bool:
        """Whether the API server has answered."""
        try:
            if self._beats:
                self._job.beat()
            else:
                self._job.refresh()
        except NotFoundError:
            self._end("Deleted", "it was deleted")
            return True
        except DaskTrainingError as error:
            _logger.debug("the heartbeat of %s did not arrive: %s", self._job.name, error)
            return False
        if (end := ended(self._job.body)) is not None:
            self._end(*end)
        return True

    def _end(self, reason: str, message: str) -> None:
        if not self._stopped.is_set():
            self._stopped.set()
            self._on_end(reason, message)
