"""What a failure means, what is said of it, and when it is tried again."""

import errno
import threading
import time
import traceback

import aiohttp
import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
    ResponseStreamingError,
    SSLError,
)
from botocore.parsers import ResponseParserError
from hypothesis import given
from hypothesis import strategies as st
from machine import slowdown
from s3fs.errors import translate_boto_error

from dask_training.artifacts.faults import Fault, Secrets, StalledError, StoppedError, classify, describe, store_error
from dask_training.artifacts.retry import Backoff, call, in_parallel
from dask_training.errors import ArtifactError, StoreDeniedError, StoreFullError, StoreUnavailableError

NO_SECRETS = Secrets(())
URL = "http://s3.example.com/bucket"


def answer(status: int, code: str = "", message: str = "", **headers) -> Exception:
    """As s3fs raises it."""
    response = {
        "Error": {"Code": code or str(status), "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers},
    }
    return translate_boto_error(ClientError(response, "PutObject"))


def numbered(number: int) -> OSError:
    return OSError(number, "said by the system")


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        *((answer(status), Fault.TRANSIENT) for status in (408, 429, 500, 502, 503, 504, 599)),
        (answer(503, "SlowDown"), Fault.TRANSIENT),
        (answer(400, "RequestTimeout"), Fault.TRANSIENT),
        (answer(400, "BadDigest"), Fault.TRANSIENT),
        (answer(409, "OperationAborted"), Fault.TRANSIENT),
        (answer(507), Fault.FULL),
        (answer(403, "QuotaExceeded"), Fault.FULL),
        (answer(500, "InternalError", "write /data/x: no space left on device"), Fault.FULL),
        (answer(507, "XMinioStorageFull"), Fault.FULL),
        *((answer(status), Fault.DENIED) for status in (301, 401, 403, 405)),
        (answer(403, "SignatureDoesNotMatch"), Fault.DENIED),
        (answer(400, "ExpiredToken"), Fault.DENIED),
        (answer(404, "NoSuchBucket"), Fault.DENIED),
        (answer(400, "AuthorizationHeaderMalformed"), Fault.DENIED),
        (answer(404, "NoSuchKey"), Fault.MISSING),
        (answer(404), Fault.MISSING),
        (answer(404, "NoSuchUpload"), Fault.MISSING),
        (answer(400, "EntityTooLarge"), Fault.OTHER),
        (answer(501, "NotImplemented"), Fault.OTHER),
        (NoCredentialsError(), Fault.DENIED),
        (PartialCredentialsError(provider="env", cred_var="X"), Fault.DENIED),
        (SSLError(endpoint_url=URL, error="bad certificate"), Fault.DENIED),
        (EndpointConnectionError(endpoint_url=URL), Fault.TRANSIENT),
        (ConnectTimeoutError(endpoint_url=URL), Fault.TRANSIENT),
        (ReadTimeoutError(endpoint_url=URL), Fault.TRANSIENT),
        (ConnectionClosedError(endpoint_url=URL), Fault.TRANSIENT),
        (ResponseStreamingError(error="cut"), Fault.TRANSIENT),
        (ResponseParserError("half an answer"), Fault.TRANSIENT),
        (aiohttp.ClientPayloadError(), Fault.TRANSIENT),
        (aiohttp.ServerDisconnectedError(), Fault.TRANSIENT),
        (StalledError(20), Fault.TRANSIENT),
        (TimeoutError(), Fault.TRANSIENT),
        (ConnectionResetError(errno.ECONNRESET, "reset"), Fault.TRANSIENT),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), Fault.TRANSIENT),
        (numbered(errno.ESTALE), Fault.TRANSIENT),
        *((numbered(number), Fault.FULL) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)),
        *((numbered(number), Fault.DENIED) for number in (errno.EACCES, errno.EPERM, errno.EROFS)),
        (numbered(errno.ENOENT), Fault.MISSING),
        (numbered(errno.EIO), Fault.OTHER),
        (ValueError("a bug"), Fault.OTHER),
    ],
    ids=repr,
)
def test_each_failure_is_known_for_what_it_is(error, fault):
    assert classify(error) is fault


def test_an_answer_counts_more_than_the_number_that_a_library_gave_it():
    error = OSError(errno.EBUSY, "Service busy")
    error.__cause__ = answer(403, "AccessDenied").__cause__
    assert classify(error) is Fault.DENIED


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (answer(503), StoreUnavailableError, "no usable answer for 7 s (HTTP 503): check that the store is up"),
        (numbered(errno.ENOSPC), StoreFullError, "no space left (said by the system): free some space"),
        (numbered(errno.EROFS), StoreDeniedError, "(said by the system): it is read-only; mount it for writing"),
        (numbered(errno.EACCES), StoreDeniedError, "give this user the right to write there"),
        (answer(404, "NoSuchBucket"), StoreDeniedError, "there is no such bucket; create it, or correct"),
        (answer(301, "PermanentRedirect"), StoreDeniedError, "in another region; set AWS_REGION"),
        (answer(403, "RequestTimeTooSkewed"), StoreDeniedError, "this machine's clock is wrong"),
        (answer(403, "AccessDenied"), StoreDeniedError, "may list, read, write and delete there"),
        (NoCredentialsError(), StoreDeniedError, "give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        (SSLError(endpoint_url=URL, error="x"), StoreDeniedError, "certificate can't be verified"),
        (ValueError("a bug"), ArtifactError, "can't store 'a' in s3://b: a bug"),
    ],
    ids=repr,
)
def test_each_message_says_what_where_got_and_do(error, kind, says):
    made = store_error(classify(error), error, action="store 'a'", where="s3://b", waited=7.2, secrets=NO_SECRETS)
    assert type(made) is kind
    assert str(made).startswith("can't store 'a' in s3://b: ")
    assert says in str(made)


