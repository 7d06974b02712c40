"""Hard cuts seen frame by frame: where at once little of the picture is left. No torch.

Sampled frames (evidence.py) cannot tell two cuts from one where they lie nearer than a second, and of these delta may see one.
All frames can: from one to the next a shot hardly changes, however it moves, and a cut leaves little.

A frame becomes its green in refine.SIZE (45 x 80) pixels, in 9 x 16 blocks with their means removed. Of two frames the share
lost is that of the blocks with structure (standard deviation above SIGMA) whose normalised cross-correlation with the other frame's
block is below ALIKE; it is counted among the blocks of either frame, and the lesser counts: what joins a picture, as a caption
does, loses nothing. Where captions stand, no more counts than above them: one that follows another loses nothing either. Frame k
is the first of a new shot when much is lost

- from each of the frames k-3 .. k-1 to each of k .. k+2; or, where k is a blend of both shots, as a changed frame rate leaves
  them, to each of k+1 .. k+3,
- alone: about no other frame near k is nearly as much lost, as in a whip pan it is; in a picture that moves only such as jump
  a third as far in grey values count,
- for good: within RETURNS seconds neither does what was there before come back, nor was there before what comes. That
  would be a flash, or a picture shown for less than a scene,
- while at least one side keeps its contrast: neither does in a fade.

Much is more than MOST of the picture; or more than SOME, as between two pictures of one place or with black bars, if in the ISOLATED
seconds around it only such as lose MOST lose half as much: what jumps and jumps again is a clip of few frames a second, a text that
scrolls, a blinking light. In a picture that moves all the while only what jumps like it counts, alone and by half as many grey values at
least: the camera that turns a moment later, and who passes the lens, speak against no cut.

Nothing is said of slides that share most of what they show, nor of cuts to a flat picture: there evidence and delta decide.
"""

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

BLOCK = 5  # pixels on a side
SIGMA, ALIKE = 2.0, 0.5
FEWEST = 12
"""Blocks with structure that both frames must have."""

CAPTION = 1 / 3
"""The lowest part of the picture, in which captions come and go."""

MOST, SOME = 0.55, 0.28
"""Shares lost, both chosen on 29 films, lectures and music videos of four makers: of their 839 cuts and instant changes of slide 739 are found so,
and 8 that are none (counted before captions were left out)."""

BLENDED = 0.65
"""The same across a blend: over two frames, what moves fast loses more."""

ISOLATED, HALF = 1.5, 0.5
"""Seconds on each side in which nothing else loses HALF of what a cut of less than MOST does; of what jumps, HALF as far."""

SOON = 0.1
"""Seconds on each side in which whatever loses as much counts: the frame after a flash does."""

ACROSS, NEAR = 3, 5
"""Frames on each side that are compared across a cut, and frames on each side among which it is alone."""

ALONE, ALONE_SOME = 0.6, 0.4
"""The part of what a cut loses that is lost about no other frame near it: where it is MOST, and where it is less."""

QUIETER = 0.33
"""The part of the grey values a cut jumps by; in a picture that moves, a frame next to it that jumps by less takes nothing from it."""

RETURNS, BACK = 0.5, 0.5
"""Seconds within which a picture comes back after a flash, and the part of what is lost below which it is the same."""

STEADY = 0.6
"""The least part of its contrast that a side keeps over ACROSS frames."""

JUMP, STAND_OUT, AROUND = 0.7, 1.3, 12
"""Frames are compared by blocks only where the picture changes by JUMP grey values and more on the mean, and by STAND_OUT times what is
the median among the AROUND frames on each side."""

TRIM = 256
"""Frames that pile up before those no later one needs are let go."""


class _Change(NamedTuple):
    """Frame at `moment` seconds, about which `share` is lost; its mean change from the frame before; whether the picture moves about
    it, whether it is alone, and whether it may be a cut."""

    moment: float
    share: float
    jump: float
    moves: bool
    alone: bool
    likely: bool


