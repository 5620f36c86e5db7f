"""What a job's container says of its own end: its termination message, written in the pod, read by the operator.

A pod runs its user's code, so nothing that is read from it is trusted: it is checked, cleaned and cut.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec

MAX_BYTES: Final = 4096
_MAX_TEXT: Final = 1000
_MAX_METRICS: Final = 64
MAX_ADVICE: Final = 3
_MAX_ADVICE_TEXT: Final = 400
_MAX_DIFFERENCES: Final = 500  # characters, as a condition's message has
_NOT_TEXT: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\ud800-\udfff]")

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Code = Annotated[int, msgspec.Meta(ge=0, le=255)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e10)]


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    pass


class StoredArtifacts(_Part, frozen=True):
    """What was stored, and where."""

    url: Annotated[str, msgspec.Meta(max_length=2048)]
    files: Count
    bytes: Count
    manifest_sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")] = msgspec.field(name="manifestSHA256")


class Spent(_Part, frozen=True):
    """Seconds spent in each phase, as the runner saw them."""

    starting: Seconds = 0.0
    running: Seconds = 0.0
    finalizing: Seconds = 0.0


class Advice(_Part, frozen=True):
    """What could be better about a run: the rule's name, what was seen, and what to do."""

    rule: Annotated[str, msgspec.Meta(pattern="^[a-z][a-z-]{0,63}$")]
    message: str
    fix: str


class Versions(_Part, frozen=True):
    """That the scheduler and so many workers were compared with the runner; `differences` in words, "" for none."""

    workers: Count = 0
    differences: str = ""


class Termination(_Part, frozen=True):
    """How a container ended; `exit_code` is its own, `script_exit_code` that of the user's code if it ran to an end."""

    reason: Annotated[str, msgspec.Meta(pattern="^[A-Z][A-Za-z]{0,63}$")]
    message: str = ""
    succeeded: bool = False
    exit_code: Code = 0
    script_exit_code: Code | None = None
    metrics: dict[str, float] = {}
    artifacts: StoredArtifacts | None = None
    timings: Spent | None = None
    worker_restarts: Count = 0
    tasks: Count = 0
    advice: tuple[Advice, ...] = ()
    versions: Versions | None = None
    version: int = 1


_decoder: Final = msgspec.json.Decoder(Termination)


def parse(text: str) -> Termination | None:
    """The Termination that `text` is, cleaned; None where it is anything else, such as the end of a log."""
    if len(text) > 4 * MAX_BYTES:
        return None
    try:
        found = _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
    metrics = {key: value for key, value in found.metrics.items() if _is_finite(value) and key == clean(key, 128)}
    artifacts = found.artifacts
    if artifacts is not None and artifacts.url != clean(artifacts.url, 2048):
        artifacts = None
    return msgspec.structs.replace(
        found,
        message=clean(found.message),
        metrics=dict(list(metrics.items())[:_MAX_METRICS]),
        artifacts=artifacts,
        advice=tuple(_cleaned(each) for each in found.advice[:MAX_ADVICE]),
        versions=_bounded(found.versions),
    )


def encode(termination: Termination) -> bytes:
    """The message's bytes, at most 4096: what is too long is cut, first the message, then advice, then metrics."""
    message = clean(termination.message)
    termination = msgspec.structs.replace(termination, versions=_bounded(termination.versions))
    metrics = {key: value for key, value in termination.metrics.items() if _is_finite(value)}
    metrics = dict(list(metrics.items())[:_MAX_METRICS])
    advice = tuple(_cleaned(each) for each in termination.advice[:MAX_ADVICE])
    while True:
        cut = msgspec.structs.replace(termination, message=message, metrics=metrics, advice=advice)
        encoded = msgspec.json.encode(cut)
        if len(encoded) <= MAX_BYTES:
            return encoded
        if len(message) > 200:
            message = message[: len(message) - max(50, (len(encoded) - MAX_BYTES) // 4)].rstrip() + " …"
        elif advice:
            advice = advice[:-1]
        elif metrics:
            metrics.popitem()
        elif message:
            message = ""
        elif termination.versions is not None:
            termination = msgspec.structs.replace(termination, versions=None)
        else:
            raise ValueError(f"the termination message has {len(encoded)} bytes even without its message")


def _bounded(versions: Versions | None) -> Versions | None:
    if versions is None:
        return None
    return msgspec.structs.replace(versions, differences=clean(versions.differences, _MAX_DIFFERENCES))


def clean(text: str, limit: int = _MAX_TEXT) -> str:
    """`text` without control characters (line ends and tabs stay), cut to `limit` characters."""
    text = _NOT_TEXT.sub("", text.replace("\r\n", "\n")).strip()
    return text if len(text) <= limit else text[: limit - 2].rstrip() + " …"


def tail(text: str, lines: int = 5) -> str:
    """The last lines of a log, cleaned: what a container without a termination message leaves."""
    kept = [line for line in clean(text[-4 * MAX_BYTES :], MAX_BYTES * 4).splitlines() if line.strip()]
    return clean("\n".join(line[-300:] for line in kept[-lines:]))


def _cleaned(advice: Advice) -> Advice:
    message, fix = clean(advice.message, _MAX_ADVICE_TEXT), clean(advice.fix, _MAX_ADVICE_TEXT)
    return msgspec.structs.replace(advice, message=message, fix=fix)


def _is_finite(value: float) -> bool:
    return value == value and abs(value) != float("inf")  # noqa: PLR0124 - NaN alone differs from itself
