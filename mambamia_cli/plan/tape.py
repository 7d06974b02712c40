"""A stage's allocations, in the order its code makes them: the peak is found by playing them, not by a rule of thumb.

The functions that write a tape (watching.py, answering.py) stand beside the code they describe, step by step. Whether
they still describe it is tested by counting real tensors (bench.memory.TensorBytes).
"""

from collections.abc import Iterator
from contextlib import contextmanager

DEVICE, HOST = "device", "host"


class Tape:
    """Bytes alive in the device's memory and in the host's. On a CPU (`unified`) both are the host's."""

    def __init__(self, *, unified: bool):
        self.unified = unified
        self.live = {DEVICE: 0, HOST: 0}
        self.peak = {DEVICE: 0, HOST: 0}

    def alloc(self, size: float, where: str = DEVICE) -> None:
        """`size` bytes more; negative gives back."""
        where = HOST if self.unified else where
        self.live[where] += round(size)
        self.peak[where] = max(self.peak[where], self.live[where])

    @contextmanager
    def hold(self, *sizes: float, where: str = DEVICE) -> Iterator[None]:
        """Tensors that live for a block."""
        self.alloc(sum(sizes), where)
        try:
            yield
        finally:
            self.alloc(-sum(sizes), where)

    def touch(self, *sizes: float, where: str = DEVICE) -> None:
        """Tensors alive together for a moment."""
        with self.hold(*sizes, where=where):
            pass
