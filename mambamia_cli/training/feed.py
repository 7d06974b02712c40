"""The order in which rows are trained on, and their media read ahead by threads.

Everything follows from (seed, position): a position names a row, and the dropout and choices made with it. So a run that
is resumed needs to know its step only, and several processes together take the rows that one alone would.
"""

from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from mambamia_cli.training.full_model import Example
from mambamia_cli.training.llava import Reader, Rows, Unusable


@dataclass
class MicroBatch:
    """Rows that pass the models together; `position` is the first one's. `skipped`: unusable rows by reason; `why`: in words."""

    position: int
    examples: list[Example] = field(default_factory=list)
    skipped: Counter = field(default_factory=Counter)
    why: list[str] = field(default_factory=list)


class Feed:
    """Rows 0 .. count of `rows`, in an order of its own each epoch, deterministic given `seed`."""

    def __init__(self, rows: Rows, count: int, reader: Reader, seed: int, workers: int):
        self.rows, self.count, self.reader, self.seed, self.workers = rows, count, reader, seed, max(1, workers)
        self._orders: dict[int, np.ndarray] = {}

    def row_at(self, position: int) -> int:
        epoch, at = divmod(position, self.count)
        if epoch not in self._orders:
            self._orders = {e: o for e, o in self._orders.items() if e >= epoch - 1}
            self._orders[epoch] = np.random.default_rng((self.seed, 11, epoch)).permutation(self.count)
        return int(self._orders[epoch][at])

    def read(self, index: int) -> Example | Unusable:
        try:
            row = self.rows[index]
            return Example(row, self.reader.read(row))
        except Unusable as reason:
            return reason

    def micro_batches(self, positions: Iterator[range], indices=None) -> Iterator[MicroBatch]:
        """Read the rows at each range of positions (or, with `indices`, those rows), ahead of their use."""
        find = self.row_at if indices is None else indices.__getitem__
        ahead: deque[tuple[range, list[Future]]] = deque()
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="media")
        try:
            positions = iter(positions)
            waiting = 0
            while True:
                while waiting < 2 * self.workers and (part := next(positions, None)) is not None:
                    ahead.append((part, [pool.submit(self.read, find(p)) for p in part]))
                    waiting += len(part)
                if not ahead:
                    return
                part, futures = ahead.popleft()
                waiting -= len(part)
                batch = MicroBatch(part.start)
                for future in futures:
                    result = future.result()
                    if isinstance(result, Unusable):
                        batch.skipped[result.reason] += 1
                        batch.why.append(str(result))
                    else:
                        batch.examples.append(result)
                yield batch
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
