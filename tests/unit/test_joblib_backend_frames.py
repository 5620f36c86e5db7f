"""Objects as frames, and tasks as payloads."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest

from dask_training.joblib_backend.frames import Frames, dump, pack, unpack


def through(frames: Frames, protocol: int) -> Frames:
    buffers: list = []
    if protocol < 5:
        return pickle.loads(pickle.dumps(frames, protocol=protocol))
    pickled = pickle.dumps(frames, protocol=protocol, buffer_callback=buffers.append)
    return pickle.loads(pickled, buffers=[bytes(b) for b in buffers])


@pytest.mark.parametrize("protocol", [4, 5])
def test_an_object_survives_the_way_whatever_protocol_the_peers_speak(protocol):
    value = {"array": np.arange(100_000), "text": "x" * 10, "none": None}
    found = through(dump(value), protocol).load()
    np.testing.assert_array_equal(found["array"], value["array"])
    assert found["text"] == value["text"]


def test_the_buffers_of_an_array_are_referred_to_and_not_copied():
    array = np.arange(100_000)
    frames = dump(array)
    assert len(frames.buffers) == 1
    assert np.shares_memory(np.frombuffer(frames.buffers[0], array.dtype), array)
    assert len(frames.header) < 1000


def test_a_data_frame_of_numbers_travels_by_buffer():
    frame = pd.DataFrame(np.random.default_rng(0).random((10_000, 11)))
    frames = dump(frame)
    assert sum(memoryview(b).nbytes for b in frames.buffers) >= frame.to_numpy().nbytes
    pd.testing.assert_frame_equal(frames.load(), frame)


def test_large_buffers_are_shared_read_only_and_small_ones_are_the_tasks_own():
    frames = dump({"small": np.zeros(20_000), "large": np.zeros(200_000)})
    first, second = frames.load(shared_from=1_000_000), frames.load(shared_from=1_000_000)
    first["small"][0] = 1
    assert second["small"][0] == 0
    assert np.shares_memory(first["large"], second["large"])
    with pytest.raises(ValueError, match="read-only"):
        first["large"][0] = 1


def test_results_are_writable_even_when_they_came_as_bytes():
    frames = through(dump(np.zeros(100_000)), 5)
    found = frames.load_writable()
    found[0] = 1
    assert found[0] == 1


def test_a_fingerprint_tells_apart_what_differs_in_one_bit_and_where_one_buffer_ends():
    array = np.zeros(100_000)
    before = dump(array).digest()
    assert dump(array.copy()).digest() == before
    array[99_999] = 1e-300
    assert dump(array).digest() != before
    assert Frames(b"h", [b"ab", b"c"]).digest() != Frames(b"h", [b"a", b"bc"]).digest()


def test_tasks_are_packed_without_what_is_sent_apart():
    large, small = np.arange(1000), np.arange(3)
    blob = pack([(max, (large, small), {"key": large})], lambda value: 0 if value is large else None)
    assert len(blob) < 1000
    [(function, args, kwargs)] = unpack(blob, ["in its place"])
    assert function is max
    assert args[0] == kwargs["key"] == "in its place"
    np.testing.assert_array_equal(args[1], small)


def test_a_function_packed_by_its_pickle_is_one_function_to_all_tasks_of_a_batch():
    def local(x):
        return x

    pickled = pickle.dumps(len)
    blob = pack([(local, (1,), {}), (local, (2,), {})], lambda value: pickled if value is local else None)
    first, second = unpack(blob, [])
    assert first[0] is second[0] is len
