"""Large arguments: sent once, in more than one place, and never stale."""

from __future__ import annotations

import gc

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from joblib import Parallel, delayed
from remote_tasks import first, pid, total, types_of, write_into

from dask_training.joblib_backend import register

LARGE = 200_000  # numbers of 8 bytes


def data_keys(client):
    """Keys of the objects on the workers, with the number of workers that hold each."""
    return {key: len(holders) for key, holders in client.who_has().items() if str(key).startswith("joblib-data")}


@pytest.fixture
def sent(dask):
    """How many objects were sent to workers since the last question, replicas counted."""

    def received(dask_worker):
        return [story[0] for story in dask_worker.state.log if "receive-from-scatter" in story]

    seen = set()

    def ask():
        now = {(worker, key) for worker, keys in dask.run(received).items() for key in keys}
        new = len(now - seen)
        seen.update(now)
        return new

    ask()
    return ask


def test_an_array_is_sent_once_per_call_and_held_by_two_workers(dask, sent):
    array = np.arange(float(LARGE))
    assert Parallel()(delayed(total)(array, i) for i in range(20)) == [array.sum() + i for i in range(20)]
    assert sent() == 2
    assert list(data_keys(dask).values()) == [2]


def test_an_array_that_is_passed_again_is_not_sent_again(dask, sent):
    array = np.arange(float(LARGE))
    for _ in range(3):
        Parallel()(delayed(total)(array, i) for i in range(4))
    assert sent() == 2


