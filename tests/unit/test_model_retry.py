"""After a failed attempt: another one, or the end."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dask_training.model import TrainingJob
from dask_training.model.retry import MAX_IGNORED, RETRYABLE_REASONS, Fail, Failure, Retry, decide


def spec(backoff_limit=0, *rules):
    body = {
        "metadata": {"name": "job"},
        "spec": {"runner": {"module": "m"}, "backoffLimit": backoff_limit, "failurePolicy": {"rules": list(rules)}},
    }
    return TrainingJob.from_body(body).spec


RAISED = Failure("RunnerFailed", 1)
EVICTED = Failure("RunnerDisrupted")
NO_RETRY_FOR_2 = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [2, 64]}}
IGNORE_EVICTION = {"action": "Ignore", "onReasons": ["RunnerDisrupted"]}


def test_without_backoff_limit_the_first_failure_is_the_end():
    assert decide(spec(), [RAISED]) == Fail()


def test_so_many_retries_as_backoff_limit_says():
    assert decide(spec(2), [RAISED]) == Retry(attempt=2, delay_seconds=10, counted=1, ignored=0)
    assert decide(spec(2), [RAISED, RAISED]) == Retry(attempt=3, delay_seconds=20, counted=2, ignored=0)
    assert decide(spec(2), [RAISED, RAISED, RAISED]) == Fail("backoffLimit is 2, and 3 attempts failed")


def test_the_delay_doubles_up_to_ten_minutes():
    delays = [decide(spec(100), [RAISED] * n).delay_seconds for n in (1, 2, 3, 4, 5, 6, 7, 8, 50)]
    assert delays == [10, 20, 40, 80, 160, 320, 600, 600, 600]


@pytest.mark.parametrize("reason", ["ValidationFailed", "DeadlineExceeded", "Interrupted", "InternalError"])
def test_what_another_attempt_can_t_mend_is_the_end(reason):
    ignore_all = {"action": "Ignore", "onExitCodes": {"operator": "NotIn", "values": [0]}}
    assert decide(spec(5, ignore_all), [Failure(reason, 1)]) == Fail()


@pytest.mark.parametrize(
    ("failure", "retried"),
    [
        (Failure("RunnerFailed", 2), False),
        (Failure("RunnerFailed", 64), False),
        (RAISED, True),
        (Failure("RunnerKilled"), True),
    ],
)
def test_exit_codes_can_end_the_job_at_once(failure, retried):
    assert isinstance(decide(spec(5, NO_RETRY_FOR_2), [failure]), Retry) is retried


def test_an_end_by_rule_says_so():
    assert decide(spec(5, NO_RETRY_FOR_2), [Failure("RunnerFailed", 2)]) == Fail(
        "failurePolicy: no more attempts after RunnerFailed with exit code 2"
    )


@pytest.mark.parametrize(("code", "retried"), [(3, True), (1, False), (None, False)])
def test_not_in_matches_other_exit_codes_but_not_none(code, retried):
    ignore = {"action": "Ignore", "onExitCodes": {"operator": "NotIn", "values": [1]}}
    assert isinstance(decide(spec(0, ignore), [Failure("RunnerFailed", code)]), Retry) is retried


def test_ignored_failures_do_not_count():
    assert decide(spec(0, IGNORE_EVICTION), [EVICTED] * 3) == Retry(attempt=4, delay_seconds=40, counted=0, ignored=3)
    assert decide(spec(0, IGNORE_EVICTION), [EVICTED, RAISED]) == Fail()


def test_failures_are_not_ignored_without_end():
    assert isinstance(decide(spec(0, IGNORE_EVICTION), [EVICTED] * MAX_IGNORED), Retry)
    assert isinstance(decide(spec(0, IGNORE_EVICTION), [EVICTED] * (MAX_IGNORED + 1)), Fail)


def test_the_first_rule_that_matches_decides():
    count = {"action": "Count", "onReasons": ["RunnerDisrupted"]}
    assert decide(spec(0, count, IGNORE_EVICTION), [EVICTED]) == Fail()
    assert isinstance(decide(spec(0, IGNORE_EVICTION, count), [EVICTED]), Retry)


@pytest.mark.parametrize(
    "failures", [[RAISED], [RAISED, EVICTED], [EVICTED, RAISED, RAISED], [RAISED] * 4, [EVICTED] * 12]
)
def test_failures_may_be_decided_on_one_by_one(failures):
    """Who keeps but the counts of what went before decides as who keeps it all."""
    counted = ignored = 0
    for number, failure in enumerate(failures, 1):
        decision = decide(spec(2, IGNORE_EVICTION), [failure], counted=counted, ignored=ignored)
        assert decision == decide(spec(2, IGNORE_EVICTION), failures[:number])
        if isinstance(decision, Fail):
            break
        counted, ignored = decision.counted, decision.ignored


def test_without_a_failure_there_is_nothing_to_decide():
    with pytest.raises(ValueError, match="at least one failure"):
        decide(spec(), [])


@settings(deadline=None)
@given(
    st.integers(0, 20),
    st.lists(
        st.builds(Failure, st.sampled_from(RETRYABLE_REASONS), st.none() | st.integers(1, 255)), min_size=1, max_size=40
    ),
)
def test_a_job_never_has_more_attempts_than_its_limits_allow(limit, failures):
    decision = decide(spec(limit, IGNORE_EVICTION), failures)
    if isinstance(decision, Retry):
        assert decision.attempt == len(failures) + 1 <= limit + MAX_IGNORED + 1
        assert decision.counted + decision.ignored == len(failures)
        assert decision.counted <= limit
    else:
        assert len(failures) > limit
