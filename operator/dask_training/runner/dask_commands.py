"""`dask`, `dask-worker` and `dask-scheduler` in a worker of the workers API, as scripts for CML call them.

Dask has no command dask-worker any more. Its worker takes a thread for each CPU of the machine, where it does not see
that the worker was given fewer; here it takes as many as were asked for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from dask_training.api import Env

_THREADS = ("--nthreads", "--nworkers", "--nprocs")


def arguments(command: str, given: Sequence[str], threads: str) -> list[str]:
    """Arguments for `dask`; *threads* "" leaves them as they are."""
    words = [*command.split("-")[1:], *given]
    own = any(word.partition("=")[0] in _THREADS for word in words)
    if words[:1] == ["worker"] and threads and not own:
        words[1:1] = ["--nthreads", threads]
    return words


def main() -> NoReturn:
    """Becomes Dask's own command."""
    command, *given = sys.argv[1:]
    words = arguments(command, given, os.environ.get(Env.THREADS, ""))
    os.execv(sys.executable, [sys.executable, "-m", "dask", *words])  # noqa: S606 - no shell


if __name__ == "__main__":
    main()
