"""Which of two replicas works, in virtual time."""

import asyncio

import pytest

from dask_training.handlers.lease import Leadership, LeaseLostError
from dask_training.kube.errors import AlreadyExistsError, ConflictError, NotFoundError, UnknownOutcomeError


class World:
    """A clock that moves when everyone sleeps, and a Lease with versions."""

    def __init__(self):
        self.now = 0.0
        self.sleepers = []
        self.lease = None
        self.version = 0
        self.down = set()
        self.history = []

    async def sleep(self, seconds):
        done = asyncio.get_running_loop().create_future()
        self.sleepers.append((self.now + seconds, len(self.history), done))
        await done

    async def pass_time(self, seconds):
        end = self.now + seconds
        while True:
            for _ in range(20):
                await asyncio.sleep(0)
            due = sorted((entry for entry in self.sleepers if entry[0] <= end), key=lambda entry: entry[0])
            if not due:
                break
            self.now = max(self.now, due[0][0])
            self.sleepers.remove(due[0])
            if not due[0][2].done():
                due[0][2].set_result(None)
        self.now = end

    def client(self, who):
        world = self

        class Client:
            def check(self):
                if who in world.down:
                    raise UnknownOutcomeError("x", "down")

            async def get(self, *_, urgent):
                self.check()
                if world.lease is None:
                    raise NotFoundError("x", "none")
                return {"metadata": {"resourceVersion": str(world.version)}, "spec": dict(world.lease)}

            async def create(self, _r, _ns, body, *, urgent):
                self.check()
                if world.lease is not None:
                    raise AlreadyExistsError("x", "there")
                self.write(body)

            async def replace(self, _r, _ns, _name, body, *, urgent):
                self.check()
                if body["metadata"]["resourceVersion"] != str(world.version):
                    raise ConflictError("x", "changed")
                self.write(body)

            def write(self, body):
                world.lease = dict(body["spec"])
                world.version += 1
                world.history.append((world.now, world.lease["holderIdentity"]))

        return Client()

    def replica(self, who):
        return Leadership(self.client(who), "system", "op", who, clock=lambda: self.now, sleep=self.sleep)


@pytest.fixture
def world():
    return World()


def leaders(*replicas):
    return [replica._identity for replica in replicas if replica.is_leader]


def test_one_of_two_leads_and_keeps_leading(run, world):
    async def scene():
        a, b = world.replica("a"), world.replica("b")
        tasks = [asyncio.create_task(replica.run()) for replica in (a, b)]
        for _ in range(60):
            await world.pass_time(1)
            assert leaders(a, b) == ["a"]
        assert not b.acquired.is_set()
        for task in tasks:
            task.cancel()

    run(scene())


def test_a_released_lease_is_taken_within_the_retry_period(run, world):
    async def scene():
        a, b = world.replica("a"), world.replica("b")
        first, second = (asyncio.create_task(replica.run()) for replica in (a, b))
        await world.pass_time(5)
        first.cancel()
        await a.release()
        assert leaders(a, b) == []
        await world.pass_time(2.1)
        assert leaders(a, b) == ["b"]
        second.cancel()

    run(scene())


def test_a_dead_leaders_lease_is_taken_after_its_duration_and_never_by_two(run, world):
    async def scene():
        a, b = world.replica("a"), world.replica("b")
        first, second = (asyncio.create_task(replica.run()) for replica in (a, b))
        await world.pass_time(5)
        first.cancel()
        taken = None
        for _ in range(40):
            await world.pass_time(0.5)
            assert len(leaders(a, b)) <= 1
            taken = taken or (world.now if leaders(b) else None)
        assert 15 <= taken <= 5 + 15 + 4.5
        assert world.lease["leaseTransitions"] == 1
        second.cancel()

    run(scene())


def test_a_leader_cut_off_stops_before_another_may_start(run, world):
    async def scene():
        a, b = world.replica("a"), world.replica("b")
        first, second = (asyncio.create_task(replica.run()) for replica in (a, b))
        await world.pass_time(5)
        world.down.add("a")
        stopped = None
        for _ in range(60):
            await world.pass_time(0.5)
            assert len(leaders(a, b)) <= 1
            stopped = stopped or (None if a.is_leader else world.now)
            if leaders(b):
                break
        assert stopped <= 5 + 10
        assert leaders(b) == ["b"]
        with pytest.raises(LeaseLostError, match="lease system/op is lost"):
            await first
        assert not a.acquired.is_set()
        second.cancel()

    run(scene())


def test_short_outages_do_not_cost_the_lease(run, world):
    async def scene():
        a = world.replica("a")
        task = asyncio.create_task(a.run())
        await world.pass_time(5)
        world.down.add("a")
        await world.pass_time(6)
        world.down.clear()
        await world.pass_time(30)
        assert leaders(a) == ["a"]
        task.cancel()

    run(scene())


def test_a_process_that_stood_still_does_not_think_that_it_leads(run, world):
    async def scene():
        a = world.replica("a")
        task = asyncio.create_task(a.run())
        await world.pass_time(5)
        world.now += 10  # the machine slept: no renewal has run since
        assert leaders(a) == []
        task.cancel()

    run(scene())


def test_releasing_never_takes_another_holders_lease_away(run, world):
    async def scene():
        a = world.replica("a")
        task = asyncio.create_task(a.run())
        await world.pass_time(1)
        task.cancel()
        world.lease["holderIdentity"] = "b"
        await a.release()
        assert world.lease["holderIdentity"] == "b"

    run(scene())
