"""The second look taken during the first: every frame in small, kept for as long as the compressor lags behind.

Looking at a video decodes most of it, so every frame is brought down to refine.SIZE on the way. Delta of a frame is known
when its window of the compressor is worked through; the candidates that can be told then are refined at once from these
pictures, and what is found is remembered by the exact question that was asked. `boundaries.refine` asks again at the end,
with everything known: what was foreseen is answered from memory, and only the rest is read from the file once more. So what
is found at a place is the same whether or not a video was looked at closely, up to what the decoder's smoothing of block edges
(video.container.Decoder) changes in a small picture, and the mixtures that stand for frames left undecoded (video.thinning): these may move a
dissolve by some frames, but no cut, as one that falls in a gap is read from the file. Only a close look has `cuts` and `melts`, which every frame is looked at for.
Black bars are taken from the pictures first (scenes.bars).
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Collection
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from mambamia_cli.pipeline import boundaries
from mambamia_cli.scenes import marking, peaks
from mambamia_cli.scenes.bars import without_bars
from mambamia_cli.scenes.cuts import CutStream
from mambamia_cli.scenes.evidence import Evidence, combine, fits
from mambamia_cli.scenes.melts import MeltStream, is_melt
from mambamia_cli.scenes.peaks import PeakRule
from mambamia_cli.scenes.refine import RefineRule, Turn, find_gradual

if TYPE_CHECKING:
    from mambamia_cli.records import Candidate
    from mambamia_cli.video import VideoInfo
    from mambamia_cli.video.every import Stretch

MEMORY = 96 << 20
"""Bytes of small pictures at most: two minutes at 60 frames a second. Older ones go, and are read again should they be needed."""

SAME_MELT = 0.5
"""Seconds between the middles of two readings of one dissolve."""

BLANK, FADING = 3.0, 0.3
"""Grey values: standard deviation up to which a picture shows nothing; seconds that it takes from there to where a fade is seen to begin or end."""

SLACK = 4.0
"""Seconds before the last frame whose score is settled from which on pictures are kept: more than a candidate's window."""


