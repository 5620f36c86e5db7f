"""What the tests' streams share: made once, removed once, and never used by two where one is to be alone."""

import fcntl
import threading
import time

import pytest
import sharing
from machine import wait_until
from sharing import shared, turn


class Thing:
    """What is shared; `path` is its lock."""

    def __init__(self, path):
        self.path, self.done, self.exists, self.waits = path, [], False, threading.Event()

    def make(self):
        self.done.append("made")
        time.sleep(0.1)
        self.exists = True

    def remove(self):
        self.done.append("removed")
        self.exists = False

    def share(self, session, make=None):
        return shared(
            self.path,
            session,
            is_there=lambda: self.exists,
            make=make or self.make,
            remove=self.remove,
            wait=self.waits.set,
        )


@pytest.fixture
def thing(tmp_path):
    return Thing(tmp_path / "thing.lock")


@pytest.fixture
def start():
    """Runs functions at the same time; all have ended after the test."""
    threads = []

    def start(work):
        threads.append(threading.Thread(target=work))
        threads[-1].start()
        return threads[-1]

    yield start
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def test_the_first_makes_it_and_the_last_removes_it(thing, start):
    barrier = threading.Barrier(3, timeout=20)

    def use():
        with thing.share("ours"):
            assert thing.exists
            barrier.wait()  # all three are in at the same time

    for thread in [start(use) for _ in range(3)]:
        thread.join(20)
    assert thing.done == ["made", "removed"]


def test_another_session_waits_until_it_is_free(thing, start):
    def use():
        with thing.share("theirs"):
            assert thing.exists

    with thing.share("ours"):
        other = start(use)
        assert thing.waits.wait(20)
        assert thing.done == ["made"]
        assert other.is_alive()
    other.join(20)
    assert thing.done == ["made", "removed"] * 2


def test_what_was_there_stays(thing):
    thing.exists = True
    with thing.share("ours"):
        pass
    assert thing.done == ["made"]  # again, for it may have changed


def test_what_could_not_be_made_is_removed_and_the_next_one_tries_again(thing):
    def fail():
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"), thing.share("ours", make=fail):
        pass
    assert thing.done == ["removed"]
    with thing.share("theirs"):
        assert thing.exists


def is_taken(path) -> bool:
    with path.open() as file:
        return not sharing._try(file, fcntl.LOCK_SH)


def test_who_is_to_be_alone_is_and_need_not_wait_for_those_who_come_later(tmp_path, start):
    path, inside, order = tmp_path / "turn.lock", [], []

    def take(name, alone):
        with turn(path, alone=alone):
            order.append(name)
            inside.append(name)
            assert inside == [name] if alone else "alone" not in inside
            time.sleep(0.1)
            inside.remove(name)

    with turn(path, alone=False), turn(path, alone=False):
        start(lambda: take("alone", True))
        wait_until(lambda: is_taken(path.with_suffix(".queue")), 20)
        for name in ("later", "latest"):
            start(lambda name=name: take(name, False))
        time.sleep(0.2)
        assert order == []
    deadline = time.monotonic() + 20
    while len(order) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert order[0] == "alone"
    assert set(order) == {"alone", "later", "latest"}
