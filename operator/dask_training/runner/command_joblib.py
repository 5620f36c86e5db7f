"""joblib's Dask backend in the Python process of a job's `command`, turned on when that process imports joblib.

A process that never does pays nothing. Its own child processes, such as loky's workers, are left alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from dask_training.api import Env
from dask_training.runner import script_api
from dask_training.runner.channel import Channel
from dask_training.runner.joblib_setup import JoblibConfig, pickle_by_value, turn_on

_kept: list[Any] = []  # parallel_config undoes itself when it is collected


def install() -> None:
    """Prepares this process; called by autostart/sitecustomize.py."""
    config = msgspec.json.decode(Path(os.environ.pop(Env.RUNNER_CONFIG)).read_bytes(), type=JoblibConfig)
    channel = Channel()
    pickle_by_value(config.by_value)
    script_api.attach(channel)
    sys.meta_path.insert(0, _JoblibFinder(config, channel))


class _JoblibFinder(MetaPathFinder):
    def __init__(self, config: JoblibConfig, channel: Channel) -> None:
        self._config = config
        self._channel = channel

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "joblib":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _JoblibLoader(spec.loader, self._config, self._channel)
        return spec


class _JoblibLoader(Loader):
    def __init__(self, loader: Loader, config: JoblibConfig, channel: Channel) -> None:
        self._loader = loader
        self._config = config
        self._channel = channel

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _kept.append(turn_on(self._config, script_api.client(), self._channel))
