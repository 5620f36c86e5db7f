"""Where things lie in a job's pods."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# Below another root only in tests, which have no pod.
ROOT_VARIABLE = "DASK_TRAINING_ROOT"


@dataclass(frozen=True)
class PodPaths:
    """Folders and files of a pod, all below `root`.

    `secret` holds certificates, token and job; `code` is importable; `script` has a ConfigMap's script; `work` is what
    the pod may write to, and survives its containers; `store` is a claim, `store_secret` a store's credentials;
    `termination` takes the last word.
    """

    root: Path = Path("/")

    @classmethod
    def from_environment(cls) -> PodPaths:
        """The paths of this pod."""
        return cls(Path(os.environ.get(ROOT_VARIABLE, "/")))

    @property
    def secret(self) -> Path:
        return self.root / "etc/dask-training"

    @property
    def engine(self) -> Path:
        """What an engine is to run."""
        return self.secret / "code.json"

    @property
    def store_secret(self) -> Path:
        return self.root / "etc/dask-training-store"

    @property
    def code(self) -> Path:
        return self.root / "code"

    @property
    def script(self) -> Path:
        return self.root / "script"

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def job(self) -> Path:
        """The runner's workspace."""
        return self.work / "job"

    @property
    def layer(self) -> Path:
        return self.job / "layer"

    @property
    def log(self) -> Path:
        """What the pod printed, over all its containers' lives."""
        return self.work / "pod.log"

    @property
    def termination(self) -> Path:
        return self.root / "dev/termination-log"
