"""`python -m dask_training.runner.pod scheduler|worker|runner|reader`; nothing heavy is imported before the fork."""

from __future__ import annotations

import importlib
import os
import signal
import sys

from dask_training.runner.pod import init
from dask_training.runner.pod.paths import PodPaths

_ROLES = ("scheduler", "worker", "runner", "reader")


def main() -> int:
    """Runs the program of a role; returns its exit code."""
    if len(sys.argv) != 2 or sys.argv[1] not in _ROLES:
        sys.stderr.write(f"usage: python -m dask_training.runner.pod {'|'.join(_ROLES)}\n")
        return 2
    role = sys.argv[1]
    paths = PodPaths.from_environment()
    # The folder that Python was started in is the user's to fill.
    sys.path[:] = [entry for entry in sys.path if entry not in ("", os.getcwd())]  # noqa: PTH109 - as Python put it
    # Until the program has something to lose; PID 1 would ignore the signal by default.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM if role == "runner" else 0))
    if os.environ.pop(init.INSIDE, None) is None:
        # The runner's log is made by its supervisor, which knows the user's lines from its own.
        code = init.start(paths.log if role in ("scheduler", "worker") else None)
        if code is not None:
            return _after(role, code, paths)
    program = importlib.import_module(f"dask_training.runner.pod.{role}")
    result: int = program.main(paths)
    return result


def _after(role: str, code: int, paths: PodPaths) -> int:
    """Says, if nobody has, what the program could not say itself."""
    if code == 128 + signal.SIGKILL:
        from dask_training.runner.pod import last_word  # noqa: PLC0415 - only now

        last_word.of_killed(role, paths)
    return code


if __name__ == "__main__":
    sys.exit(main())
