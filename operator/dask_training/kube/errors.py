"""What the Kubernetes API can answer, as exceptions.

ApiError (a DaskTrainingError)
├── NotFoundError        404
├── ConflictError        409: changed meanwhile, or a precondition that does not hold
│   ├── AlreadyExistsError   409 on create
│   └── NameCollisionError   the name is taken by an object that belongs to something else
├── RefusedError         403 and other 4xx: the request itself is refused; again would be refused again
│   ├── ForbiddenError       403: rights, or an admission plugin's no
│   │   └── QuotaError           403: a ResourceQuota's no
│   └── InvalidError         422: the object breaks a rule
├── GoneError            410: a continue token or resource version too old
├── ThrottledError       429: `retry_after` says when again
└── UnknownOutcomeError  5xx, time-out, connection lost: may have been done or not; look again
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dask_training.errors import DaskTrainingError
from dask_training.refusal import is_quota

DEFAULT_RETRY_AFTER = 1.0
"""Seconds to wait after a 429 that does not say how long."""


class ApiError(DaskTrainingError):
    """The Kubernetes API did not do what it was asked for; `str()` says what was asked and what it answered.

    `status` is 0 where there was no answer at all.
    """

    def __init__(self, asked: str, message: str, *, status: int = 0, reason: str = "") -> None:
        super().__init__(f"{asked}: {status or 'no answer'}{f' {reason}' if reason else ''}: {message}")
        self.asked = asked
        self.message = message
        self.status = status
        self.reason = reason


class NotFoundError(ApiError):
    """No such object."""


class ConflictError(ApiError):
    """The object changed meanwhile, or is not the one that was meant."""


class AlreadyExistsError(ConflictError):
    """An object of that name is there already."""


class NameCollisionError(ConflictError):
    """The name is taken by an object that belongs to something else."""


class RefusedError(ApiError):
    """The request itself is refused: sent again, it would be refused again."""


class ForbiddenError(RefusedError):
    """Rights are missing, or an admission plugin says no."""


class QuotaError(ForbiddenError):
    """A ResourceQuota of the namespace is exceeded, or not counted for yet."""


class InvalidError(RefusedError):
    """The object breaks a rule of its schema, or of Kubernetes."""


class GoneError(ApiError):
    """The resource version, or the token of the next page, is too old."""


class UnknownOutcomeError(ApiError):
    """No answer that says whether it was done; `retry_after` in seconds where the server gave one."""

    def __init__(self, asked: str, message: str, *, status: int = 0, reason: str = "", retry_after: float = 0) -> None:
        super().__init__(asked, message, status=status, reason=reason)
        self.retry_after = retry_after


class ThrottledError(ApiError):
    """Too many requests: not again before `retry_after` seconds are over."""

    def __init__(self, asked: str, message: str, *, retry_after: float, reason: str = "") -> None:
        super().__init__(asked, message, status=429, reason=reason)
        self.retry_after = retry_after


def error_of(asked: str, status: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> ApiError:
    """Make the exception for an answer of the API server, whose body is a metav1.Status or empty."""
    reason = str(body.get("reason") or "")
    message = str(body.get("message") or "no message")
    if status == 429:
        return ThrottledError(
            asked, message, retry_after=_retry_after(body, headers, DEFAULT_RETRY_AFTER), reason=reason
        )
    if status >= 500 or status < 400:
        wait = _retry_after(body, headers, 0)
        return UnknownOutcomeError(asked, message, status=status, reason=reason, retry_after=wait)
    return _kind_of(status, reason, message)(asked, message, status=status, reason=reason)


def _kind_of(status: int, reason: str, message: str) -> type[ApiError]:
    match status:
        case 404:
            return NotFoundError
        case 409:
            return AlreadyExistsError if reason == "AlreadyExists" else ConflictError
        case 410:
            return GoneError
        case 422:
            return InvalidError
        case 403:
            return QuotaError if is_quota(status, message) else ForbiddenError
    return RefusedError if status != 401 else ApiError


def _retry_after(body: Mapping[str, Any], headers: Mapping[str, str], default: float) -> float:
    details = body.get("details")
    told = headers.get("Retry-After") or (details.get("retryAfterSeconds") if isinstance(details, Mapping) else None)
    try:
        return min(max(float(told), 0.0), 60.0) if told else default
    except (TypeError, ValueError):  # an HTTP date: proxies may send one
        return default or DEFAULT_RETRY_AFTER