class CloseUp:
    """`add` pictures in order, `foresee` whenever more of delta is known, `find` as often as needed."""

    def __init__(self, info: "VideoInfo", rule: PeakRule):
        from mambamia_cli.video.sample import LONGEST_TOLERANCE

        self._rule, self._refining = rule, RefineRule()
        self._tolerance = min(info.time_base / 2, LONGEST_TOLERANCE)
        self._held: deque[Stretch] = deque()
        self._bytes = 0
        self._from_start = False  # whether the first picture held is the video's first
        self._to_end = False
        self._settled = 0  # sampled frames whose score no later frame can change
        self._turns: dict[tuple[int, float, float, bool], Turn | None] = {}
        self._cuts, self._melts, self._looked_at = CutStream(), MeltStream(), 0
        self.melts: list[Turn] = []
        """Dissolves and fades seen frame by frame, so far."""
        self.jumps: dict[float, float] = {}
        """Where the picture may have changed in a gap of the frames (every.Stretch): seconds of the frame after it -> of the one before.
        A thousand in an hour of edited film."""
        self._span: list[float] = []  # seconds of the first and the last frame
        self._shown: list[float] = []  # of the first and the last that show something

    @property
    def cuts(self) -> list[float]:
        """Where hard cuts are seen frame by frame, in seconds, so far; some two seconds behind the last frame."""
        return self._cuts.times

    def add(self, stretch: "Stretch | None", *, last: bool = False) -> None:
        """The frames that follow those already here. last: after them the video ends."""
        self._to_end |= last
        if stretch is not None and stretch.times:
            self._hold(stretch)
        if last:
            self._cuts.finish()
            self._melts.finish()
        if self._held:
            self._look_at_melts(self._cuts.settled - self._refining.far)  # when all cuts around a moment are known

    def _hold(self, stretch: "Stretch") -> None:
        stretch = replace(stretch, frames=without_bars(stretch.frames))
        moments = [float(t) for t in stretch.times]
        self.jumps |= {float(after): float(before) for before, after in stretch.jumps}
        self._note_what_shows(stretch.frames, moments)
        self._cuts.push(stretch.frames, moments)
        self._melts.push(stretch.frames, moments)
        if not self._held and not self._bytes:
            self._from_start = stretch.times[0] == 0
        self._held.append(stretch)
        self._bytes += stretch.frames.nbytes
        while self._bytes > MEMORY:
            self._drop()

    def _note_what_shows(self, frames: np.ndarray, moments: list[float]) -> None:
        shows = np.flatnonzero(frames[..., 1].std((1, 2)) > BLANK)
        self._span = [(self._span or moments)[0], moments[-1]]
        if len(shows):
            self._shown = [(self._shown or [moments[shows[0]]])[0], moments[shows[-1]]]

    def is_of_blank(self, one: "Candidate") -> bool:
        """Whether a gradual transition is the video's own fade-in from nothing, or its fade-out to nothing: no scene ends or begins there."""
        if one.transition_start is None or one.transition_end is None or not self._shown:
            return False
        opens = self._span[0] < self._shown[0] and one.transition_start < self._shown[0] + FADING
        return opens or (self._shown[1] < self._span[1] and one.transition_end > self._shown[1] - FADING)

    def _look_at_melts(self, until: float) -> None:
        """Look at all frames around the moments up to `until` at which something may melt, from one cut to the next at most."""
        while self._looked_at < len(self._melts.moments) and self._melts.moments[self._looked_at][0] <= until:
            moment, depth = self._melts.moments[self._looked_at]
            self._looked_at += 1
            low, high = boundaries.within(moment, moment, moment - self._refining.far, moment + self._refining.far, self.cuts)
            pictures = self._between(max(low, float(self._held[0].times[0])), min(high, float(self._held[-1].times[-1])))
            if pictures is None:
                continue
            turn = find_gradual(*pictures, moment, self._refining)
            if is_melt(turn, depth, *pictures) and not any(abs(turn.time - other.time) < SAME_MELT for other in self.melts[-4:]):
                self.melts.append(turn)

    def foresee(self, times: np.ndarray, delta: np.ndarray, evidence: Evidence) -> None:
        """Refine the candidates that are certain by now. times, delta (m,): of the sampled frames so far whose delta is known."""
        half = round(self._rule.window / float(np.median(np.diff(times[-500:])))) if len(times) > 2 else 0
        settled = len(times) - half - 2
        if settled <= self._settled or not fits(times[-500:]):
            return
        first = max(0, self._settled - 2 * half - 32)  # scores of the first `half` of a slice are judged by other frames
        known = evidence.part(first, len(times))
        score = combine(peaks.scores(delta[first:], times[first:], self._rule), self._rule.threshold, known)
        sure = 0 if first == 0 else half + 1
        begin = max(0, self._settled - 32)
        maxima = marking.candidates_of(score, times[first:], marking.LOWEST * self._rule.threshold)
        at = [first + i for i in maxima if i >= sure and begin <= first + i < settled]
        boundaries.search(times, at, evidence, lambda windows, sharp: self.find(windows, sharp, times), self._refining, self.cuts)
        self._settled = settled
        while len(self._held) > 1 and self._held[0].times[-1] < times[begin] - SLACK:
            self._drop()

    def find(self, windows: "dict[int, boundaries.Window]", sharp: Collection[int], times: np.ndarray) -> dict[int, Turn | None]:
        """What is in the windows of those candidates that can be told of; see boundaries.Find."""
        turns = {}
        for i, (low, high) in windows.items():
            key = (i, float(low), float(high), i in sharp)
            if key not in self._turns:
                pictures = self._between(low, high)
                if pictures is None:
                    continue
                turn = boundaries.turn_at(*pictures, times, i, i in sharp, self._refining)
                if turn is not None and turn.kind == "cut" and turn.time in self.jumps:
                    continue  # at some frame of a gap: the file tells at which
                self._turns[key] = turn
            turns[i] = self._turns[key]
        return turns

    def close(self) -> None:
        """Let the pictures go."""
        self._held.clear()

    def _drop(self) -> None:
        self._bytes -= self._held.popleft().frames.nbytes
        self._from_start = False

    def _between(self, low: float, high: float) -> tuple[np.ndarray, list[float]] | None:
        """All frames presented in [low, high] and their times, as windows.open_windows gives them; None if some are not here."""
        begin, end = max(Fraction(low), Fraction(0)) - self._tolerance, Fraction(max(high, 0)) + self._tolerance
        if not self._held or (self._held[0].times[0] >= begin and not self._from_start):
            return None
        if self._held[-1].times[-1] <= end and not self._to_end:
            return None
        parts, moments = [], []
        for stretch in self._held:
            if stretch.times[-1] < begin or stretch.times[0] > end:
                continue
            inside = slice(bisect_left(stretch.times, begin), bisect_right(stretch.times, end))
            parts.append(stretch.frames[inside])
            moments += [float(t) for t in stretch.times[inside]]
        if not parts:
            return None
        return np.concatenate(parts), moments
