"""After a failed attempt: another one, or the end. Pure; for the local runner and the operator alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from dask_training.model.job import FailureRule, Spec

# What another attempt may mend; each other reason (a bad job, a deadline, an interrupt) ends the job.
RETRYABLE_REASONS: Final = (
    *("PackagesFailed", "StartupDeadlineExceeded", "ImagePullFailed", "ConfigError", "QuotaExceeded", "Unschedulable"),
    *("RunnerFailed", "RunnerKilled", "RunnerOOMKilled", "RunnerDisrupted"),
    *("SchedulerFailed", "SchedulerOOMKilled", "SchedulerDisrupted"),
    *("WorkersUnavailable", "WorkerOOMKilled", "WorkersFailed", "ArtifactStoreFailed"),
)
MAX_IGNORED: Final = 10
_FIRST_DELAY: Final = 10.0
_LONGEST_DELAY: Final = 600.0


class Failure(msgspec.Struct, frozen=True):
    """How an attempt failed: its reason, and the user code's own exit code if it ran to an end."""

    reason: str
    exit_code: int | None = None


class Retry(msgspec.Struct, frozen=True):
    """Start attempt number `attempt` after `delay_seconds`; `counted` failures count, `ignored` do not."""

    attempt: int
    delay_seconds: float
    counted: int
    ignored: int


class Fail(msgspec.Struct, frozen=True):
    """The job has failed; `message` says why there is no other attempt, "" where nobody would expect one."""

    message: str = ""


Decision: TypeAlias = Retry | Fail


def decide(spec: Spec, failures: Sequence[Failure], *, counted: int = 0, ignored: int = 0) -> Decision:
    """What follows on the failures of a job's attempts so far, oldest first, at least one.

    `counted` and `ignored` are what earlier decisions made of failures before these. The first rule of `failurePolicy`
    that matches a failure decides on it, Count if none does. The delay is 10 s after the first failure and doubles with
    each one, up to 600 s.
    """
    if not failures:
        raise ValueError("decide() needs at least one failure")
    number = counted + ignored + len(failures)
    for failure in failures:
        action = "FailJob" if failure.reason not in RETRYABLE_REASONS else _action(spec.failure_policy.rules, failure)
        if action == "FailJob":
            by_rule = failure.reason in RETRYABLE_REASONS
            return Fail(f"failurePolicy: no more attempts after {_said(failure)}" if by_rule else "")
        if action == "Ignore" and ignored < MAX_IGNORED:
            ignored += 1
        else:
            counted += 1
    if counted > spec.backoff_limit:
        return Fail(
            f"backoffLimit is {spec.backoff_limit}, and {counted} attempts failed" if spec.backoff_limit else ""
        )
    delay = min(_FIRST_DELAY * 2 ** min(number - 1, 10), _LONGEST_DELAY)
    return Retry(attempt=number + 1, delay_seconds=delay, counted=counted, ignored=ignored)


def _action(rules: Sequence[FailureRule], failure: Failure) -> str:
    return next((rule.action for rule in rules if _matches(rule, failure)), "Count")


def _matches(rule: FailureRule, failure: Failure) -> bool:
    if rule.on_exit_codes is None:
        return failure.reason in rule.on_reasons
    if failure.exit_code is None:
        return False
    return (failure.exit_code in rule.on_exit_codes.values) is (rule.on_exit_codes.operator == "In")


def _said(failure: Failure) -> str:
    return failure.reason if failure.exit_code is None else f"{failure.reason} with exit code {failure.exit_code}"
