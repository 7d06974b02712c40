"""Which frames stay: cumulative delta sampling (Algorithm 1), its threshold solved for a budget, and the uniform baseline."""

import math
import struct
from collections.abc import Sequence

from torch import Tensor


def select_frames(delta: Tensor | Sequence[float], threshold: float) -> list[int]:
    """Algorithm 1. delta (m,) non-negative, threshold > 0 -> increasing indices of the kept frames.

    When nothing crosses the threshold the last frame is kept: a selection is never empty (the paper is silent here).
    Raises ValueError when delta is empty, negative or not finite, or the threshold is not above 0.
    """
    values = _values(delta)
    if not threshold > 0:
        raise ValueError(f"threshold must be above 0, got {threshold}")
    return _sample(values, threshold) or [len(values) - 1]


def threshold_for_budget(delta: Tensor | Sequence[float], max_frames: int) -> float:
    """The smallest threshold, as a double, with which `select_frames` keeps at most max_frames (>= 1) frames of delta.

    Algorithm 1 cuts greedily, so it finds as many disjoint runs of at least the threshold as there are: their number
    can only fall as the threshold rises, and bisection finds where. Bisecting over the bit patterns of doubles (which
    are in the order of the doubles themselves) ends after at most 63 evaluations, each one linear pass over delta.
    Raises ValueError for a bad delta or budget.
    """
    values = _values(delta)
    if max_frames < 1:
        raise ValueError(f"max_frames must be at least 1, got {max_frames}")

    def fits(bits: int) -> bool:
        return len(_sample(values, _double(bits))) <= max_frames

    low, high = 1, _bits(math.fsum(values) * 2 + 1)  # the smallest double above 0; more than there is to cross
    while low < high:
        middle = (low + high) // 2
        if fits(middle):
            high = middle
        else:
            low = middle + 1
    return _double(high)


def uniform_frames(m: int, max_frames: int) -> list[int]:
    """The uniform baseline of table 3: at most max_frames of m frames, one from the middle of each equal stretch."""
    if m < 1 or max_frames < 1:
        raise ValueError(f"m and max_frames must be at least 1, got {m} and {max_frames}")
    kept = min(m, max_frames)
    return [(2 * i + 1) * m // (2 * kept) for i in range(kept)]


def _sample(values: list[float], threshold: float) -> list[int]:
    kept, accumulated = [], 0.0
    for t, value in enumerate(values):
        accumulated += value
        if accumulated >= threshold:
            kept.append(t)
            accumulated = 0.0
    return kept


def _values(delta: Tensor | Sequence[float]) -> list[float]:
    values = delta.tolist() if isinstance(delta, Tensor) else [float(value) for value in delta]
    if not values or any(isinstance(value, list) for value in values):
        raise ValueError("delta must be (m >= 1,): one number a frame")
    if not all(math.isfinite(value) and value >= 0 for value in values):
        raise ValueError("delta must be finite and not negative")
    return values


def _bits(value: float) -> int:
    return struct.unpack("<q", struct.pack("<d", value))[0]


def _double(bits: int) -> float:
    return struct.unpack("<d", struct.pack("<q", bits))[0]
