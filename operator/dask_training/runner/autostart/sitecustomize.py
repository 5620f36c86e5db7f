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


class _DaskMlFinder:
    """Turns on the repairs of dask_ml when it, or an old name, is first imported: until then they cost nothing."""

    names = frozenset(
        ("dask_ml", "dask_searchcv", "dask_xgboost", "dklearn", "distributed.joblib", "sklearn.externals.joblib")
    )

    def find_spec(self, fullname: str, path=None, target=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        if fullname not in self.names:
            return None
        sys.meta_path.remove(self)
        try:
            from dask_training import dask_ml_compat  # noqa: PLC0415 - what this is for
        except ImportError:  # another Python's process, such as a conda environment's
            return None
        dask_ml_compat.install()
        return sys.meta_path[0].find_spec(fullname, path, target)


sys.meta_path.insert(0, _DaskMlFinder())
