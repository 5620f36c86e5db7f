"""What `Parallel` and its users may expect of the backend, on two real workers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import joblib
import numpy as np
import pytest
from joblib import Parallel, delayed
from machine import slowdown
from remote_tasks import (
    at_once,
    fail,
    fail_unpicklably,
    leave,
    mark,
    nested,
    nested_pids,
    pid,
    stand,
    stand_and_nest,
    total,
)

from dask_training.joblib_backend import DaskBackend, register


@pytest.fixture
def go(tmp_path):
    """The file for which tasks stand; there at the latest when the test is over, so that no worker stands for ever."""
    flag = tmp_path / "go"
    yield flag
    flag.touch()


def test_tasks_run_on_the_workers_and_give_their_results_in_order(dask):
    results = Parallel()(delayed(pid)(i, 0.01) for i in range(40))
    assert os.getpid() not in results
    assert len(set(results)) == 2
    assert Parallel()(delayed(abs)(-i) for i in range(1000)) == list(range(1000))


def test_both_names_give_our_backend(cluster):
    for name in ("dask", "dask.distributed"):
        with joblib.parallel_config(name) as config:
            assert type(config["backend"]) is DaskBackend


def test_the_old_way_with_a_scheduler_host_works_and_connects_once(cluster):
    for _ in range(2):
        with joblib.parallel_backend("dask.distributed", scheduler_host=cluster.address) as (backend, n_jobs):
            assert n_jobs == -1
            assert os.getpid() not in Parallel()(delayed(pid)(i) for i in range(4))
            clients = backend.client
    assert clients is not cluster.client
    with joblib.parallel_backend("dask.distributed", scheduler_host=cluster.address) as (backend, _):
        assert backend.client is clients
    clients.close()


def test_a_single_worker_of_one_thread_gets_the_tasks(start_cluster):
    start_cluster(1)
    with joblib.parallel_config("dask"):
        assert os.getpid() not in Parallel()(delayed(pid)(i) for i in range(5))
        assert os.getpid() not in Parallel(n_jobs=2)(delayed(pid)(i) for i in range(5))
        with Parallel() as parallel:
            assert os.getpid() not in parallel(delayed(pid)(i) for i in range(5))


@pytest.mark.parametrize(("n_jobs", "effective", "under_way"), [(-1, 6, 12), (-2, 5, 5), (4, 4, 4)])
def test_a_cluster_that_can_grow_gets_tasks_for_as_many_as_it_may_have(
    start_cluster, tmp_path, poll, n_jobs, effective, under_way
):
    client, go = start_cluster(1).client, tmp_path / "go"
    register(most_cores=6)
    with joblib.parallel_config("dask"):
        assert joblib.effective_n_jobs(n_jobs) == effective
        parallel = Parallel(n_jobs=n_jobs, batch_size=1)
        call = threading.Thread(target=parallel, args=([delayed(stand)(str(go), n) for n in range(20)],))
        call.start()
    try:
        asked = poll(lambda: found if (found := sent(client)) >= under_way else None)
    finally:
        go.touch()
        call.join(30)
    assert asked == under_way, "2*n_jobs of joblib's pre_dispatch, unless n_jobs is less than there is room for"


def sent(client):
    """How many tasks the scheduler has to do."""
    time.sleep(0.2)  # for those that are yet to be sent
    return client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))


def test_a_call_waits_for_the_quorum(start_cluster):
    processes = start_cluster(1)
    register(min_workers=2)
    late = threading.Timer(0.5, processes.add_worker)
    late.start()
    with joblib.parallel_config("dask"):
        used = Parallel(pre_dispatch="all")(delayed(pid)(i, 0.2) for i in range(2))
    late.join()
    assert len(set(used)) == 2


def test_a_quorum_that_does_not_come_is_an_error_that_says_what_to_do(cluster):
    register(min_workers=3, wait_for_workers_timeout=0.2)
    with joblib.parallel_config("dask"), pytest.raises(TimeoutError, match=r"has 2 of 3 workers after 0\.2 seconds"):
        Parallel()(delayed(pid)(i) for i in range(2))


def test_workers_that_join_late_get_work(start_cluster):
    processes = start_cluster(1)
    used = []

    def calls():
        """As many as it takes: when the others have come depends on how busy the machine is."""
        while len(set(used)) < 4:
            yield delayed(pid)(0, 0.1)

    with joblib.parallel_config("dask"):
        for each in Parallel(return_as="generator")(calls()):
            used.append(each)
            if len(used) == 4:
                for _ in range(3):
                    processes.add_worker()
    assert len(set(used)) == 4


@pytest.mark.parametrize(("n_jobs", "most"), [(2, 2), (3, 3), (-2, 3)])
def test_n_jobs_bounds_the_tasks_at_once(start_cluster, tmp_path, n_jobs, most):
    start_cluster(1, threads=4)
    folder = tmp_path / "running"
    folder.mkdir()
    with joblib.parallel_config("dask"):
        seen = Parallel(n_jobs=n_jobs)(delayed(at_once)(str(folder)) for _ in range(16))
    assert max(seen) == most


def test_n_jobs_of_one_runs_here_and_zero_is_an_error(dask):
    assert set(Parallel(n_jobs=1)(delayed(pid)() for _ in range(3))) == {os.getpid()}
    with pytest.raises(ValueError, match="n_jobs == 0"):
        Parallel(n_jobs=0)(delayed(pid)() for _ in range(3))


def test_results_come_as_a_generator_in_order_while_others_still_run(dask, go):
    tasks = [delayed(abs)(0), *(delayed(stand)(str(go), i) for i in range(1, 12))]
    results = Parallel(return_as="generator", batch_size=1)(tasks)
    assert next(results) == 0
    go.touch()
    assert list(results) == list(range(1, 12))


def test_results_come_as_they_are_done_if_order_does_not_matter(dask, go):
    tasks = [delayed(stand)(str(go), 0), *(delayed(abs)(-i) for i in range(1, 5))]
    results = Parallel(return_as="generator_unordered", batch_size=1)(tasks)
    found = [next(results) for _ in range(3)]  # the fourth may wait on the worker that stands
    go.touch()
    assert 0 not in found
    assert sorted([*found, *results]) == [0, 1, 2, 3, 4]


def test_two_generators_of_one_configuration_do_not_disturb_each_other(dask):
    first = Parallel(return_as="generator")(delayed(total)(np.ones(2), i) for i in range(10))
    second = Parallel(return_as="generator")(delayed(total)(np.ones(3), i) for i in range(10))
    assert [a - b for a, b in zip(second, first, strict=True)] == [1] * 10


def test_a_generator_that_is_dropped_cancels_what_it_did_not_give(dask, tmp_path, poll):
    results = Parallel(return_as="generator", pre_dispatch="all", batch_size=1)(
        delayed(mark)(str(tmp_path), i, 0.1) for i in range(1000)
    )
    next(results)
    with pytest.warns(UserWarning, match="have been cancelled"):
        del results
    poll(lambda: not dask.futures)
    time.sleep(0.3)
    assert len(list(tmp_path.iterdir())) < 200


def test_a_timeout_is_raised_while_the_tasks_still_run(dask, go):
    with pytest.raises(multiprocessing.TimeoutError):
        Parallel(timeout=0.3)(delayed(stand)(str(go), i) for i in range(4))


def test_an_exception_arrives_as_itself_with_its_traceback_and_ends_the_call(dask, poll):
    start = time.monotonic()
    with pytest.raises(ValueError, match="no 7") as caught:
        Parallel()(delayed(fail)(i, 7) for i in range(4000))
    assert time.monotonic() - start < 20  # all of them would take 100 s
    assert "in fail" in str(caught.value.__cause__)
    poll(lambda: not dask.futures, 5)
    assert Parallel()(delayed(fail)(i, -1) for i in range(4)) == [0, 1, 2, 3]


def test_an_exception_that_can_not_be_pickled_arrives_as_text(dask):
    with pytest.raises(RuntimeError, match=r"UnpicklableError: 1 and 2") as caught:
        Parallel()(delayed(fail_unpicklably)() for _ in range(2))
    assert "fail_unpicklably" in str(caught.value.__cause__)


def test_sys_exit_in_a_task_reaches_the_script(dask):
    with pytest.raises(SystemExit):
        Parallel()(delayed(leave)() for _ in range(2))


def test_arguments_and_results_that_can_not_be_pickled_are_told(dask):
    with pytest.raises(TypeError, match="pickle"):
        Parallel()(delayed(abs)(lock) for lock in [threading.Lock()] * 2)
    with pytest.raises(Exception, match="result of a task could not be pickled"):
        Parallel()(delayed(threading.Lock)() for _ in range(2))


def test_an_exception_of_the_task_generator_is_raised(dask):
    def tasks(number):
        for i in range(number):
            yield delayed(pid)(i)
        raise KeyError("in the generator")

    for number in (0, 1, 3, 50):
        with pytest.raises(KeyError, match="in the generator"):
            Parallel()(tasks(number))


def test_sys_exit_in_the_task_generator_is_raised(dask):
    def tasks():
        for i in range(10):
            yield delayed(pid)(i, 0.01)
        raise SystemExit(4)

    for pre_dispatch in (2, "2*n_jobs"):
        with pytest.raises(SystemExit):
            Parallel(pre_dispatch=pre_dispatch, batch_size=1)(tasks())


def test_control_c_ends_a_call_at_once_and_leaves_the_backend_working(dask, go, poll):
    timer = threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT])
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - it may come at any time
        timer.start()
        Parallel()(delayed(stand)(str(go), i) for i in range(100))
    timer.join()
    go.touch()
    poll(lambda: not dask.futures, 5)
    assert len(Parallel()(delayed(pid)(i) for i in range(4))) == 4


def test_a_task_generator_may_use_the_client_and_call_parallel_itself(dask):
    def tasks():
        for i in range(30):
            value = dask.submit(abs, -i).result() if i % 10 == 0 else Parallel()(delayed(abs)(-i) for _ in range(1))[0]
            yield delayed(abs)(value)

    assert Parallel()(tasks()) == list(range(30))


def test_threads_of_one_script_may_call_at_the_same_time(cluster):
    found = {}

    def work(number):
        with joblib.parallel_config("dask"):
            found[number] = Parallel()(delayed(total)(np.full(5000, number), i) for i in range(30))

    threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: [5000.0 * number + i for i in range(30)] for number in range(4)}


def test_a_hundred_small_calls_leave_nothing_behind(dask, poll):
    Parallel()(delayed(abs)(-i) for i in range(4))
    start = time.monotonic()
    for _ in range(100):
        assert Parallel()(delayed(abs)(-i) for i in range(4)) == [0, 1, 2, 3]
    assert time.monotonic() - start < 15 * slowdown()
    poll(lambda: not dask.futures, 5)
    poll(lambda: not dask.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks)), 5)
    assert threading.active_count() < 20


def test_parallel_as_a_context_manager_may_be_called_again_and_again(dask):
    with Parallel() as parallel:
        for number in range(5):
            assert parallel(delayed(abs)(-i) for i in range(number)) == list(range(number))


@pytest.mark.parametrize("pre_dispatch", ["all", 3, "3*n_jobs"])
@pytest.mark.parametrize("batch_size", ["auto", 7])
def test_any_pre_dispatch_and_batch_size_give_the_same(dask, pre_dispatch, batch_size):
    parallel = Parallel(pre_dispatch=pre_dispatch, batch_size=batch_size)
    assert parallel(delayed(abs)(-i) for i in range(100)) == list(range(100))


def test_pre_dispatch_bounds_what_is_taken_from_the_generator(dask, go):
    taken = []

    def tasks():
        for i in range(30):
            taken.append(i)
            yield delayed(stand)(str(go), i) if i else delayed(abs)(0)

    results = Parallel(pre_dispatch=4, batch_size=1, return_as="generator")(tasks())
    next(results)
    assert len(taken) < 14
    go.touch()
    assert list(results) == list(range(1, 30))


def test_progress_is_told_with_the_total_early_and_at_the_end(dask):
    told = []
    register(on_progress=lambda *told_now: told.append((time.monotonic(), *told_now)))
    with joblib.parallel_config("dask"):
        Parallel(batch_size=1)(delayed(total)(np.ones(2), i, 0.02) for i in range(60))
        Parallel()(delayed(abs)(-i) for i in range(10))
    first_call = [entry for entry in told if entry[4] == "total"]
    assert first_call[-1][1:3] == (60, 60)
    assert [done for _, done, *_ in first_call] == sorted(done for _, done, *_ in first_call)
    assert any(total == 60 for _, done, total, *_ in first_call if done < 50)
    gaps = np.diff([entry[0] for entry in first_call[:-1]])
    assert (gaps > 0.09).all()
    second_call = [entry for entry in told if entry[4] == "abs"]
    assert second_call[-1][1:3] == (10, 10)
    assert second_call[0][3] == first_call[0][3] + 1


def test_a_progress_callback_that_fails_does_not_end_the_call(cluster, caplog):
    def fail_to_tell(*_):
        raise OSError("no terminal")

    register(on_progress=fail_to_tell)
    with joblib.parallel_config("dask"):
        assert Parallel()(delayed(abs)(-i) for i in range(100)) == list(range(100))
    assert [record.message for record in caplog.records if "on_progress failed" in record.message]


def test_reading_ahead_for_the_total_keeps_the_order_of_tasks(dask):
    register(on_progress=lambda *_: None)
    with joblib.parallel_config("dask"):
        assert Parallel()(delayed(abs)(-i) for i in range(3000)) == list(range(3000))


def test_nested_calls_end_at_any_depth_and_on_one_thread(start_cluster):
    start_cluster(1)
    with joblib.parallel_config("dask"):
        assert Parallel()(delayed(nested)(3) for _ in range(3)) == [27] * 3
        assert Parallel()(delayed(nested)(3) for _ in range(1)) == [27]


def test_nested_tasks_use_the_cluster_where_the_outer_call_leaves_cores_idle(dask):
    [used] = Parallel()(delayed(nested_pids)(0.1) for _ in range(1))
    assert len(set(used)) == 2


def test_nested_tasks_go_ahead_of_outer_ones_that_wait(dask):
    def priority():
        from dask_training.joblib_backend.backend import nested_backend

        return nested_backend(True).submit_kwargs

    assert dask.submit(priority).result() == {"priority": 1}


def test_nested_tasks_stay_on_their_worker_where_the_outer_call_keeps_all_busy(dask, go, monkeypatch):
    # On a busy machine joblib may take longer to hand over two batches, and one alone does not keep all busy.
    monkeypatch.setattr("dask_training.joblib_backend.driver.HOLD_SECONDS", 10)

    def tasks():
        yield from (delayed(stand_and_nest)(str(go), 0.01) for _ in range(8))
        go.touch()  # joblib asks for a ninth: all eight are sent, and none has ended

    used = Parallel(pre_dispatch="all", batch_size=1)(tasks())
    assert all(len(set(inner)) == 1 for inner in used)


def test_tasks_that_name_the_dask_backend_themselves_get_ours_on_the_worker(dask):
    def name_it():
        with joblib.parallel_config("dask"):
            return type(Parallel()._backend).__module__, sum(Parallel()(delayed(abs)(-i) for i in range(5)))

    assert Parallel()(delayed(name_it)() for _ in range(3)) == [("dask_training.joblib_backend.backend", 10)] * 3


def test_only_the_workers_that_the_user_names_get_tasks(dask):
    workers = {address: dask.run(os.getpid, workers=[address])[address] for address in dask.scheduler_info()["workers"]}
    for address, expected in workers.items():
        with joblib.parallel_config("dask", workers=address):
            assert set(Parallel()(delayed(pid)(i, 0.01) for i in range(12))) == {expected}


def test_without_a_client_the_error_says_how_to_make_one():
    code = "from dask_training.joblib_backend import DaskBackend; DaskBackend()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ValueError: To use joblib with Dask first create a Dask Client" in done.stderr


def test_a_call_raises_no_warnings(dask):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Parallel()(delayed(total)(np.ones(200_000), i) for i in range(4))
        Parallel()(delayed(len)("x" * 11_000_000) for i in range(2))
    assert [str(warning.message) for warning in caught] == []
