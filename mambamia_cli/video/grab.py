"""Single frames at given times, by seeking: thumbnails, and a second look at a boundary."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .container import open_container
from .probe import VideoInfo, probe
from .reader import frames_from
from .sample import LONGEST_TOLERANCE
from .scale import Scaler

_NEAR = 1  # s; a time at most this far ahead is reached by decoding on, which beats seeking again


def grab(
    path: str | Path, times: Sequence[Fraction | float], size: tuple[int, int] | None = None, *, stream=None
) -> np.ndarray:
    """The frames on screen at `times` (seconds from the first frame; any order): (k, H, W, 3) uint8 RGB, upright.

    size: (height, width), or None for the display size. A time before the first frame gives the first, one after the
    last gives the last: the frame is the one that sampling at this time takes. Raises InputError as `probe` does.
    """
    return grab_in(path, times, [size], stream=stream)[0]


def grab_in(
    path: str | Path, times: Sequence[Fraction | float], sizes: Sequence[tuple[int, int] | None], *, stream=None
) -> list[np.ndarray]:
    """As `grab`, each frame in several sizes and decoded once: an array for each size."""
    info = probe(path, stream=stream)
    wanted = [size or (info.height, info.width) for size in sizes]
    scalers = [Scaler(size, info.orientation) for size in wanted]
    pictures = [np.empty((len(times), *size, 3), np.uint8) for size in wanted]  # (k, H, W, 3) each
    for i, frame in _walked(info, times, None):
        if frame is None:
            raise InputError(f"{path} has no frame to decode at {float(times[i]):g} s", "check that the file plays there")
        for scaler, into in zip(scalers, pictures, strict=True):
            scaler.into(frame, into[i])
    return pictures


def frames_at(
    info: VideoInfo, times: Sequence[Fraction | float], size: tuple[int, int], *, since: Sequence[float] | None = None
) -> Iterator[tuple[int, np.ndarray | None]]:
    """(index into `times`, its picture (H, W, 3) uint8 RGB) in order of time, one picture in memory at a time; it is the
    caller's only until the next. None where the file is too damaged to give any. Times and pictures are as in `grab`.

    since: for each of `times` a time (seconds) before it from which on any frame does: mostly the keyframe that a seek lands
    on, and nothing is decoded to get on from there.
    """
    scaler = Scaler(size, info.orientation)
    picture = np.empty((*size, 3), np.uint8)  # (H, W, 3)
    for i, frame in _walked(info, times, since):
        if frame is not None:
            scaler.into(frame, picture)
        yield i, None if frame is None else picture


def _walked(info: VideoInfo, times: Sequence[Fraction | float], since: Sequence[float] | None) -> Iterator[tuple[int, Any]]:
    """(index into `times`, the decoder's frame or None) in order of time; see `frames_at`."""
    moments = [max(Fraction(t), Fraction(0)) for t in times]
    walk = None
    with open_container(info.path) as container:
        try:
            for i in sorted(range(len(moments)), key=moments.__getitem__):
                if walk is None or moments[i] > walk.reached + _NEAR:
                    if walk is not None:
                        walk.close()
                    walk = _Walk(info, moments[i], container)
                yield i, walk.at(moments[i], moments[i] if since is None else Fraction(since[i]))
        finally:
            if walk is not None:
                walk.close()


class _Walk:
    """Frames from a time on, with the one on screen at a time that only grows, or one shown since an earlier time."""

    def __init__(self, info: VideoInfo, start: Fraction, container):
        if info.duration is not None:  # past the end there is nothing to seek to: the last frame is before it
            start = min(start, info.duration)
        self._frames = frames_from(info, start, container=container)
        self._tolerance = min(info.time_base / 2, LONGEST_TOLERANCE)
        self._frame, self.reached = None, Fraction(0)
        self._next = next(self._frames, None)

    def at(self, moment: Fraction, since: Fraction):
        while self._next is not None and (
            self._frame is None or (self.reached < since - self._tolerance and self._next[1] < moment + self._tolerance)
        ):
            self._frame, self.reached = self._next[0], self._next[1]
            self._next = next(self._frames, None)
        return self._frame  # None: nothing decodes from here on

    def close(self) -> None:
        with closing(self._frames):
            self._frame = self._next = None
