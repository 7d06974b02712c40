"""Every frame of a few short stretches of a video, at a small size: a closer look where something happens.

Stretches that lie near one another share one pass over the file, and what lies between them is not decoded where
the stream allows that (sparse.py). Memory: one stretch of frames.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import numpy as np

from .every import Stretch
from .probe import VideoInfo, probe
from .reader import frames_from
from .sample import LONGEST_TOLERANCE
from .scale import Scaler
from .sparse import GiveUp, SparseReader, pays

APART = Fraction(20)
"""Seconds between two stretches from which on seeking beats reading on: the packets between are not even read."""


def open_windows(
    path: str | Path, windows: Sequence[tuple[Fraction | float, Fraction | float]], size: tuple[int, int], *, stream: int | None = None
) -> Iterator[Stretch]:  # fmt: skip
    """One Stretch for each window [from, to], in order: all frames presented in it, both ends included.

    windows: seconds from the first frame, sorted by their beginnings; they may overlap. size: (height, width) of the
    frames given out. A window without a frame gives an empty stretch. Raises InputError as `probe` does.
    """
    spans = [(Fraction(a), Fraction(b)) for a, b in windows]
    if not spans:
        return
    info = probe(path, stream=stream)
    scaler = Scaler(size, info.orientation, coarse=True)
    for run in _runs(spans):
        yield from _read(info, run, scaler, size)


def _runs(spans: list[tuple[Fraction, Fraction]]) -> Iterator[list[tuple[Fraction, Fraction]]]:
    """Groups of windows that are read in one go."""
    run, end = [spans[0]], spans[0][1]
    for span in spans[1:]:
        if span[0] - end > APART:
            yield run
            run = []
        run.append(span)
        end = max(end, span[1])
    yield run


def _read(info: VideoInfo, spans: list[tuple[Fraction, Fraction]], scaler: Scaler, size: tuple[int, int]) -> Iterator[Stretch]:
    at, held = 0, []  # held: (time, picture) of the frames that a window still wants
    grid = _WindowGrid(spans, info.time_base)

    def cut() -> Stretch:
        inside = [(t, p) for t, p in held if t <= spans[at][1] + grid.tolerance]
        pictures = [p for _, p in inside]
        return Stretch(np.stack(pictures) if pictures else np.empty((0, *size, 3), np.uint8), tuple(t for t, _ in inside))  # (m, H, W, 3)

    with closing(_frames(info, grid)) as frames:
        for frame, shown in frames:
            while at < len(spans) and shown > spans[at][1] + grid.tolerance:
                yield cut()
                at += 1
                begin = spans[at][0] - grid.tolerance if at < len(spans) else shown
                held = [(t, p) for t, p in held if t >= begin]
            picture = np.empty((*size, 3), np.uint8)
            scaler.into(frame, picture)
            held.append((shown, picture))
    while at < len(spans):
        yield cut()
        at += 1
        held = [(t, p) for t, p in held if at < len(spans) and t >= spans[at][0] - grid.tolerance]


class _WindowGrid:
    """What SparseReader asks of a sample.Grid, for windows: a frame is taken when it is presented inside one of them.

    `tick` is where the search for the next window stands: a time, as a Grid's is.
    """

    step = None

    def __init__(self, spans: list[tuple[Fraction, Fraction]], time_base: Fraction):
        self.tolerance = min(time_base / 2, LONGEST_TOLERANCE)
        joined: list[list[Fraction]] = []
        for begin, end in spans:
            if joined and begin <= joined[-1][1]:
                joined[-1][1] = max(joined[-1][1], end)
            else:
                joined.append([begin, end])
        self._begins, self._ends = [a - self.tolerance for a, _ in joined], [b + self.tolerance for _, b in joined]
        self.start = self.tick = max(spans[0][0], Fraction(0))

    def take(self, shown: Fraction, until: Fraction) -> bool:
        self.tick = until
        at = bisect_right(self._begins, shown) - 1
        return at >= 0 and shown <= self._ends[at]

    def over(self, shown: Fraction) -> bool:
        return shown > self._ends[-1]


def _frames(info: VideoInfo, grid: _WindowGrid) -> Iterator[tuple["object", Fraction]]:
    """(frame, time) of the frames in the grid's windows, without decoding those between where that can be left out."""
    begin, given = grid.start, None
    # A third of the frames or less wanted is what `pays` asks of a regular grid; here whole groups lie between the windows.
    if pays(info, 3 / info.fps if info.fps else None):
        try:
            for item in SparseReader(info, grid):
                yield item
                given = item[1]
            return
        except GiveUp:
            begin = given if given is not None else begin
    for frame, shown, length in frames_from(info, begin):
        if grid.over(shown):
            return
        if (given is None or shown > given) and grid.take(shown, shown + length):
            yield frame, shown
