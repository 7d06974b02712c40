"""Arrays that live for a while among millions that do not: in memory of their own, so that they leave no holes in the others' when they go."""

import mmap
import sys
from math import prod

import numpy as np


def apart(shape: tuple[int, ...]) -> np.ndarray:
    """Zeros (uint8) in pages of their own, which go back to the system with the last view of the array. Raises MemoryError."""
    size = prod(shape)
    private = {} if sys.platform == "win32" else {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS}
    try:
        pages = mmap.mmap(-1, max(1, size), **private)
    except OSError as error:
        raise MemoryError(f"no room for {size} bytes") from error
    return np.frombuffer(pages, np.uint8, size).reshape(shape)
