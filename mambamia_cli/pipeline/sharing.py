"""How a close look shares a CPU: a decoder, the vision encoder and the compressor at work side by side.

A decoder cannot wait its turn: with two cores it has work for all of the time, and what the others do fits in beside it. So
each is held to its part of the threads, and encoder and compressor stand back (`stand_back`) where a core is wanted by both.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

SHARERS = 2  # the decoder, and the encoder with the compressor
POLITE = 5  # added to the nice value: a third of the share of a thread that has none


def part_of_threads() -> int:
    """The decoder's."""
    import torch

    return max(1, torch.get_num_threads() // SHARERS)


@contextmanager
def shared(encoder: Any) -> Iterator[Callable[..., Any]]:
    """Encoder and torch held to their part of the threads. Gives what runs torch's work: `run(function, *arguments)`."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // (2 * SHARERS)))
    try:
        with encoder.sharing(SHARERS), ThreadPoolExecutor(1, "mambamia-compress", stand_back) as pool:
            yield lambda work, *arguments: pool.submit(_without_gradients, work, *arguments).result()
    finally:
        torch.set_num_threads(threads)


def stand_back() -> None:
    """The calling thread gives way to the others of the process, where the system knows priorities of threads (Linux)."""
    if hasattr(os, "setpriority"):
        with contextlib.suppress(OSError):
            me = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, me, os.getpriority(os.PRIO_PROCESS, me) + POLITE)


def _without_gradients(work: Callable[..., Any], *arguments: Any) -> Any:
    """torch knows inference mode by thread."""
    import torch

    with torch.inference_mode():
        return work(*arguments)
