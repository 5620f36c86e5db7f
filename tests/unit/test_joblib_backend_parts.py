"""The backend's parts that need no cluster: batch sizes, progress, reading ahead, naming, blame."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import joblib.parallel
import numpy as np
import pytest

from dask_training.errors import TaskKilledWorkersError
from dask_training.joblib_backend import registration
from dask_training.joblib_backend.batching import IDEAL_SECONDS, MOST_BYTES, BatchSizer
from dask_training.joblib_backend.cluster import ClusterView, WorkerDied
from dask_training.joblib_backend.dispatcher import Dispatcher
from dask_training.joblib_backend.driver import Batch, job_limit
from dask_training.joblib_backend.lookahead import MOST_TASKS, Lookahead
from dask_training.joblib_backend.losses import blame
from dask_training.joblib_backend.payload import brief, describe, function_name
from dask_training.joblib_backend.progress import SECONDS_BETWEEN, Progress


@pytest.fixture
def registry():
    before, defaults = dict(joblib.parallel.BACKENDS), registration.defaults()
    yield joblib.parallel.BACKENDS
    registration._Registry.defaults = defaults
    joblib.parallel.BACKENDS.clear()
    joblib.parallel.BACKENDS.update(before)


# ---- batch sizes ----------------------------------------------------------------------------------------------------


def test_batches_of_fast_tasks_grow_sixteenfold_at_most_and_reach_the_ideal():
    sizer = BatchSizer()
    sizes = [sizer.completed(sizer.size, sizer.size * 1e-3, 0) for _ in range(4)]
    assert sizes == [16, 256, int(IDEAL_SECONDS / 1e-3), int(IDEAL_SECONDS / 1e-3)]


def test_slow_tasks_stay_alone():
    assert BatchSizer().completed(1, 3.0, 0) == 1


def test_batches_shrink_when_tasks_become_slower():
    sizer = BatchSizer()
    sizer.completed(1, 0.001, 0)
    assert sizer.completed(16, 16.0, 0) == 1


def test_a_late_report_of_a_small_batch_does_not_shrink_the_next():
    sizer = BatchSizer()
    for size in (1, 16, 256):
        sizer.completed(size, size * 1e-5, 0)
    grown = sizer.size
    assert sizer.completed(1, 1e-5, 0) == grown


def test_batches_of_large_results_stay_small_enough_for_one_message():
    sizer = BatchSizer()
    for _ in range(5):
        sizer.completed(sizer.size, sizer.size * 1e-4, sizer.size * 100_000)
    assert sizer.size == MOST_BYTES // 100_000


def test_tasks_that_take_no_measurable_time_do_not_divide_by_zero():
    assert BatchSizer().completed(1, 0.0, 0) == 16


# ---- progress -------------------------------------------------------------------------------------------------------


PROGRESS_SECONDS = "dask_training.joblib_backend.progress.SECONDS_BETWEEN"


def test_progress_is_told_ten_times_a_second_at_most_and_the_end_always(monkeypatch):
    assert SECONDS_BETWEEN == 0.1
    monkeypatch.setattr(PROGRESS_SECONDS, 60)  # the machine may stand still for longer
    told = []
    progress = Progress(lambda *now: told.append(now), "fit")
    for done in range(1000):
        progress.update(done, 1000)
    progress.finish()
    assert [entry[:2] for entry in told] == [(0, 1000), (999, 1000)]
    assert {entry[3] for entry in told} == {"fit"}


def test_the_end_of_a_call_is_told_at_once_and_once(monkeypatch):
    monkeypatch.setattr(PROGRESS_SECONDS, 60)
    told = []
    progress = Progress(lambda *now: told.append(now), "fit")
    for done in (0, 9, 10):
        progress.update(done, 10)
    progress.finish()
    assert [entry[:2] for entry in told] == [(0, 10), (10, 10)]


def test_calls_are_numbered():
    told = []
    for _ in range(2):
        Progress(lambda *now: told.append(now), "fit").update(1, 1)
    assert told[1][2] == told[0][2] + 1


# ---- reading ahead --------------------------------------------------------------------------------------------------


def tasks(number):
    return ((abs, (-i,), {}) for i in range(number))


def test_reading_ahead_counts_all_tasks_and_gives_them_in_order(monkeypatch):
    monkeypatch.setattr("dask_training.joblib_backend.lookahead.MOST_SECONDS", 60)
    ahead = Lookahead(tasks(50), already=4)
    next(ahead)
    ahead.read_ahead(lambda: True)
    assert (ahead.total, ahead.left) == (54, 49)
    assert [task[1][0] for task in ahead] == list(range(-1, -50, -1))


def test_reading_ahead_of_an_endless_generator_ends():
    ahead = Lookahead(((abs, (i,), {}) for i in itertools.count()), already=0)
    ahead.read_ahead(lambda: True)
    assert ahead.total is None
    assert ahead.left == 0
    assert len(ahead._ready) <= MOST_TASKS


def test_reading_ahead_stops_when_the_process_grows():
    def large():
        for i in range(1000):
            yield abs, (np.full(1_000_000, i),), {}

    ahead = Lookahead(large(), already=0)
    ahead.read_ahead(lambda: True)
    assert ahead.total is None
    assert 1 <= len(ahead._ready) < 100


def test_reading_ahead_leaves_slow_generators_alone():
    def slow():
        for _ in range(100):
            time.sleep(0.05)
            yield abs, (), {}

    ahead = Lookahead(slow(), already=0)
    ahead.read_ahead(lambda: True)
    assert len(ahead._ready) < 12


def test_what_the_generator_raises_waits_for_its_turn():
    def failing():
        yield abs, (1,), {}
        raise KeyError("after one")

    ahead = Lookahead(failing(), already=0)
    ahead.read_ahead(lambda: True)
    assert next(ahead)[1] == (1,)
    for _ in range(2):
        with pytest.raises(KeyError, match="after one"):
            next(ahead)


def test_several_threads_may_read_and_take():
    ahead = Lookahead(tasks(3000), already=0)
    taken = []
    threads = [threading.Thread(target=lambda: taken.extend(ahead)) for _ in range(4)]
    for thread in threads:
        thread.start()
    ahead.read_ahead(lambda: True)
    for thread in threads:
        thread.join()
    assert sorted(-task[1][0] for task in taken) == list(range(3000))


# ---- dispatcher -----------------------------------------------------------------------------------------------------


def test_work_runs_in_order_in_one_thread_that_ends_with_stop():
    dispatcher, done, names = Dispatcher("test-dispatcher"), [], set()

    def work(i):
        done.append(i)
        names.add(threading.current_thread())

    for i in range(100):
        dispatcher.put(lambda i=i: work(i))
    dispatcher.put(dispatcher.stop)
    [thread] = [thread for thread in threading.enumerate() if thread.name == "test-dispatcher"] or list(names)
    thread.join(60)
    assert not thread.is_alive()
    assert done == list(range(100))
    dispatcher.put(lambda: done.append("late"))
    assert done[-1] == 99


# ---- names and blame ------------------------------------------------------------------------------------------------


def local(x):
    return x


def test_batches_are_named_after_their_functions():
    assert describe([(local, (1,), {})]) == "batch_of_local_1_calls"
    assert describe([(local, (1,), {}), (abs, (1,), {})]) == "mixed_batch_of_local_2_calls"
    assert function_name([(joblib.Memory(None).cache(local), (), {})]) == "local"


def test_a_task_is_told_shortly_with_its_arguments():
    class Rude:
        def __repr__(self):
            raise RuntimeError

    task = (local, (np.zeros((200_000, 11)), "x" * 200, Rude(), 4, 5), {"seed": 3})
    told = brief(task)
    assert told.startswith("local(ndarray(200000, 11), 'xxx")
    assert "<Rude>, 4, seed=3, ...)" in told
    assert len(told) < 200


def test_a_single_task_is_blamed_at_the_third_death_and_a_batch_never():
    single, several = Batch([(local, (1,), {})]), Batch([(local, (1,), {})] * 2)
    for strikes in (1, 2, 3):
        assert single.verdict is None
        blame(single, strikes, "tcp://10.0.0.1:1")
        blame(several, strikes, "tcp://10.0.0.1:1")
    assert isinstance(single.verdict, TaskKilledWorkersError)
    assert str(single.verdict).startswith("local(1) was tried 3 times, and each time its worker died")
    assert "spec.workers.resources.limits.memory" in str(single.verdict)
    assert several.verdict is None


@pytest.mark.parametrize(
    ("n_jobs", "cores", "limit"), [(-1, 8, None), (3, 8, 3), (9, 8, 9), (-2, 8, 7), (-8, 8, 1), (-20, 8, 1), (-2, 1, 1)]
)
def test_n_jobs_as_a_limit(n_jobs, cores, limit):
    assert job_limit(n_jobs, cores) == limit


# ---- registration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"min_workers": 0}, ValueError, "min_workers must be at least 1, got 0"),
        ({"threads_per_worker": 0}, ValueError, "threads_per_worker must be at least 1, got 0"),
        ({"scatter": 3}, TypeError, "scatter must be a list/tuple of objects"),
        ({"scatter": "everything"}, TypeError, "got 'everything'"),
    ],
)
def test_wrong_defaults_are_told_and_nothing_is_registered(registry, options, error, message):
    registry.pop("dask", None)
    with pytest.raises(error, match=message):
        registration.register(**options)
    assert "dask" not in registry


def test_both_names_are_registered(registry):
    registration.register(min_workers=3)
    assert registry["dask"] is registry["dask.distributed"]
    assert registration.defaults().min_workers == 3


def test_the_scheduler_reads_tasks_without_importing_joblib_or_numpy():
    code = (
        "import sys, dask_training.joblib_backend.remote; print([m for m in ('joblib', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- news of workers ------------------------------------------------------------------------------------------------


class StillClient:
    """A client as far as news need one."""

    id = "client"
    status = "running"

    def __init__(self):
        self.rpc = SimpleNamespace(remove=lambda address, reason: None)

    def subscribe_topic(self, topic, handler):
        pass


class Deaths(list):
    def worker_died(self, death):
        self.append(death)

    def workers_changed(self):
        pass

    __hash__ = object.__hash__


@pytest.fixture
def client():
    return StillClient()


@pytest.fixture
def view(client):
    """What a client knows, and the deaths that it was told of."""
    view, deaths = ClusterView(client), Deaths()
    view._listeners.add(deaths)
    return view, deaths


def departure(*keys, expected=False):
    return {"expected": expected, "processing-tasks": keys}


def test_a_death_counts_once_though_the_worker_comes_back_under_its_address(view):
    view, deaths = view
    view._on_start("task", "tls://a:8788")
    view._on_departure("tls://a:8788", departure("task"))
    view._on_start("other", "tls://a:8788")
    view._on_start("task", "tls://b:8788")
    assert deaths == [WorkerDied("tls://a:8788", frozenset({"task"}))]


def test_a_death_that_nobody_told_of_shows_when_the_task_begins_again(view):
    view, deaths = view
    view._on_start("task", "tls://a:8788")
    view._on_start("task", "tls://b:8788")
    assert deaths == [WorkerDied("tls://a:8788", frozenset({"task"}))]


def test_nobody_is_blamed_for_a_worker_that_was_sent_away(view):
    view, deaths = view
    view._on_start("task", "tls://a:8788")
    view._on_departure("tls://a:8788", departure("task", expected=True))
    view._on_start("task", "tls://b:8788")
    assert deaths == []
