"""What a user's code may call: `dask_training.artifacts_dir()`, `report(...)` and `client()`. All are optional."""

from __future__ import annotations

import json
import math
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_training.api import Env
from dask_training.errors import DaskTrainingError
from dask_training.runner.events import MetricsReported, MetricValue

if TYPE_CHECKING:
    from distributed import Client

    from dask_training.runner.channel import Channel

METRICS_FILE = "metrics.json"
_MAX_METRICS = 256

_metrics: dict[str, MetricValue] = {}
_lock = threading.Lock()
_channel: Channel | None = None


def artifacts_dir() -> Path:
    """The folder whose files are kept after the job: `$ARTIFACTS_DIR`; outside of a job `./artifacts`."""
    folder = Path(os.environ.get(Env.ARTIFACTS_DIR, "artifacts"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def report(**metrics: Any) -> None:
    """Reports metrics of the run: shown at its end, kept in `metrics.json`, on a cluster also in `status.metrics`.

    Values are numbers (NumPy's too), strings of at most 256 characters, booleans or None; not finite ones become None.
    A name that was reported before gets the new value. Raises `TypeError` for other values, `DaskTrainingError` when
    called in a task on a worker, and `ValueError` for more than 256 names.
    """
    if os.environ.get(Env.ROLE) == "worker":
        raise DaskTrainingError(
            "dask_training.report() was called in a task on a worker: return the value, and report it in the script"
        )
    values = {name: _plain(name, value) for name, value in metrics.items()}
    with _lock:
        if len(_metrics | values) > _MAX_METRICS:
            raise ValueError(f"a run can report at most {_MAX_METRICS} metrics, got {len(_metrics | values)}")
        _metrics.update(values)
        known = dict(_metrics)
    if _channel is not None:
        _channel.send(MetricsReported(metrics=known))
    else:
        (artifacts_dir() / METRICS_FILE).write_text(json.dumps(known, indent=2) + "\n")


def client() -> Client:
    """The Dask client of the job's cluster; outside of a job the current client, or a new one with a local cluster."""
    import distributed  # noqa: PLC0415 - most scripts never ask for it

    try:
        return distributed.get_client()
    except ValueError:
        address = os.environ.get(Env.SCHEDULER_ADDRESS)
        return distributed.Client(address) if address else distributed.Client()


def attach(channel: Channel) -> None:
    """Makes `report` send to the supervisor of this process; called by the runner before the user's code starts."""
    global _channel  # noqa: PLW0603 - one process, one supervisor
    _channel = channel


def _plain(name: str, value: Any) -> MetricValue:
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value[:256]
    if value is None or isinstance(value, bool | int):
        return value
    raise TypeError(
        f"dask_training.report({name}=...): must be a number, a string, a boolean or None, got {type(value).__name__}"
    )
