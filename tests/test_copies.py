"""Copies to the host go by two buffers in turn, and no buffer is filled before it is given back."""

import threading

import numpy as np
import pytest

from simscope.copies import Copies, copies
from simscope.device import CPU


class SlowLane:
    """A stand-in for a GPU's stream: bytes move only when they are waited for."""

    def __init__(self):
        self.made = []

    def buffer(self, size):
        self.made.append(np.full(size, 255, np.uint8))
        return self.made[-1]

    def begin(self, pairs):
        def wait():
            for source, target in pairs:
                np.copyto(target, source)

        return wait


def chunk(number, size=5):
    return {
        "images": np.full((size, 3), number, np.uint16),
        "emitters/x_nm": np.arange(size + 2, dtype=np.float32) + number,
        "emitter_offsets": np.array([0, size + 2]),
    }


@pytest.mark.parametrize("make", [lambda: copies(CPU), lambda: Copies(SlowLane())])
def test_arrays_arrive_as_they_left(make):
    arriving = make()
    for number in range(4):
        sent = chunk(number, 5 - number)
        arrival = arriving.start(sent)
        got = arrival.wait()
        assert got.keys() == sent.keys()
        for name, array in sent.items():
            assert got[name].dtype == array.dtype
            assert np.array_equal(got[name], array)
        arrival.release()


def test_two_chunks_are_under_way_in_two_buffers():
    lane = SlowLane()
    arriving = Copies(lane)
    arrivals = [arriving.start(chunk(number)) for number in (1, 2)]
    assert len(lane.made) == 2
    for number, arrival in zip((1, 2), arrivals, strict=True):
        assert (arrival.wait()["images"] == number).all()
    assert not np.shares_memory(*(arrival.wait()["images"] for arrival in arrivals))


def test_a_third_chunk_waits_until_the_first_has_been_written():
    lane = SlowLane()
    arriving = Copies(lane)
    first, second = arriving.start(chunk(1)), arriving.start(chunk(2))
    held, third = first.wait(), []
    starter = threading.Thread(target=lambda: third.append(arriving.start(chunk(3))))
    starter.start()
    starter.join(0.1)
    assert starter.is_alive()  # no buffer is free
    assert (held["images"] == 1).all()
    first.release()
    starter.join(10)
    third[0].wait()
    assert (held["images"] == 3).all()  # the buffer given back is the one used again
    assert (second.wait()["images"] == 2).all()
    assert len(lane.made) == 2


def test_a_larger_chunk_gets_a_larger_buffer():
    lane = SlowLane()
    arriving = Copies(lane, buffers=1)
    arriving.start(chunk(1)).release()
    arrival = arriving.start(chunk(2, 500))
    assert (arrival.wait()["images"] == 2).all()
    assert len(lane.made) == 2


def test_arrays_begin_where_any_processor_may_read_them():
    arrival = Copies(SlowLane()).start(chunk(1))
    arrays = list(arrival.wait().values())
    starts = [array.ctypes.data - arrays[0].ctypes.data for array in arrays]
    assert all(start % 64 == 0 for start in starts)


def test_nothing_to_copy_is_copied_too():
    arrival = Copies(SlowLane()).start({"images": np.empty((0, 4), np.uint16)})
    assert arrival.wait()["images"].shape == (0, 4)
