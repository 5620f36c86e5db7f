"""In front of PYTHONPATH for a job's `command`: Python runs this at its start, in whatever process that is."""

import importlib.machinery
import importlib.util
import os
import sys


def _run_hidden() -> None:
    """Runs the sitecustomize that this one hides, if there is one."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib would slow down every start
    others = [place for place in sys.path if os.path.abspath(place) != here]  # noqa: PTH100
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


_run_hidden()
if "DASK_TRAINING_RUNNER_CONFIG" in os.environ:
    from dask_training.runner import command_joblib

    command_joblib.install()
