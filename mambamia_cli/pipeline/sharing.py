"""How a close look shares a CPU: a decoder, the vision encoder and the compressor at work side by side.

A decoder cannot wait its turn: with two cores it has work for all of the time, and what the others do fits in beside it. So
each is held to its part of the threads, and encoder and compressor stand back (`stand_back`) where a core is wanted by both.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from mambamia_cli.pipeline.ahead import SHARERS

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h

PATIENCE = 0.0005
"""Seconds that a thread waits for Python's lock before it asks for it: the decoder comes back for it several times a frame."""

KEPT = 256 << 20
"""Bytes of freed memory that the process may keep for itself."""

LARGE = 32 << 20
"""Bytes from which on a piece of memory is asked of the system alone, and goes back to it when it is freed: the most that glibc takes."""

POLITE = 10  # added to the nice value: a tenth of the share of a thread that has none; with 5 the decoder still waits, and all for it


@contextmanager
def shared(encoder: Any, *, alone: Callable[[], bool] = lambda: False) -> Iterator[Callable[..., Any]]:
    """Encoder and torch held to their part of the threads. Gives what runs torch's work: `run(function, *arguments)`.

    alone: whether the decoder is done, whose threads torch may have then."""
    import torch

    keep_freed_memory()
    threads, patience = torch.get_num_threads(), sys.getswitchinterval()
    sys.setswitchinterval(PATIENCE)
    torch.set_num_threads(max(1, threads // (2 * SHARERS)))
    try:
        with encoder.sharing(SHARERS), ThreadPoolExecutor(1, "mambamia-compress", stand_back) as pool:

            def run(work: Callable[..., Any], *arguments: Any) -> Any:
                return pool.submit(_without_gradients, threads if alone() else None, work, *arguments).result()

            yield run
    finally:
        torch.set_num_threads(threads)
        sys.setswitchinterval(patience)


def stand_back() -> None:
    """The calling thread gives way to the others of the process, where the system knows priorities of threads (Linux)."""
    if hasattr(os, "setpriority"):
        with contextlib.suppress(OSError):
            me = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, me, os.getpriority(os.PRIO_PROCESS, me) + POLITE)


def keep_freed_memory() -> None:
    """Freed memory waits for its next use, where the C library knows how (glibc), and all threads use the same, for the rest of the
    process's life. A look makes and drops arrays of a few MB without end; to give each back to the system and have it cleared again
    takes a thirtieth of the time."""
    with contextlib.suppress(OSError, AttributeError):
        import ctypes

        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in ((_M_TRIM_THRESHOLD, KEPT), (_M_MMAP_THRESHOLD, LARGE), (_M_ARENA_MAX, 1)):
            mallopt(parameter, value)


def _without_gradients(threads: int | None, work: Callable[..., Any], *arguments: Any) -> Any:
    """torch knows inference mode, and how many threads it may have, by thread. threads: None leaves these as they are."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    with torch.inference_mode():
        return work(*arguments)
