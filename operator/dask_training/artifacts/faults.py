"""What a store's failure means: whether trying again can help, and what to tell the user."""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any
from urllib.parse import quote

from dask_training.errors import ArtifactError, StoreDeniedError, StoreFullError, StoreUnavailableError


class Fault(Enum):
    """Kinds of failures, by what to do about them."""

    TRANSIENT = "transient"  # try again
    FULL = "full"
    DENIED = "denied"
    MISSING = "missing"  # of the object, not of the bucket
    OTHER = "other"


class MissingError(ArtifactError):
    """There is no such object in the store."""


class StoppedError(ArtifactError):
    """The caller asked to stop, or another file of the same run failed."""


class StalledError(TimeoutError):
    """Nothing was sent or received for `idle` seconds."""

    def __init__(self, idle: float) -> None:
        super().__init__(f"no progress for {idle:.0f} s")
        self.idle = idle


_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED_ERRNOS = {errno.EACCES, errno.EPERM, errno.EROFS}
_MISSING_ERRNOS = {errno.ENOENT}
# What network file systems say while their server is away for a moment.
_TRANSIENT_ERRNOS = {errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ESTALE, errno.ETIMEDOUT, errno.EREMOTEIO}

_FULL_CODES = {
    "InsufficientStorage",
    "QuotaExceeded",
    "StorageFull",
    "XMinioStorageFull",
    "XMinioAdminBucketQuotaExceeded",
}
_DENIED_CODES = {
    "AccessDenied", "AllAccessDisabled", "AuthorizationHeaderMalformed", "ExpiredToken", "InvalidAccessKeyId",
    "InvalidBucketName", "InvalidToken", "MethodNotAllowed", "NoSuchBucket", "PermanentRedirect",
    "RequestTimeTooSkewed", "SignatureDoesNotMatch",
}  # fmt: skip
_MISSING_CODES = {"404", "NoSuchKey", "NoSuchUpload", "NotFound"}
# The last three: the body was damaged or cut on its way.
_TRANSIENT_CODES = {
    "ConditionalRequestConflict", "InternalError", "OperationAborted", "RequestTimeout", "ServiceUnavailable",
    "SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "BadDigest", "IncompleteBody",
    "XAmzContentSHA256Mismatch",
}  # fmt: skip
# By name along the classes' ancestry: the libraries of the stores are optional, so their classes can't be named here.
_DENIED_TYPES = {
    "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError", "SSLError",
    "ClientSSLError", "DefaultCredentialsError", "ClientAuthenticationError",
}  # fmt: skip
_TRANSIENT_TYPES = {
    "ConnectionError", "TimeoutError", "HTTPClientError", "IncompleteRead", "ClientError", "ResponseParserError",
    "ServiceRequestError", "ServiceResponseError", "ResponseStreamingError",
}  # fmt: skip
# Servers in front of a full disk often hide it behind a 500.
_FULL_TEXT = re.compile(
    r"no space left|quota exceeded|exceeded.{0,20}quota|storage (is )?full|insufficient storage", re.IGNORECASE
)


def classify(error: BaseException) -> Fault:
    """What `error`, or what it was raised from, means."""
    chain = list(_chain(error))
    if any(_FULL_TEXT.search(str(link)) for link in chain):
        return Fault.FULL
    for link in chain:
        fault = _by_answer(link)
        if fault is not None:
            return fault
    for link in chain:
        fault = _by_errno(link) or _by_type(link)
        if fault is not None:
            return fault
    return Fault.OTHER


def _by_answer(error: BaseException) -> Fault | None:
    status, code, _ = _answer(error)
    by_code = ((_FULL_CODES, Fault.FULL), (_DENIED_CODES, Fault.DENIED), (_MISSING_CODES, Fault.MISSING))
    for codes, fault in (*by_code, (_TRANSIENT_CODES, Fault.TRANSIENT)):
        if code in codes:
            return fault
    return None if status is None else _by_status(status)


def _by_status(status: int) -> Fault | None:
    if status == 507:
        return Fault.FULL
    if status in {301, 307, 401, 403, 405}:
        return Fault.DENIED
    if status == 404:
        return Fault.MISSING
    if status in {408, 429} or (status >= 500 and status not in {501, 505}):
        return Fault.TRANSIENT
    return Fault.OTHER if status >= 400 else None


def _by_errno(error: BaseException) -> Fault | None:
    number = error.errno if isinstance(error, OSError) else None
    by_number = ((_FULL_ERRNOS, Fault.FULL), (_DENIED_ERRNOS, Fault.DENIED), (_MISSING_ERRNOS, Fault.MISSING))
    for numbers, fault in (*by_number, (_TRANSIENT_ERRNOS, Fault.TRANSIENT)):
        if number in numbers:
            return fault
    return None


def _by_type(error: BaseException) -> Fault | None:
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & _DENIED_TYPES:
        return Fault.DENIED
    if isinstance(error, FileNotFoundError):
        return Fault.MISSING
    return Fault.TRANSIENT if names & _TRANSIENT_TYPES else None


