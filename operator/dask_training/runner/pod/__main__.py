"""`python -m dask_training.runner.pod ROLE`; nothing heavy is imported before the fork."""

from __future__ import annotations

import importlib
import os
import signal
import sys

from dask_training.runner.pod import init
from dask_training.runner.pod.paths import PodPaths

_ROLES = ("scheduler", "worker", "runner", "engine", "reader")
# Whose output is kept in a file besides. The runner's log is made by its supervisor, which knows the user's lines from
# its own; of an engine only the end of what it says of its failure is needed.
_LOGGED = {"scheduler": (1, 2), "worker": (1, 2), "engine": (2,)}
_RUNS_CODE = ("runner", "engine")


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
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM if role in _RUNS_CODE else 0))
    if os.environ.pop(init.INSIDE, None) is None:
        code = init.start(paths.log, _LOGGED[role]) if role in _LOGGED else init.start(None)
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
    elif role == "engine":
        from dask_training.runner.pod import engine  # noqa: PLC0415 - only now

        engine.say_how_it_ended(code, paths)
    return code


if __name__ == "__main__":
    sys.exit(main())
