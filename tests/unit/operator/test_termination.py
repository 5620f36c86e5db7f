"""Termination messages: what is written fits, and what is read is harmless."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_training.termination import (
    MAX_ADVICE,
    MAX_BYTES,
    Advice,
    Spent,
    StoredArtifacts,
    Termination,
    Versions,
    clean,
    encode,
    parse,
    tail,
)

WHOLE = Termination(
    reason="RunnerFailed",
    message="ValueError: no",
    exit_code=3,
    script_exit_code=3,
    metrics={"accuracy": 0.5},
    artifacts=StoredArtifacts(url="s3://b/p", files=2, bytes=10, manifest_sha256="0" * 64),
    timings=Spent(starting=1.0, running=2.0, finalizing=3.0),
    worker_restarts=1,
    tasks=9,
    advice=(Advice(rule="tiny-tasks", message="9 tasks took 1 ms each", fix="do more in each"),),
    versions=Versions(workers=2, differences="joblib"),
)
texts = st.text(max_size=6000)
numbers = st.floats(allow_nan=True, allow_infinity=True)


def test_what_is_written_is_what_is_read():
    assert parse(encode(WHOLE).decode()) == WHOLE
    assert set(json.loads(encode(WHOLE))) == {
        *("version", "reason", "message", "succeeded", "exitCode", "scriptExitCode", "metrics", "artifacts"),
        *("timings", "workerRestarts", "tasks", "advice", "versions"),
    }


@given(
    message=texts,
    metrics=st.dictionaries(st.text(max_size=300), numbers, max_size=100),
    url=st.text(max_size=600),
    advice=st.lists(st.builds(Advice, rule=st.just("tiny-tasks"), message=texts, fix=texts), max_size=5),
    differences=texts,
)
def test_it_always_fits(message, metrics, url, advice, differences):
    termination = Termination(
        reason="Completed",
        message=message,
        metrics=metrics,
        artifacts=StoredArtifacts(url=url, files=1, bytes=1, manifest_sha256="0" * 64),
        advice=tuple(advice),
        versions=Versions(workers=1, differences=differences),
    )
    written = encode(termination)
    assert len(written) <= MAX_BYTES
    read = parse(written.decode())
    assert read is not None
    assert read.reason == "Completed"


def test_advice_goes_before_metrics_do():
    advice = tuple(Advice(rule="tiny-tasks", message="y" * 400, fix="z" * 400) for _ in range(3))
    metrics = {f"metric_{number:02}_{'m' * 20}": number / 3 for number in range(40)}
    said = Termination(reason="Completed", message="x" * 1000, metrics=metrics, advice=advice)
    read = parse(encode(said).decode())
    assert read.metrics == metrics
    assert read.advice == advice[:2]


def test_a_long_message_keeps_its_beginning():
    read = parse(encode(Termination(reason="RunnerFailed", message="first\n" + "x" * 5000)).decode())
    assert read.message.startswith("first\n")
    assert read.message.endswith("…")


@given(texts | st.recursive(st.none() | st.integers() | texts, st.lists).map(json.dumps))
def test_anything_else_is_none(text):
    assert parse(text) is None


@given(
    st.fixed_dictionaries(
        {"reason": st.sampled_from(["Completed", "x", "", 1, None])},
        optional={
            "message": texts | st.integers(),
            "exitCode": st.integers(),
            "metrics": st.dictionaries(texts, numbers | texts, max_size=3) | st.integers(),
            "artifacts": st.none() | st.dictionaries(texts, texts, max_size=2),
            "tasks": st.integers(),
            "advice": st.lists(st.fixed_dictionaries({"rule": st.just("a-b"), "message": texts, "fix": texts})) | texts,
            "unknown": st.integers(),
        },
    )
)
def test_what_is_read_holds_nothing_that_harms(said):
    read = parse(json.dumps(said))
    if read is None:
        return
    assert clean(read.message) == read.message
    assert 0 <= read.exit_code <= 255
    assert len(read.advice) <= MAX_ADVICE
    assert all(len(text) <= 400 and clean(text) == text for each in read.advice for text in (each.message, each.fix))
    assert all(math.isfinite(value) and clean(key, 128) == key for key, value in read.metrics.items())


@pytest.mark.parametrize(
    "said",
    [
        {"reason": "RunnerFailed", "exitCode": 256},
        {"reason": "RunnerFailed", "exitCode": "1"},
        {"reason": "not a word"},
        {"message": "no reason"},
        {"reason": "RunnerFailed", "metrics": {"accuracy": "high"}},
        {"reason": "RunnerFailed", "artifacts": {"url": "u", "files": 1, "bytes": 1, "manifestSHA256": "x"}},
        {"reason": "RunnerFailed", "message": "x" * 20_000},
        {"reason": "RunnerFailed", "advice": [{"rule": "Not a rule", "message": "", "fix": ""}]},
    ],
)
def test_what_does_not_keep_to_the_rules_is_not_read(said):
    assert parse(json.dumps(said)) is None


def test_control_characters_are_taken_out():
    assert clean("a\x1b[31m\x00\r\nb\u202ec\td") == "a[31m\nbc\td"


def test_the_last_lines_of_a_log_are_kept():
    assert tail("\n".join(map(str, range(100))) + "\n\n") == "95\n96\n97\n98\n99"
    assert len(tail("x" * 100_000)) <= 1000
    assert tail("") == ""
