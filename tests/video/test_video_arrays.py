"""Arrays in pages of their own: ordinary ones to whoever uses them, and gone when they are."""

import mmap
import sys
from pathlib import Path

import numpy as np
import pytest

from mambamia_cli.video.arrays import apart


def test_one_is_written_and_read_like_any_other():
    array = apart((3, 4, 5))
    assert array.shape == (3, 4, 5) and array.dtype == np.uint8 and array.flags.c_contiguous and not array.any()
    array[1] = 7
    array[2, 3] += 1
    assert array.sum() == 4 * 5 * 7 + 5


def test_a_view_outlives_the_array():
    view = apart((2, 1 << 16))[1]
    view[:] = 9
    others = [apart((2, 1 << 16)) for _ in range(8)]
    assert (view == 9).all() and not any(other.any() for other in others)


def test_one_without_elements():
    assert apart((0, 45, 80, 3)).shape == (0, 45, 80, 3)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's account of a process")
def test_pages_go_back_to_the_system_though_others_stay():
    def held() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    arrays = [apart((1 << 20,)) for _ in range(64)]
    for array in arrays:
        array[:] = 1
    full, arrays = held(), arrays[::2]
    assert full - held() > 24 << 20  # of 32 MiB: other threads may ask for some
    del array
    assert all(one.all() for one in arrays)


def test_no_room_is_a_memory_error():
    with pytest.raises(MemoryError):
        apart((sys.maxsize,))
