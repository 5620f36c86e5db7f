"""The operator's log: one line a record, as text or as JSON, with the job it is about.

Records name a job by `extra=about(job)`, or `extra=about_key(key)`. Nothing of a Secret is ever logged.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from dask_training.handlers.workqueue import Key
from dask_training.status import timestamp

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def about(job: Mapping[str, Any]) -> dict[str, Any]:
    """Give what a record says about the job (its object): namespace, job, uid, attempt."""
    metadata = job.get("metadata") or {}
    fields = {"namespace": metadata.get("namespace"), "job": metadata.get("name"), "uid": metadata.get("uid")}
    attempt = (job.get("status") or {}).get("attempt")
    return fields | ({"attempt": attempt} if attempt is not None else {})


def about_key(key: Key) -> dict[str, str]:
    """Give what a record says about the job of which no more than the key is known."""
    return {"namespace": key[0], "job": key[1]}


class JSONFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, what the record is about, and a traceback if any."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the record."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= _extras(record)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


class TextFormatter(logging.Formatter):
    """Time, level, message, then key=value."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the record."""
        extras = "".join(f" {key}={value}" for key, value in _extras(record).items())
        line = f"{_time(record)} {record.levelname:<7} {record.getMessage()}{extras}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure(form: str, level: str) -> None:
    """Log to stderr in `form` (text or json) from `level` on; what kopf says of each event stays out."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("kopf").setLevel(max(logging.WARNING, root.level) if root.level > logging.DEBUG else root.level)
    for name in ("aiohttp.access", "asyncio", "botocore"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _time(record: logging.LogRecord) -> str:
    return timestamp(datetime.fromtimestamp(record.created, UTC), "milliseconds")


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    given = {key: value for key, value in vars(record).items() if key not in _STANDARD and value is not None}
    # Kopf's loggers carry the whole reference of an object, which is said better by the fields of our own.
    return {key: value for key, value in given.items() if not key.startswith(("k8s_", "settings"))}