def test_an_array_that_was_changed_between_calls_is_sent_anew(dask, sent):
    array = np.zeros(LARGE)
    assert Parallel()(delayed(total)(array, 0) for _ in range(4)) == [0] * 4
    array[LARGE // 3 + 1] = 5  # one number that no sample looks at
    assert Parallel()(delayed(total)(array, 0) for _ in range(4)) == [5] * 4
    assert sent() == 4


def test_a_buffer_that_the_generator_fills_again_and_again_is_sent_as_it_is_at_dispatch(dask):
    buffer = np.zeros(LARGE)

    def tasks():
        for i in range(12):
            buffer[:] = i
            yield delayed(first)(buffer)

    # Under any backend joblib takes `n_jobs` tasks from the generator before it dispatches the first of them.
    found = Parallel(batch_size=1, pre_dispatch=4)(tasks())
    assert all(i <= value <= i + 1 for i, value in enumerate(found)), found


def test_a_frame_that_the_generator_changes_is_sent_as_it_is_at_dispatch(dask):
    frame = pd.DataFrame({"a": np.zeros(LARGE)})

    def tasks():
        for i in range(8):
            frame[f"new {i}"] = i
            yield delayed(np.shape)(frame)

    found = Parallel(batch_size=1, pre_dispatch=4)(tasks())
    assert all(i + 2 <= columns <= i + 3 for i, (_, columns) in enumerate(found)), found


def test_arrays_that_are_gone_leave_the_workers(dask, poll):
    for number in range(5):
        Parallel()(delayed(total)(np.full(LARGE, number), i) for i in range(4))
    gc.collect()
    poll(lambda: not data_keys(dask), 5)
    poll(lambda: not dask.futures, 5)


def test_new_arrays_at_the_addresses_of_old_ones_are_not_mistaken_for_them(dask):
    for number in range(30):
        array = np.full(2000, number)
        assert Parallel()(delayed(first)(array) for _ in range(2)) == [number] * 2
        del array


def test_small_arguments_travel_inside_the_tasks(dask, sent):
    Parallel()(delayed(total)(np.zeros(100), i) for i in range(20))
    assert sent() == 0


def test_arrays_frames_and_sparse_matrices_arrive_as_they_are(dask):
    rng = np.random.default_rng(0)
    values = [
        rng.random((300, 200)),
        np.asfortranarray(rng.random((300, 200))),
        rng.random((600, 200))[::2, ::2],
        rng.random((300, 200)).astype("f4"),
        np.array(["text", None, 3] * 5000, dtype=object),
        np.rec.fromarrays([rng.random(5000), np.arange(5000)], names="a,b"),
        pd.DataFrame({"n": rng.random(20_000), "t": ["a", "b"] * 10_000, "c": pd.Categorical(["x", "y"] * 10_000)}),
        pd.Series(rng.random(20_000), name="s"),
        scipy.sparse.random(2000, 2000, density=0.01, format="csr", random_state=0),
    ]
    here = [types_of(value) for value in values]
    assert Parallel(batch_size=1)(delayed(types_of)(value) for value in values) == here
    for value, back in zip(values, Parallel()(delayed(np.copy)(v) for v in values[:4]), strict=False):
        np.testing.assert_array_equal(value, back)


def test_large_objects_that_are_no_arrays_are_sent_once_by_their_contents(dask, sent):
    texts = [f"document {i}" for i in range(50_000)]
    assert Parallel(batch_size=1)(delayed(len)(texts) for _ in range(10)) == [50_000] * 10
    assert sent() == 2
    texts.append("one more")
    assert Parallel(batch_size=1)(delayed(len)(texts) for _ in range(3)) == [50_001] * 3


def test_a_function_with_a_large_closure_is_sent_once(dask, sent):
    table = np.arange(float(LARGE))

    def look_up(index):
        return table[index]

    assert Parallel(batch_size=1)(delayed(look_up)(i) for i in range(20)) == list(range(20))
    assert sent() == 2


def test_a_task_gets_an_error_for_writing_into_a_large_array_and_its_own_copy_of_a_small_one(dask):
    with pytest.raises(ValueError, match="read-only"):
        Parallel()(delayed(write_into)(np.zeros(LARGE)) for _ in range(2))
    shared = np.zeros(5000)
    assert Parallel(batch_size=1)(delayed(write_into)(shared) for _ in range(6)) == [1.0] * 6
    assert shared.sum() == 0
    own = Parallel(max_nbytes=None, batch_size=1)(delayed(write_into)(large) for large in [np.zeros(LARGE)] * 6)
    assert own == [1.0] * 6


def test_results_may_be_written_into(dask):
    for array in Parallel()(delayed(np.ones)(LARGE) for _ in range(3)):
        array[:] = 2
        assert array.sum() == 2 * LARGE


def test_what_the_user_scatters_is_sent_once_for_all_calls(dask, sent):
    array, small = np.arange(float(LARGE)), np.arange(3.0)
    with joblib.parallel_config("dask", scatter=[array, small]):
        for _ in range(3):
            results = Parallel()(delayed(total)(array, small.sum()) for _ in range(4))
            assert results == [array.sum() + 3] * 4
    assert sent() == 4  # two objects on two workers
    with joblib.parallel_backend("dask", scatter=[array]):
        array[0] = 7
        assert Parallel()(delayed(first)(array) for _ in range(2)) == [7, 7]
        array[0] = 8
        assert Parallel()(delayed(first)(array) for _ in range(2)) == [8, 8]


@pytest.mark.parametrize("wrong", [1, np.zeros(3), "all", {"X": 1}])
def test_a_wrong_scatter_is_told(dask, wrong):
    with pytest.raises(TypeError, match="scatter must be a list/tuple"), joblib.parallel_config("dask", scatter=wrong):
        pass
    with pytest.raises(TypeError, match="scatter must be a list/tuple"):
        register(scatter=wrong)


def test_a_batch_too_large_for_the_scheduler_goes_to_the_workers_directly(dask):
    chunks = [bytes(50_000) for _ in range(120)]
    assert Parallel(batch_size=120)(delayed(len)(chunk) for chunk in chunks) == [50_000] * 120


def test_data_goes_through_the_scheduler_where_workers_can_not_be_reached(cluster, poll):
    client = cluster.client
    before = client.direct_to_workers
    client.direct_to_workers = False
    try:
        gc.collect()  # what the user asked to scatter stays until its backend is collected
        poll(lambda: not data_keys(client), 5)
        with joblib.parallel_config("dask"):
            array = np.arange(float(LARGE))
            assert Parallel()(delayed(total)(array, i) for i in range(6)) == [array.sum() + i for i in range(6)]
            assert 2 in data_keys(client).values()
            assert len(Parallel()(delayed(pid)(i) for i in range(3))) == 3
    finally:
        client.direct_to_workers = before
