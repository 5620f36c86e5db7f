"""Workers that die: what is lost is done again, and a task that kills its workers is told by its name."""

from __future__ import annotations

import threading
import time

import joblib
import numpy as np
import pytest
from joblib import Parallel, delayed
from machine import give_up_at
from remote_tasks import kill_if, kill_once, kill_worker, mark, pid, total

from dask_training.errors import SchedulerLostError, TaskKilledWorkersError, WorkersLostError


def in_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_call_survives_the_loss_of_every_worker_and_of_all_scattered_data(start_cluster):
    processes = start_cluster(2)
    array = np.arange(300_000.0)

    def replace_all():
        time.sleep(0.7)
        processes.kill_workers()
        time.sleep(0.3)
        processes.add_worker()

    with joblib.parallel_config("dask"):
        killer = in_thread(replace_all)
        results = Parallel()(delayed(total)(array, i, 0.1) for i in range(24))
        killer.join()
    assert results == [array.sum() + i for i in range(24)]


def test_a_forest_fitted_while_every_worker_is_replaced_equals_the_sequential_one(start_cluster):
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier

    X, y = make_classification(20_000, 11, random_state=0)
    expected = RandomForestClassifier(12, random_state=3, n_jobs=1).fit(X, y).predict_proba(X)
    processes = start_cluster(2)

    def replace_all():
        time.sleep(1.0)
        processes.kill_workers()
        processes.add_worker()
        processes.add_worker()

    with joblib.parallel_config("dask"):
        killer = in_thread(replace_all)
        forest = RandomForestClassifier(12, random_state=3).fit(X, y)
        killer.join()
    np.testing.assert_array_equal(forest.predict_proba(X), expected)


def test_the_loss_of_one_of_two_workers_costs_nothing_but_time(start_cluster):
    processes = start_cluster(2)
    array = np.arange(100_000.0)
    with joblib.parallel_config("dask"):
        killer = threading.Timer(0.5, processes.kill_workers, [1])
        killer.start()
        results = Parallel()(delayed(total)(array, i, 0.1) for i in range(14))
        killer.join()
    assert results == [array.sum() + i for i in range(14)]


def test_without_replacements_a_call_ends_with_an_error_that_says_what_to_do(start_cluster):
    processes = start_cluster(1)
    with joblib.parallel_config("dask", wait_for_workers_timeout=1.5):
        killer = threading.Timer(0.3, processes.kill_workers)
        killer.start()
        with pytest.raises(WorkersLostError, match=r"no worker after .* seconds.*wait_for_workers_timeout="):
            Parallel()(delayed(pid)(i, 0.2) for i in range(10))
        killer.join()


def test_the_loss_of_the_scheduler_is_told_at_once(start_cluster, tmp_path, poll):
    processes = start_cluster(1)
    folder = tmp_path / "ran"
    folder.mkdir()

    def kill_once_a_task_runs():
        poll(lambda: any(folder.iterdir()))
        processes.scheduler.kill()

    killer = in_thread(kill_once_a_task_runs)
    with joblib.parallel_config("dask"), pytest.raises(SchedulerLostError, match="scheduler's log"):
        Parallel()(delayed(mark)(str(folder), i, 0.1) for i in range(30))
    killer.join()


def test_a_scheduler_that_was_lost_before_is_told_as_well(start_cluster, poll):
    processes = start_cluster(1)
    processes.scheduler.kill()
    poll(lambda: processes.client.status != "running")
    with joblib.parallel_config("dask"), pytest.raises(SchedulerLostError):
        Parallel()(delayed(pid)(i) for i in range(3))


@pytest.mark.parametrize("seconds", [0.0, 0.3])
def test_a_task_that_kills_its_worker_each_time_is_named_after_three_tries(start_cluster, keep_workers, seconds):
    processes = start_cluster(2)
    keeper = keep_workers(processes)
    with joblib.parallel_config("dask"), pytest.raises(TaskKilledWorkersError) as caught:
        Parallel(batch_size=1)(delayed(kill_if)(i, 3, seconds=seconds) for i in range(8))
    message = str(caught.value)
    assert "kill_if(3, 3" in message
    assert "3 times" in message
    assert "memory" in message
    assert keeper.all_deaths(3) in (3, 4)  # Dask may give it to a fourth before it hears that it is given up


def test_a_worker_that_dies_before_the_client_can_ask_for_its_news_counts_as_well(
    start_cluster, keep_workers, monkeypatch
):
    processes = start_cluster(1)
    keeper = keep_workers(processes)
    client = processes.client
    subscribe = client.subscribe_topic

    def subscribe_late(topic, handler):
        client.loop.call_later(0.3 if topic.startswith("tcp://") else 0, subscribe, topic, handler)

    monkeypatch.setattr(client, "subscribe_topic", subscribe_late)
    with joblib.parallel_config("dask"), pytest.raises(TaskKilledWorkersError, match=r"kill_worker\(\) was tried 3"):
        Parallel()(delayed(kill_worker)() for _ in range(1))
    assert keeper.all_deaths(3) in (3, 4)  # the third is told by the start on a fourth


def test_a_culprit_inside_a_batch_is_found_and_its_neighbours_are_not_blamed(start_cluster, keep_workers):
    processes = start_cluster(2)
    keep_workers(processes)
    with joblib.parallel_config("dask"), pytest.raises(TaskKilledWorkersError, match=r"kill_if\(5, 5\)"):
        Parallel(batch_size=4)(delayed(kill_if)(i, 5) for i in range(12))


def test_a_task_that_kills_its_worker_once_is_run_again(start_cluster, keep_workers, tmp_path):
    processes = start_cluster(2)
    keeper = keep_workers(processes)
    flag = str(tmp_path / "flag")
    with joblib.parallel_config("dask"):
        assert Parallel(batch_size=3)(delayed(kill_once)(i, flag) for i in range(9)) == list(range(9))
    assert keeper.all_deaths(1) == 1


def test_a_call_after_one_that_killed_workers_works(start_cluster, keep_workers):
    processes = start_cluster(2)
    keep_workers(processes)
    with joblib.parallel_config("dask"):
        with pytest.raises(TaskKilledWorkersError, match=r"kill_worker\(\)"):
            Parallel()(delayed(kill_worker)() for _ in range(1))
        assert len(Parallel()(delayed(pid)(i) for i in range(6))) == 6


class Keeper:
    """Starts a worker for each that died."""

    def __init__(self, processes) -> None:
        self.processes = processes
        self._done = threading.Event()
        self._thread = in_thread(self._keep)

    def deaths(self) -> int:
        return sum(worker.poll() is not None for worker in self.processes.workers)

    def all_deaths(self, at_least: int) -> int:
        """How many died until now; Dask knows of a death some milliseconds before the kernel tells the parent of it."""
        deadline = give_up_at(5)
        while self.deaths() < at_least and time.monotonic() < deadline:
            time.sleep(0.01)
        self.stop()
        return self.deaths()

    def _keep(self) -> None:
        wanted = len(self.processes.workers)
        while not self._done.wait(0.05):
            for _ in range(wanted + self.deaths() - len(self.processes.workers)):
                self.processes.add_worker()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()


@pytest.fixture
def keep_workers():
    keepers = []

    def keep(processes):
        keepers.append(Keeper(processes))
        return keepers[-1]

    yield keep
    for keeper in keepers:
        keeper.stop()
