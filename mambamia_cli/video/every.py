"""All frames of a stream in small, chunk by chunk. Of those that were not decoded (thinning.py), what the frames beside them tell."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from .arrays import apart
from .probe import VideoInfo
from .scale import Scaler

ROUGH = 1.5
"""Grey values that a frame differs by, on the mean and at most, from the mixture of the ones beside it, where the picture goes on smoothly."""

NEAR = Fraction(1, 5)
"""Seconds from one to the other of two frames that tell how smoothly the picture goes on."""

JUMP, TIMES = 0.15, 3
"""Where the picture changes by more than JUMP grey values on the mean, and TIMES as fast as before, it may do so at once, at some frame of a gap."""


@dataclass(frozen=True)
class Stretch:
    """Consecutive frames (m, H, W, 3) uint8 RGB, upright, and their times: seconds from the video's first frame, exact.

    jumps: the frames that were decoded before and after a gap, by time, where the picture may have changed at once at a frame between."""

    frames: np.ndarray
    times: tuple[Fraction, ...]
    jumps: tuple[tuple[Fraction, Fraction], ...] = ()


class Every:
    """`add` frames in order, `cut` whenever a Stretch is wanted: of all frames since the last one."""

    def __init__(self, size: tuple[int, int], info: VideoInfo):
        self._size, self._scaler = size, Scaler(size, info.orientation, coarse=True)
        self._pictures: list[np.ndarray] = []
        self._times: list[Fraction] = []
        self._jumps: list[tuple[Fraction, Fraction]] = []
        self._last: list[tuple[np.ndarray, np.ndarray, Fraction]] = []  # (picture, some of its green, time) of three frames at most

    def add(self, frame, shown: Fraction, left_out: Sequence[Fraction] = ()) -> None:
        """A frame that was decoded, after frames that were not, presented at `left_out`; before the first one of all these go untold."""
        picture = np.empty((*self._size, 3), np.uint8)
        self._scaler.into(frame, picture)
        if self._last and left_out:
            self._fill(left_out, picture, shown)
        self._pictures.append(picture)
        self._times.append(shown)
        self._last = [*self._last[-2:], (picture, picture[1::3, ::4, 1].astype(np.int16), shown)]

    def cut(self) -> Stretch:
        pictures = apart((len(self._pictures), *self._size, 3))  # (m, H, W, 3)
        if self._pictures:
            np.stack(self._pictures, out=pictures)
        stretch = Stretch(pictures, tuple(self._times), tuple(self._jumps))
        self._pictures, self._times, self._jumps = [], [], []
        return stretch

    def _fill(self, times: Sequence[Fraction], picture: np.ndarray, shown: Fraction) -> None:
        """The frames between the last one and this `picture`: mixtures of both, or where it may have changed at once, the last one."""
        last, _, since = self._last[-1]
        if self._is_jump(picture, shown):
            self._pictures += [last] * len(times)
            self._jumps.append((since, shown))
        elif len(times) == 1:
            self._pictures.append((last & picture) + ((last ^ picture) >> 1))  # their mean, without leaving bytes
        else:
            total = len(times) + 1  # a mixture by their number: times that a container rounds tell no more
            for k in range(1, total):
                mixed = np.multiply(last, total - k, dtype=np.uint16) + np.multiply(picture, k, dtype=np.uint16) + total // 2
                self._pictures.append((mixed // total).astype(np.uint8))
        self._times += times

    def _is_jump(self, picture: np.ndarray, shown: Fraction) -> bool:
        """Whether the picture changes far more from the last frame to this one than before."""
        last, _, since = self._last[-1]
        change = _change(last, picture)
        if change <= JUMP:
            return False
        if len(self._last) < 2:
            return True
        first, _, begin = self._last[-2]
        return change > TIMES * _change(first, last) * float((shown - since) / (since - begin))

    def is_smooth(self) -> bool:
        """Whether the last three frames went on smoothly."""
        if len(self._last) < 3 or self._last[2][2] - self._last[0][2] > NEAR:
            return False
        (_, a, begin), (_, b, middle), (_, c, end) = self._last
        part = float((middle - begin) / (end - begin))
        return float(np.abs((b - a) - np.float32(part) * (c - a)).sum()) <= ROUGH * a.size


def _change(one: np.ndarray, other: np.ndarray) -> float:
    """The mean difference of two pictures in grey values."""
    return int(np.abs(np.subtract(one, other, dtype=np.int16)).sum()) / one.size
