"""Keeps Dask's worker processes from running the session's script again, which would launch a cluster each.

multiprocessing runs it in every process that it starts, and so wants an `if __name__ == "__main__"` in all scripts.
What tasks need of the script reaches the workers anyway: it is pickled by value.
"""

from __future__ import annotations

import functools
from multiprocessing import spawn
from typing import Any

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
