"""The queue of keys, its back-off and its deadlines, in virtual time."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_training.handlers.workqueue import FIRST_DELAY, LONGEST_DELAY, Deadlines, WorkQueue
from dask_training.kube import TokenBucket

A, B = ("team", "a"), ("team", "b")


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def queue(clock):
    return WorkQueue(clock=clock, jitter=lambda: 1.0)


def take(queue):
    return asyncio.run(asyncio.wait_for(queue.take(), 1))


def test_a_key_that_is_asked_for_often_waits_once(queue):
    for key in (A, B, A, A):
        queue.add(key)
    assert len(queue) == 2
    assert [take(queue), take(queue)] == [A, B]


def test_a_key_that_comes_up_while_under_way_comes_again_after_it(queue):
    queue.add(A)
    assert take(queue) == A
    queue.add(A)
    queue.add(A)
    assert (len(queue), queue.busy) == (0, 1)
    queue.done(A)
    assert (len(queue), queue.busy) == (1, 0)
    assert take(queue) == A
    queue.done(A)
    assert len(queue) == 0


def test_back_off_doubles_to_its_bound_and_starts_anew_after_a_success(queue):
    delays = [queue.back_off(A) for _ in range(12)]
    assert delays[:4] == [FIRST_DELAY * factor for factor in (1, 2, 4, 8)]
    assert delays[-1] == LONGEST_DELAY
    queue.succeeded(A)
    assert queue.back_off(A) == FIRST_DELAY


def test_jitter_takes_off_up_to_half(clock):
    assert WorkQueue(clock=clock, jitter=lambda: 0.0).back_off(A) == FIRST_DELAY / 2


def test_nothing_brings_a_key_before_what_the_server_asked_for(queue, clock):
    assert queue.back_off(A, at_least=7.0) == 7.0
    queue.add(A)
    clock.now = 6.9
    queue.add(A)
    assert queue.release_due() == pytest.approx(0.1)
    assert len(queue) == 0
    clock.now = 7.0
    assert queue.release_due() is None
    assert take(queue) == A


def test_a_failure_holds_one_key_alone(queue):
    queue.back_off(A, at_least=60)
    queue.add(B)
    assert take(queue) == B


def test_a_new_check_takes_the_place_of_the_old_one(queue, clock):
    queue.check_after(A, 5)
    queue.check_after(A, 50)
    clock.now = 10
    queue.release_due()
    assert len(queue) == 0
    clock.now = 50
    queue.release_due()
    assert len(queue) == 1


def test_a_forgotten_key_has_neither_check_nor_back_off(queue, clock):
    queue.back_off(A, at_least=60)
    queue.forget(A)
    clock.now = 100
    queue.release_due()
    assert len(queue) == 0
    assert queue.back_off(A) == FIRST_DELAY


def test_oldest_tells_how_long_the_first_key_waits(queue, clock):
    assert queue.oldest() == 0
    queue.add(A)
    clock.now = 3
    queue.add(B)
    assert queue.oldest() == 3


def test_a_queue_stalls_when_keys_wait_and_none_is_taken_however_long_each_of_them_waits(queue, clock):
    assert queue.stalled() == 0
    for number in range(5):
        queue.add(("default", str(number)))
    for clock.now in (100, 200, 300):
        assert queue.stalled() == 100
        asyncio.run(queue.take())
        assert queue.stalled() == 0
        assert queue.oldest() == clock.now
    clock.now = 450
    assert queue.stalled() == 150
    queue.add(A)
    assert queue.stalled() == 150


def test_deadlines_wake_the_driver_up():
    async def scene():
        queue = WorkQueue()
        driver = asyncio.create_task(queue.run_deadlines())
        queue.check_after(A, 60)
        await asyncio.sleep(0.01)
        queue.check_after(B, 0.05)
        assert await asyncio.wait_for(queue.take(), 2) == B
        driver.cancel()

    asyncio.run(scene())


@given(st.lists(st.tuples(st.sampled_from([("n", str(i)) for i in range(5)]), st.integers(0, 100)), max_size=200))
def test_deadlines_give_each_key_its_last_time_in_order(entries):
    deadlines, expected = Deadlines(), {}
    for key, time in entries:
        deadlines.set(key, float(time))
        expected[key] = float(time)
    assert len(deadlines) == len(expected)
    taken = [(time, key) for time in range(101) for key in deadlines.due(float(time))]
    assert sorted(taken) == sorted((time, key) for key, time in expected.items())
    assert [time for time, _ in taken] == sorted(time for time, _ in taken)
    assert deadlines.next() is None


def test_deadlines_do_not_grow_with_what_was_replaced():
    deadlines = Deadlines()
    for time in range(10_000):
        deadlines.set(A, float(time))
    assert len(deadlines._heap) < 200


@given(st.integers(1, 20), st.integers(1, 100), st.lists(st.floats(0, 1), max_size=200))
def test_a_token_bucket_never_lets_more_through_than_burst_and_rate(burst, rate, pauses):
    clock, passed = Clock(), []

    async def sleep(seconds):
        clock.now += seconds

    async def scene():
        bucket = TokenBucket(rate, burst, clock=clock, sleep=sleep)
        for pause in pauses:
            clock.now += pause
            await bucket.take()
            passed.append(clock.now)

    asyncio.run(scene())
    for index, start in enumerate(passed):
        within = [time for time in passed[index:] if time <= start + 1 - 1e-6]
        assert len(within) <= burst + rate


def test_a_token_bucket_lets_a_burst_through_at_once():
    clock, waits = Clock(), []

    async def sleep(seconds):
        waits.append(seconds)
        clock.now += seconds

    async def scene():
        bucket = TokenBucket(10, 5, clock=clock, sleep=sleep)
        for _ in range(7):
            await bucket.take()

    asyncio.run(scene())
    assert waits == pytest.approx([0.1, 0.1])
