"""A bounded queue between one producer thread and one consumer, made so that neither can leave the other waiting."""

import threading
from collections import deque
from collections.abc import Callable, Iterator


class Closed(Exception):
    """Raised in the producer when the consumer has gone."""


class Channel:
    """Runs `produce(put)` in a thread and iterates what it puts, at most `size` items ahead.

    An exception in the producer is raised in the consumer, after the items put before it. `close` (or leaving the
    iteration, or an exception in the consumer's `with`) makes the producer's next `put` raise Closed, and joins it.
    """

    def __init__(self, produce: Callable[[Callable], None], size: int, name: str):
        self._items: deque = deque()
        self._size = max(1, size)
        self._moved = threading.Condition()
        self._closed = self._finished = False
        self._error: BaseException | None = None
        # a daemon: an interpreter that is going down does not wait for a consumer that never closed
        self._thread = threading.Thread(target=self._run, args=(produce,), name=name, daemon=True)
        self._thread.start()

    def _run(self, produce) -> None:
        try:
            produce(self._put)
        except Closed:
            pass
        except BaseException as err:  # noqa: BLE001 - it is raised again in the consumer
            self._error = err
        finally:
            with self._moved:
                self._finished = True
                self._moved.notify_all()

    def _put(self, item) -> None:
        with self._moved:
            while len(self._items) >= self._size and not self._closed:
                self._moved.wait()
            if self._closed:
                raise Closed
            self._items.append(item)
            self._moved.notify_all()

    def __iter__(self) -> Iterator:
        return self

    def __next__(self):
        with self._moved:
            while not self._items and not self._finished and not self._closed:
                self._moved.wait()
            if self._items and not self._closed:
                item = self._items.popleft()
                self._moved.notify_all()
                return item
        self.close()
        error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    @property
    def closed(self) -> bool:
        """Whether the consumer has gone: a producer between two puts may look, to stop early."""
        return self._closed

    def close(self) -> None:
        """Stop the producer at its next put and wait for its thread. Safe to call twice."""
        with self._moved:
            self._closed = True
            self._items.clear()
            self._moved.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join()
