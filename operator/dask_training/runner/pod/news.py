"""What the runner tells the scheduler of the job, as an event of this topic."""

from __future__ import annotations

import msgspec

TOPIC = "dask-training-job"


class JobProgress(msgspec.Struct, frozen=True):
    """`done` of `total` tasks of the running joblib call; total None while it is not known."""

    done: int
    total: int | None = None


class JobNews(msgspec.Struct, frozen=True, rename="camel"):
    """All that is known now; `metrics` are numbers, `versions` says which differ, `ended` is said last."""

    code_started: bool = False
    progress: JobProgress | None = None
    metrics: dict[str, float] = {}
    versions: str = ""
    ended: bool = False