def _answer(error: BaseException) -> tuple[int | None, str, str]:
    """Status, code and message of the HTTP answer behind `error`, as botocore or the other clients keep it."""
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):
        details: Mapping[str, Any] = response.get("Error") or {}
        status = (response.get("ResponseMetadata") or {}).get("HTTPStatusCode")
        code, message = str(details.get("Code", "")), str(details.get("Message", ""))
        return (status if isinstance(status, int) else None), code, message
    for name in ("status_code", "status", "code"):
        value = getattr(error, name, None)
        if isinstance(value, int) and not isinstance(value, bool) and 300 <= value < 600:
            return value, "", str(error)
    return None, "", ""


def retry_after(error: BaseException) -> float:
    """The seconds that the store asked to wait, 0 if it did not."""
    for link in _chain(error):
        response = getattr(link, "response", None)
        if isinstance(response, Mapping):
            headers = (response.get("ResponseMetadata") or {}).get("HTTPHeaders") or {}
            value = str(headers.get("retry-after", ""))
            if value.isdigit():
                return float(value)
    return 0.0


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__


class Secrets:
    """What must not appear in any message: the values of credentials."""

    def __init__(self, values: Iterable[str]) -> None:
        known = {value for value in values if len(value) >= 4}  # shorter ones would only garble messages
        self._values = sorted(known | {quote(value, safe="") for value in known}, key=len, reverse=True)

    def hide(self, text: str) -> str:
        """`text` with each secret replaced by `***`."""
        for value in self._values:
            text = text.replace(value, "***")
        return text

    def cause(self, error: BaseException) -> BaseException | None:
        """`error` to raise from, or None if its traceback shows a secret."""
        shown = "".join(traceback.format_exception(error))
        return error if self.hide(shown) == shown else None

    def __repr__(self) -> str:
        return "Secrets(***)"


def describe(error: BaseException, secrets: Secrets) -> str:
    """What the store, or the system, said, on one line."""
    text = ""
    for link in _chain(error):
        status, code, message = _answer(link)
        if status is not None or code:
            answer = f"HTTP {status}" if status is not None else "error"
            text = " ".join(filter(None, (answer, code if code != str(status) else "", message)))
            break
    if not text:
        text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    printable = "".join(character if character.isprintable() else " " for character in secrets.hide(text))
    short = " ".join(printable.split())
    return short if len(short) <= 300 else f"{short[:297]}..."


def store_error(
    fault: Fault, error: BaseException, *, action: str, where: str, waited: float, secrets: Secrets
) -> ArtifactError:
    """The error to raise for `action` ("store 'a.txt'") in the store at `where`, after `waited` seconds of retries."""
    got = describe(error, secrets)
    start = f"can't {action} in {where}"
    if fault is Fault.TRANSIENT:
        tried = f"no usable answer for {waited:.0f} s" if waited >= 1 else "no usable answer"
        return StoreUnavailableError(
            f"{start}: {tried} ({got}): check that the store is up and that its address is right, then store again"
        )
    if fault is Fault.FULL:
        return StoreFullError(
            f"{start}: no space left ({got}): free some space, raise the quota, "
            "or choose another spec.artifacts.destination"
        )
    if fault is Fault.DENIED:
        return StoreDeniedError(f"{start}: the store refused ({got}): {_what_to_do(error)}")
    if fault is Fault.MISSING:
        return MissingError(f"{start}: not found ({got})")
    return ArtifactError(f"{start}: {got}")


_ADVICE: tuple[tuple[set[str | int], str], ...] = (
    ({"NoSuchBucket"}, "there is no such bucket; create it, or correct spec.artifacts.destination.url"),
    ({"InvalidBucketName"}, "the bucket's name is not valid; correct spec.artifacts.destination.url"),
    (
        {"PermanentRedirect", "AuthorizationHeaderMalformed"},
        "the bucket is in another region; set AWS_REGION, or AWS_ENDPOINT_URL for a store that isn't Amazon's",
    ),
    ({"RequestTimeTooSkewed"}, "this machine's clock is wrong; set it"),
    (
        {"SSLError", "ClientSSLError"},
        "its certificate can't be verified; use the right https address, or set AWS_CA_BUNDLE to its authority's file",
    ),
    (
        {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"},
        "give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the Secret of destination.secretRef, or the environment",
    ),
    ({errno.EROFS}, "it is read-only; mount it for writing, or choose another destination"),
    ({errno.EACCES, errno.EPERM}, "give this user the right to write there, or choose another destination"),
)
_OTHER_ADVICE = "check that the credentials are right, and that they may list, read, write and delete there"


def _what_to_do(error: BaseException) -> str:
    signs: set[str | int] = set()
    for link in _chain(error):
        _, code, _ = _answer(link)
        signs |= {code, *(kind.__name__ for kind in type(link).__mro__)}
        # s3fs gives an answer of HTTP's one of the system's numbers, which says less than the answer itself.
        if isinstance(link, OSError) and link.errno is not None and link.__cause__ is None:
            signs.add(link.errno)
    return next((advice for known, advice in _ADVICE if known & signs), _OTHER_ADVICE)