class CutStream:
    """`push` all frames in order, in pieces of any size, then `finish`. `times` grows: each cut's first new frame, in seconds."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.settled = float("-inf")  # seconds up to which no later frame adds a cut
        self._green = np.empty((0, 0, 0), np.uint8)  # (k, H, W), frames that a later one may be compared with
        self._moments: list[float] = []  # (k,) s
        self._jumps: list[float] = []  # (k,) mean change from the frame before
        self._done = 0  # of the frames held, those that were judged
        self._last = -ACROSS  # the last that may be a cut
        self._changes: list[_Change] = []  # of the last seconds
        self._waiting: list[_Change] = []  # those of them that are cuts if nothing like them follows
        self._described: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def push(self, frames: np.ndarray, moments: Sequence[float]) -> None:
        """frames (m, H, W, 3) uint8, those that follow the ones already pushed, presented at `moments` (m,) seconds."""
        if not len(frames):
            return
        green = frames[..., 1]  # (m, H, W)
        begins = not self._moments
        held = np.concatenate([green[:1] if begins else self._green[-1:], green])
        self._jumps += np.abs(held[1:].astype(np.int16) - held[:-1]).mean((1, 2)).tolist()
        self._green = green.copy() if begins else np.concatenate([self._green, green])
        self._moments += moments
        settled = min(bisect_left(self._moments, self._moments[-1] - RETURNS), len(self._moments) - AROUND - 1)
        self._judge(max(settled, self._done))

    def finish(self) -> None:
        """No frame follows."""
        self._judge(len(self._moments))
        self._settle(float("inf"))

    def _judge(self, until: int) -> None:
        """Look at the frames [done, until), then let go of what no later one needs."""
        begin = max(self._done, 1)
        for k, usual in enumerate(self._usual(begin, until), begin):
            if self._jumps[k] >= max(JUMP, STAND_OUT * usual):
                self._consider(k, moves=usual >= JUMP)
        self._done = until
        self._described.clear()
        if until:
            self._settle(self._moments[until - 1])
            oldest = min(bisect_left(self._moments, self._moments[until - 1] - RETURNS), until - AROUND) - ACROSS - NEAR
            if oldest > TRIM:
                self._green, self._moments, self._jumps = self._green[oldest:].copy(), self._moments[oldest:], self._jumps[oldest:]
                self._done, self._last = self._done - oldest, self._last - oldest

    def _usual(self, begin: int, until: int) -> Sequence[float]:
        """The median jump about each of the frames [begin, until), of those there are."""
        if until <= begin:
            return ()
        missing = (math.nan,) * AROUND
        jumps = np.array([*missing, *self._jumps, *missing])
        windows = np.lib.stride_tricks.sliding_window_view(jumps[begin : until + 2 * AROUND], 2 * AROUND + 1)  # (until - begin, 2 AROUND + 1)
        return np.nanmedian(windows, 1) if np.isnan(windows).any() else np.median(windows, 1)

    def _consider(self, k: int, *, moves: bool) -> None:
        share, first, following = self._across(k, k), k, self._across(k + 1, k + 1)
        if max(share, following) <= MOST:
            blended = self._across(k, k + 1)
            if blended > BLENDED:
                share, first = blended, k + 1
        if share < HALF * SOME:
            return
        apart = k - self._last > ACROSS
        alone = self._alone(k, first, share, moves=moves)
        likely = apart and share > SOME and share >= following and alone and self._steady(k, first) and self._for_good(k, first, share)
        change = _Change(self._moments[k], share, self._jumps[k], moves, alone, likely)
        self._changes.append(change)
        if likely:
            self._last = k
            if share > MOST:
                insort(self.times, change.moment)
            else:
                self._waiting.append(change)

    def _settle(self, moment: float) -> None:
        """Decide on those that wait, as far as frames up to `moment` can tell."""
        while self._waiting and self._waiting[0].moment < moment - ISOLATED:
            one = self._waiting.pop(0)
            if not any(self._like(one, other) for other in self._changes):
                insort(self.times, one.moment)
        self.settled = moment - ISOLATED
        oldest = min([moment, *(one.moment for one in self._waiting)]) - ISOLATED
        self._changes = [one for one in self._changes if one.moment >= oldest]

    def _like(self, one: _Change, other: _Change) -> bool:
        if other is one or abs(other.moment - one.moment) > ISOLATED or other.share < HALF * one.share:
            return False
        later = abs(other.moment - one.moment) > SOON
        if one.moves and later and not (other.alone and other.jump >= HALF * one.jump):
            return False
        return not (other.likely and other.share > MOST)

    def _across(self, k: int, first: int) -> float:
        """The least share lost from any of the frames before k to any of those from `first` on; 0 where there are none."""
        least = 1.0 if first < len(self._moments) else 0.0
        for a in range(k - 1, max(0, k - ACROSS) - 1, -1):
            for b in range(first, min(len(self._moments), first + ACROSS)):
                least = min(least, self._lost(a, b))
                if least < ALONE_SOME * SOME / 2:  # less is as good as none
                    return least
        return least

    def _alone(self, k: int, first: int, share: float, *, moves: bool) -> bool:
        """The frames next to the cut may lose much: in a dark shot, the noise that a codec spends its bits on after a cut; where both shots
        move fast, what they do to each frame. Those do not jump like it, as the second frame of a flash does."""
        skipped, limit = first - k, (ALONE if share > MOST else ALONE_SOME) * share
        others = (j for j in range(max(1, k - NEAR), min(len(self._moments), k + NEAR + 1)) if not k - 1 <= j <= first + 1)
        quiet = QUIETER * self._jumps[k] if moves else 0.0
        if first + 1 < len(self._moments) and self._jumps[first + 1] >= quiet:
            quiet = 0.0
        return all(self._jumps[j] < quiet or self._across(j, j + skipped) <= limit for j in others)

    def _for_good(self, k: int, first: int, share: float) -> bool:
        t = self._moments[k]
        later = range(first + ACROSS, bisect_right(self._moments, t + RETURNS))
        earlier = range(bisect_left(self._moments, t - RETURNS), k - ACROSS)
        return all(self._lost(k - 1, b) > BACK * share for b in later) and all(self._lost(a, first) > BACK * share for a in earlier)

    def _steady(self, k: int, first: int) -> bool:
        last = len(self._moments) - 1
        sides = (k - 1, max(0, k - 1 - ACROSS)), (first, min(last, first + ACROSS))
        contrasts = [sorted(float(self._green[i].std()) for i in side) for side in sides]
        return any(less >= STEADY * more for less, more in contrasts)

    def _lost(self, a: int, b: int) -> float:
        """The share of the structure of frames a and b that they do not have in common; 0 where either has too little."""
        (x, stands_x), (y, stands_y) = self._blocks(a), self._blocks(b)
        if min(stands_x.sum(), stands_y.sum()) < FEWEST:
            return 0.0
        unlike = np.einsum("qp,qp->q", x, y) < ALIKE  # (q,)
        return min(lost_share(unlike & stands, stands) for stands in (stands_x, stands_y))

    def _blocks(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Frame k in blocks of mean 0 and norm 1 (q, p), and which of them have structure (q,)."""
        if k not in self._described:
            x = in_blocks(self._green[k : k + 1])[0]
            norm = np.sqrt(np.einsum("qp,qp->q", x, x))  # (q,)
            self._described[k] = x / np.maximum(norm, 1e-6)[:, None], norm > SIGMA * BLOCK
        return self._described[k]


def lost_share(lost: np.ndarray, stands: np.ndarray) -> float:
    """The share that is lost of the blocks that stand, (q,) bool each, row by row from above; of the CAPTION part no more than above it."""
    low = round((1 - CAPTION) * len(lost))
    above = int(lost[:low].sum())
    return (above + min(int(lost[low:].sum()), above)) / int(stands.sum())


def in_blocks(green: np.ndarray) -> np.ndarray:
    """(k, H, W) uint8 -> (k, q, p) float32, blocks of BLOCK x BLOCK pixels, each one's mean removed."""
    k, high, wide = len(green), green.shape[1] // BLOCK, green.shape[2] // BLOCK
    x = green[:, : high * BLOCK, : wide * BLOCK].astype(np.float32)
    x = x.reshape(k, high, BLOCK, wide, BLOCK).swapaxes(2, 3).reshape(k, high * wide, BLOCK * BLOCK)
    return x - x.mean(2, keepdims=True)
