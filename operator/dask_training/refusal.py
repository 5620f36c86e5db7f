"""What the API server refuses to create."""

from __future__ import annotations

import datetime
from dataclasses import dataclass


@dataclass(frozen=True)
class Refusal:
    """The API server refused to create an object and will do so again unless something changes.

    `code` is the HTTP status (403, 409 for one that belongs to somebody else, 422), `reason` and `message` Kubernetes'
    own, `since` the time of the first refusal and `last` that of the latest of `count` in a row.
    """

    kind: str
    name: str
    code: int
    reason: str
    message: str
    since: datetime.datetime
    last: datetime.datetime | None = None
    count: int = 1

    @property
    def is_quota(self) -> bool:
        """Whether a ResourceQuota stands in the way."""
        return is_quota(self.code, self.message)

    @property
    def retry_at(self) -> datetime.datetime:
        """When it may be tried again: after 5 s, then twice as long each time, up to a minute."""
        delay = min(5 * 2 ** min(self.count - 1, 10), 60)
        return (self.last or self.since) + datetime.timedelta(seconds=delay)


def is_quota(code: int, message: str) -> bool:
    """Whether a refusal is a ResourceQuota's, or a new one's that Kubernetes has not counted for yet."""
    return code == 403 and ("exceeded quota" in message or "status unknown for quota" in message)
