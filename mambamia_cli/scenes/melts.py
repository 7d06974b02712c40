"""Dissolves and fades seen frame by frame: where one picture melts into another. No torch.

Between shots that move, the frames half a second before and after a moment of a dissolve no longer explain it, and at four frames
a second neither delta nor the pixel evidence see more than a camera that moves; a fade may be dark between two of them. What every such
transition does is weaken the picture: halfway its detail is less than on both sides, while from frame to frame all goes on smoothly.

`MeltStream` finds the moments. The picture is described as in cuts.py. For h in HALVES frames, let the dip be by how much the
detail of a frame is weaker than that of the frames h before and after (refine's `dip`, on blocks), where these two have lost UNLIKE of
each other. The moment's dip is the greatest, and it counts from DIP on, where no frame nearby dips more.

`is_melt` judges what refine.find_gradual made of all frames around such a moment, by the frames made coarse (refine.explained): how much
of those inside the mixture of the two at its ends explains, whether their shares pass from one to the other in step with time, and how
alike the ends are. In 29 films, lectures and music videos of four makers, on which the rules were worked out, these tell 110 dissolves and
57 fades of 240 gradual transitions, and two that are none.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mambamia_cli.scenes.cuts import ALIKE, BLOCK, SIGMA, in_blocks
from mambamia_cli.scenes.refine import Turn, explained

HALVES = (4, 8, 13, 20, 30)
STEP = 0.032
"""Seconds between two frames that are looked at, at least: so many frames are as long at 60 a second as at 30."""

FEWEST = 6
"""Blocks with structure without which two frames have all lost of each other."""

UNLIKE, DIP = 0.3, 0.2
NEARBY = 10
"""Frames on each side among which a moment dips most."""

LEAST = 500.0
"""Power of a block that is noise."""


class Rule(NamedTuple):
    """At least `sinks` (the turn's dip), `explained` and `step`; at most `alike`."""

    sinks: float
    explained: float
    step: float
    alike: float


MOVING, ONE_PLACE, STANDING = Rule(0.2, 0.88, 0.97, 0.6), Rule(0.3, 0.97, 0.99, 0.92), Rule(0.0, 0.9, 0.98, 0.5)
"""Of dissolves: two for moving shots, one for standing pictures, whose turns have no dip."""

FADE_DIP, FADE_ALIKE, FADE_SHORTEST = 0.7, 0.35, 0.3
"""Of fades: the moment's dip and seconds at least, likeness of the ends at most: a light that pulses comes back to the same picture."""

SHORTEST, LONGEST = 0.2, 2.4
"""Seconds: what a slow zoom over a pan makes look like a dissolve is longer."""

TRIM = 256
"""Frames that pile up before those no later one needs are let go."""
REACH = HALVES[-1] + NEARBY


class MeltStream:
    """`push` all frames in order, in pieces of any size, then `finish`. `moments` grows: (seconds about which something may melt, dip)."""

    def __init__(self) -> None:
        self.moments: list[tuple[float, float]] = []
        self._blocks = np.empty((0, 0, BLOCK * BLOCK), np.float32)  # (k, q, p), means removed
        self._power = np.empty((0, 0), np.float32)  # (k, q)
        self._times: list[float] = []  # (k,) s
        self._latest = float("-inf")
        self._dips: list[float] = []  # of the first frames held
        self._told = 0  # of the frames held, those that were judged

    def push(self, frames: np.ndarray, moments: Sequence[float]) -> None:
        """frames (m, H, W, 3) uint8, those that follow the ones already pushed, presented at `moments` (m,) seconds."""
        taken = []
        for i, moment in enumerate(moments):
            if moment - self._latest >= STEP:
                taken.append(i)
                self._latest = moment
        if not taken:
            return
        blocks, moments = in_blocks(frames[taken][..., 1]), [moments[i] for i in taken]
        power = np.einsum("kqp,kqp->kq", blocks, blocks)
        begins = not self._times
        self._blocks = blocks if begins else np.concatenate([self._blocks, blocks])
        self._power = power if begins else np.concatenate([self._power, power])
        self._times += moments
        self._measure(len(self._times) - HALVES[-1])
        self._judge(len(self._dips) - NEARBY)

    def finish(self) -> None:
        """No frame follows."""
        self._measure(len(self._times))
        self._judge(len(self._dips))

    def _measure(self, until: int) -> None:
        """The dips of the frames up to `until`."""
        begin = len(self._dips)
        if until <= begin:
            return
        best = np.zeros(until - begin)
        for h in HALVES:
            here = np.arange(max(begin, h), min(until, len(self._times) - h))
            if len(here):
                dips = np.where(self._lost(here - h, here + h) >= UNLIKE, self._sink(here - h, here, here + h), 0.0)
                best[here - begin] = np.maximum(best[here - begin], dips)
        self._dips += best.tolist()

    def _judge(self, until: int) -> None:
        """Tell the moments among the frames [told, until), then let go of what no later one needs."""
        for k in range(self._told, until):
            beside = self._dips[max(0, k - NEARBY) : k + NEARBY + 1]
            if self._dips[k] >= DIP and self._dips[k] == max(beside) and self._dips[k] > max(self._dips[max(0, k - NEARBY) : k], default=0.0):
                self.moments.append((self._times[k], self._dips[k]))
        self._told = max(self._told, until)
        oldest = min(self._told, len(self._dips)) - REACH
        if oldest > TRIM:
            self._blocks, self._power = self._blocks[oldest:].copy(), self._power[oldest:].copy()
            self._times, self._dips, self._told = self._times[oldest:], self._dips[oldest:], self._told - oldest

    def _lost(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The share of the structure of frames a (n,) and b (n,) that they do not have in common: (n,)"""
        x, y = self._power[a], self._power[b]  # (n, q)
        unlike = np.einsum("nqp,nqp->nq", self._blocks[a], self._blocks[b]) < ALIKE * np.sqrt(x * y)
        return np.minimum(*(_share(unlike, power > (SIGMA * BLOCK) ** 2) for power in (x, y)))

    def _sink(self, a: np.ndarray, middle: np.ndarray, b: np.ndarray) -> np.ndarray:
        """By how much the detail of the frames `middle` is weaker than that of a and b, (n,) each; blocks weigh by their own strength."""
        x, m, y = self._power[a], self._power[middle], self._power[b]
        total = x + m + y + LEAST
        return 1 - 2 * (m / total).sum(1) / np.maximum(((x + y) / total).sum(1), 1e-6)


def is_melt(turn: Turn | None, depth: float, frames: np.ndarray, times: Sequence[float]) -> bool:
    """Whether the turn that was made out among `frames` (k, H, W, 3), presented at `times` (k,), about a moment that dips by `depth`, is a
    dissolve or a fade beyond doubt."""
    if turn is None or turn.kind not in ("dissolve", "fade-black", "fade-white") or not SHORTEST <= turn.end - turn.start <= LONGEST:
        return False
    first, last = max(0, bisect_right(times, turn.start) - 2), min(len(times) - 1, bisect_right(times, turn.end) + 1)
    if last - first < 4:
        return False
    part, place, alike = explained(frames, first, last)
    if turn.kind != "dissolve":
        return depth >= FADE_DIP and alike <= FADE_ALIKE and turn.end - turn.start > FADE_SHORTEST
    if place.std() == 0:
        return False
    step = float(np.corrcoef(place, np.arange(len(place)))[0, 1])
    rules, dip = ((STANDING,), 1.0) if turn.dip is None else ((MOVING, ONE_PLACE), turn.dip)
    return any(dip >= r.sinks and part >= r.explained and step >= r.step and alike <= r.alike for r in rules)


def _share(unlike: np.ndarray, stands: np.ndarray) -> np.ndarray:
    """Of the blocks that stand, the share that is unlike: (n, q) bool each -> (n,)"""
    count = stands.sum(1)
    return np.where(count >= FEWEST, (unlike & stands).sum(1) / np.maximum(count, 1), 1.0)