def test_what_a_server_says_is_shortened_and_made_printable():
    said = describe(answer(500, "Oops", "line\n\x1b[2J" + "x" * 1000), NO_SECRETS)
    assert said.isprintable()
    assert len(said) <= 300


def test_secrets_are_hidden_in_messages_and_in_what_they_were_raised_from():
    secrets = Secrets(["wJalr/secret", "AKID"])
    error = answer(403, "X", "key AKID with wJalr/secret or wJalr%2Fsecret")
    said = describe(error, secrets)
    assert "AKID" not in said
    assert "secret" not in said
    assert secrets.cause(error) is None
    assert secrets.cause(other := ValueError("harmless")) is other
    assert repr(secrets) == "Secrets(***)"
    with pytest.raises(StoreDeniedError) as caught:
        call(raising(error), action="x", where="y", deadline_seconds=0, secrets=secrets, stop=lambda: False)
    assert "wJalr" not in "".join(traceback.format_exception(caught.value))


def raising(*errors):
    """A function that raises one after the other, and then returns 1."""
    left = list(errors)

    def attempt():
        if left:
            raise left.pop(0)
        return 1

    return attempt


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def delays(backoff: Backoff, clock: Clock, error: Exception) -> list[float]:
    """All delays until it gives up; each attempt takes a tenth of a second."""
    found = []
    while (delay := backoff.delay(error)) is not None:
        found.append(delay)
        clock.now += delay + 0.1
        assert len(found) < 10_000
    return found


def test_delays_double_to_a_limit_and_end_at_the_deadline():
    clock = Clock()
    backoff = Backoff(60, clock=clock, draw=lambda: 1.0)
    found = delays(backoff, clock, answer(503))
    assert found[:6] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    assert max(found) == 5.0
    assert 60 <= clock.now - 100 <= 60.5


@given(st.floats(0, 100), st.lists(st.floats(0, 1), min_size=1))
def test_no_delay_is_longer_than_its_limit_and_none_passes_the_deadline(deadline, draws):
    clock = Clock()
    drawn = iter(draws * 200)
    backoff = Backoff(deadline, clock=clock, draw=lambda: next(drawn, 1.0))
    for number, delay in enumerate(delays(backoff, clock, TimeoutError())):
        assert 0 <= delay <= min(5.0, 0.2 * 2**number)
    assert clock.now - 100 <= deadline + 0.2


def test_a_store_that_asks_for_time_gets_it_up_to_the_deadline():
    clock = Clock()
    backoff = Backoff(30, clock=clock, draw=lambda: 0.0)
    assert backoff.delay(answer(503, **{"retry-after": "7"})) == 7
    assert backoff.delay(answer(503, **{"retry-after": "3600"})) == 30


def test_what_cant_pass_is_not_tried_again():
    for error in (answer(403), answer(507), answer(404), ValueError()):
        assert Backoff(60).delay(error) is None


def test_a_stalled_attempt_has_been_failing_since_nothing_moved():
    clock = Clock()
    backoff = Backoff(10, clock=clock, draw=lambda: 0.5)
    assert backoff.delay(StalledError(4)) is not None
    assert backoff.waited == 4
    assert backoff.left == 6
    assert Backoff(10, clock=clock).delay(StalledError(11)) is None


def test_a_call_is_repeated_until_it_succeeds():
    assert (
        call(raising(*[answer(503)] * 3), action="x", where="y", deadline_seconds=60, secrets=NO_SECRETS, stop=bool)
        == 1
    )


def test_a_call_that_never_succeeds_ends_at_the_deadline_with_its_cause():
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError) as caught:
        call(raising(*[answer(503)] * 99), action="x", where="y", deadline_seconds=0.5, secrets=NO_SECRETS, stop=bool)
    assert 0.4 < time.monotonic() - started < 5 * slowdown()  # 99 attempts would take minutes
    assert caught.value.__cause__ is not None


def test_waiting_for_the_next_attempt_ends_soon_after_stop():
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    started = time.monotonic()
    with pytest.raises(StoppedError):
        call(
            raising(*[answer(503, **{"retry-after": "60"})] * 99),
            action="x",
            where="y",
            deadline_seconds=60,
            secrets=NO_SECRETS,
            stop=stop.is_set,
        )
    assert time.monotonic() - started < 30


def test_work_in_parallel_is_returned_in_order():
    assert in_parallel(lambda item, _: item * 2, range(50), threads=8, stop=bool) == [item * 2 for item in range(50)]
    assert in_parallel(lambda item, _: item, [], threads=8, stop=bool) == []


def test_the_first_error_ends_the_others_and_is_the_one_raised():
    begun, outlasted = [], []

    def work(item, stopped):
        begun.append(item)
        if item == 3:
            raise ValueError("three")
        until = time.monotonic() + 10
        while time.monotonic() < until:
            if stopped():
                raise StoppedError("because of three")
            time.sleep(0.01)
        outlasted.append(item)

    with pytest.raises(ValueError, match="three"):
        in_parallel(work, range(1000), threads=4, stop=bool)
    assert outlasted == []
    assert len(begun) < 20
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("artifacts")]


def test_stopping_from_outside_ends_all_work():
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    with pytest.raises(StoppedError):
        in_parallel(lambda *_: time.sleep(0.02), range(10_000), threads=4, stop=stop.is_set)
