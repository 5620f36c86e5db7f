"""A job's status: the only part that writes it. Pure, the clock is an argument."""

from dask_training.status.blockers import Blocker, blockers
from dask_training.status.changes import Change, change, events
from dask_training.status.record import AttemptRecord, MemberRecord, ProgressRecord, Status, timestamp
from dask_training.status.summary import is_ready, stamped, with_mismatch, with_telemetry, with_workers

__all__ = [
    "AttemptRecord",
    "Blocker",
    "Change",
    "MemberRecord",
    "ProgressRecord",
    "Status",
    "blockers",
    "change",
    "events",
    "is_ready",
    "stamped",
    "timestamp",
    "with_mismatch",
    "with_telemetry",
    "with_workers",
]
