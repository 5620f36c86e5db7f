"""What the modules `cdsw` and `cml` have, and what they say of the rest."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import NoReturn

from dask_training.runner.console import COMMANDS
from dask_training.workers import await_workers, launch_workers, list_workers, stop_workers

__all__ = ["await_workers", "launch_workers", "list_workers", "missing", "stop_workers"]


def missing(module: str) -> Callable[[str], NoReturn]:
    """A module's `__getattr__`: AttributeError, with what there is."""

    def __getattr__(name: str) -> NoReturn:  # noqa: N807 - what Python looks for
        raise AttributeError(
            f"{module}.{name} is not here: of {module}, dask-training has the workers API alone "
            f"({', '.join(__all__[:3])} and stop_workers). "
            "What a run is to keep: dask_training.report(...) and $ARTIFACTS_DIR; see docs/workers.md"
        )

    return __getattr__


def _offer_commands() -> None:
    """`dask-worker` and `dask-scheduler` for what the script starts, where Dask does not bring them any more."""
    if shutil.which("dask-scheduler") is None:
        os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), str(COMMANDS)])


_offer_commands()
