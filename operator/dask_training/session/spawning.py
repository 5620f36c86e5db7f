"""Starts Dask's worker processes without touching the session: neither its script nor its environment.

multiprocessing runs the script in every process that it starts, and so wants an `if __name__ == "__main__"` in all
scripts; each worker would launch a cluster. What tasks need of the script reaches the workers anyway: it is pickled by
value. distributed's nanny sets OMP_NUM_THREADS=1 and its like in the process that starts the workers, for good: all
that runs there later, in a notebook too, would have one thread.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import spawn
from typing import Any

from distributed import Nanny

_WORKERS = "Dask Worker process"
_MAIN = ("init_main_from_name", "init_main_from_path")


def _without_main(data: dict[str, Any], process: str) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key not in _MAIN or not process.startswith(_WORKERS)}


@functools.cache
def spare_main() -> None:
    """Has this process's Dask workers, later ones too, start without the script; others are started as ever."""
    prepare = spawn.get_preparation_data

    @functools.wraps(prepare)
    def prepared(name: str) -> dict[str, Any]:
        return _without_main(prepare(name), name)

    spawn.get_preparation_data = prepared


class QuietNanny(Nanny):
    """A nanny that takes its worker's variables out of this process's environment again, once the worker runs."""

    async def instantiate(self) -> Any:
        """See `Nanny`."""
        with _environment.lent(self.pre_spawn_env):
            return await super().instantiate()


class _Environment:
    """This process's environment as it was before the first of the workers that are starting now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._starting = 0
        self._before: dict[str, str | None] = {}

    @contextmanager
    def lent(self, names: dict[str, str]) -> Iterator[None]:
        with self._lock:
            self._starting += 1
            for name in names:
                self._before.setdefault(name, os.environ.get(name))
        try:
            yield
        finally:
            with self._lock:
                self._starting -= 1
                if not self._starting:
                    self._restore()

    def _restore(self) -> None:
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._before.clear()


_environment = _Environment()
