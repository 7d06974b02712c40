"""What the pixels say beside delta: what of the standing picture vanished, what is mixed, what went dark. No torch.

A frame becomes a grey picture of about 112 x 112 in 14 x 14 blocks, each with its mean removed; black bars are no part of it
(bars.py). These numbers are measured for every looked-at frame i.

    gone   Cuts and slide changes. Between frames a in {i-3 .. i-1} and b in {i .. i+2}: of the blocks of a with structure
           (standard deviation above SIGMA), the share whose normalised cross-correlation with the same block of b is below
           ALIKE. Of all nine pairs the smallest counts, so that what comes back (a flash, a shake) is not gone. Blocks that
           move anyway (they changed from the frame before a, or to the frame after b: a speaker, a pointer) are left out,
           and DOUBT times their part of all standing blocks is taken off: where nearly all moves, only a whole loss counts.
           So few blocks as a soft picture has are a share of ENOUGH; where captions stand, no more are lost than above them.
           A new slide loses what stood on the last one; a bullet that appears loses nothing, and as correlation does
           not see brightness, a text that is dimmed loses nothing either.
    mixed  Dissolves. Frame i, its blocks made of like weight, regressed on frames i-k and i+k, k = 2 .. 5: the share R^2 of it that the two explain together,
           times 1 - their own correlation, where both take part (coefficients above PART). Halfway through a dissolve it is
           near 1. In a pan, three frames explain one another only as far as they overlap.
    faded  Fades. 1 - (contrast of frame i) / (the lesser of the contrasts of i-k and i+k), times 1 - their correlation, times
           how far (doubled, at most 1) its brightness has gone from both to black or white; nothing if i-1 and i+1, or i-2
           and i+2, are alike: a flash.

    stays  The least share of the standing blocks of i-k that are still there in i+k-1, k = 2 .. 4: near 1, both sides show
           the same picture, and whatever delta saw between them (a flash, an addition, a gesture) was no change of scene.

    swapped  Slides of few words: how many blocks lose at one moment what they showed, in a picture that stands still before
           and after it. See swap.py.

    scrolled  1 where what changed is there again some lines higher or lower (scroll.py), and nothing is gone or swapped
           therefore; else 0.

`gone` and `stays` are NaN where too little stands still to tell.
"""

from dataclasses import dataclass, fields

import numpy as np

from mambamia_cli.scenes import scroll, swap
from mambamia_cli.scenes.bars import without_bars

GRID, BLOCK = 14, 8
SIDE = GRID * BLOCK
SIGMA, ALIKE, LEVEL, PART = 5.0, 0.5, 16.0, 0.15
REACH = 3
"""Frames on each side of a cut that are compared across it."""

SPANS = (2, 3, 4, 5)
"""Frames on each side that a gradual transition is explained by: half a second to two and a half at 4 frames a second."""

BEHIND = AHEAD = max(SPANS[-1], swap.BEFORE + 1, swap.AFTER + 1)
"""Frames on each side that the numbers of a frame are made of."""

FARTHEST = 2 * SPANS[-1]
"""Frames between two that are compared, at most."""

DIM = 0.15
"""A block whose structure shrinks below this part of its strength has vanished, not been dimmed."""

DOUBT = 0.6
"""Taken off `gone` by the share of the standing blocks that move anyway: where all moves, little vouches for all."""

STAYS = (2, 3, 4)

SINKS, PAN, DIP = 0.5, 0.15, 0.5
"""What the sinking of contrast by DIP (that of a dissolve between unlike pictures) adds to `mixed`: SINKS for each part of it
beyond PAN, that of a slow pan."""

ENOUGH = 8
"""Blocks of which the lost ones are a share, if no more are judged: of a soft picture that moves, the few edges are soon elsewhere."""

LITTLE = 0.1
"""What is gone, at least, where it is asked whether the picture scrolled, unless blocks are swapped."""

FEWEST = 3
"""Standing blocks below which nothing is said of what is gone."""


@dataclass(frozen=True)
class Evidence:
    """(m,) each, at most 1 but for `swapped`; see the module's text."""

    gone: np.ndarray
    stays: np.ndarray
    mixed: np.ndarray
    faded: np.ndarray
    swapped: np.ndarray
    scrolled: np.ndarray

    def part(self, begin: int, end: int) -> "Evidence":
        """Of the frames [begin, end)."""
        return Evidence(*(getattr(self, f.name)[begin:end] for f in fields(self)))


class EvidenceStream:
    """Frames in, in order and in chunks of any size; `finish` gives the Evidence of all. Holds some fifteen small pictures."""

    def __init__(self) -> None:
        self._blocks = np.empty((0, GRID * GRID, BLOCK * BLOCK), np.float32)  # (k, 196, 64), means removed
        self._ink = np.empty_like(self._blocks)  # the same with their medians removed
        self._products = np.empty((0, FARTHEST + 1, GRID * GRID), np.float32)  # (k, 11, 196), with the frame itself and those before
        self._mean = np.empty((0, GRID * GRID), np.float32)  # (k, 196)
        self._sides = np.empty((0, GRID * GRID, 2), np.float32)  # (k, 196, 2), their grounds
        self._done = 0  # of the frames held, those whose numbers are given out
        self._parts: list[tuple[np.ndarray, ...]] = []

    def push(self, frames: np.ndarray) -> None:
        """frames (m, H, W, 3) uint8, those that follow the ones already pushed."""
        blocks, mean = describe(frames)
        self._blocks, self._mean = np.concatenate([self._blocks, blocks]), np.concatenate([self._mean, mean])
        self._products = np.concatenate([self._products, self._with_those_before(len(blocks))])
        ink, sides = swap.ink_of(blocks)
        self._ink, self._sides = np.concatenate([self._ink, ink]), np.concatenate([self._sides, mean[..., None] + sides])
        self._measure(len(self._mean) - AHEAD)

    def finish(self) -> Evidence:
        self._measure(len(self._mean))
        return self.so_far()

    def so_far(self) -> Evidence:
        """Of the frames whose numbers no later frame can change. May be asked while another thread pushes."""
        empty = (np.empty(0),) * len(fields(Evidence))
        return Evidence(*(np.concatenate(parts) for parts in zip(empty, *tuple(self._parts), strict=True)))

    def _measure(self, until: int) -> None:
        """Give out the numbers of the held frames [done, until), and forget the frames no later one needs."""
        if until <= self._done:
            return
        here = np.arange(self._done, until)
        norms = np.sqrt(self._products[:, 0])  # (k, 196)
        gone = self._gone(here, norms)
        swapped = swap.swapped(here, self._blocks, self._ink, self._mean, self._sides, norms)
        if not self._parts:
            gone[0] = swapped[0] = 0.0  # nothing stands before the first frame
        scrolled = np.zeros(len(here))
        for k in np.flatnonzero((np.nan_to_num(gone) > LITTLE) | (swapped >= scroll.FEWEST)):
            scrolled[k] = self._scrolls(self._done + int(k))
        gone, swapped = (np.where(scrolled > 0, 0.0, lost) for lost in (gone, swapped))
        self._parts.append((gone, self._stays(here, norms), *self._gradual(here, norms), swapped, scrolled))
        drop = max(0, until - BEHIND)
        self._blocks, self._ink, self._mean, self._sides = (a[drop:] for a in (self._blocks, self._ink, self._mean, self._sides))
        self._products = self._products[drop:]
        self._done = until - drop

    def _scrolls(self, i: int) -> bool:
        """Whether what changes about frame i does so by moving up or down."""
        last = len(self._mean) - 1
        near, wide = ((self._picture(max(0, i - 1 - more)), self._picture(min(last, i + more))) for more in (0, 1))
        return (scroll.is_scrolled(*near) or scroll.is_scrolled(*wide)) and not scroll.is_replaced(*wide)

    def _picture(self, i: int) -> np.ndarray:
        """(SIDE, SIDE) grey values of frame i"""
        pixels = self._blocks[i] + self._mean[i][:, None]  # (196, 64)
        return pixels.reshape(GRID, GRID, BLOCK, BLOCK).swapaxes(1, 2).reshape(SIDE, SIDE)

    def _with_those_before(self, new: int) -> np.ndarray:
        """Products of the blocks of the last `new` frames with those of the frames 0 .. FARTHEST before: (new, 11, 196). Each pair
        is multiplied once, however often it is compared."""
        k = len(self._blocks)
        products = np.zeros((new, FARTHEST + 1, GRID * GRID), np.float32)
        for lag in range(FARTHEST + 1):
            first = max(k - new, lag)  # what has no such frame before it is never asked for
            if first < k:
                products[first - (k - new) :, lag] = np.einsum("nqp,nqp->nq", self._blocks[first:], self._blocks[first - lag : k - lag])
        return products

    def _product(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Of the blocks of frames a (n,) and b (n,), none before its a: (n, 196)"""
        return self._products[b, b - a]

    def _gone(self, here: np.ndarray, norms: np.ndarray) -> np.ndarray:
        """here (n,) indices of held frames; norms (k, 196) of their blocks -> (n,)."""
        last = len(self._mean) - 1
        moved = self._compare(np.maximum(np.arange(last + 1) - 1, 0), np.arange(last + 1), norms)[0]  # (k, 196)
        least = np.full(len(here), np.inf)
        for back in range(1, REACH + 1):
            for ahead in range(REACH):
                a, b = np.maximum(here - back, 0), np.minimum(here + ahead, last)
                _, vanished, kept = self._compare(a, b, norms)
                restless = moved[a] | moved[np.minimum(b + 1, last)] & (b < last)[:, None]
                lost, held, stood = swap.weight(vanished & ~restless), (kept & ~restless).sum(1), (vanished | kept).sum(1)
                judged = lost + held
                share = lost / np.maximum(judged, ENOUGH) - DOUBT * (1 - judged / np.maximum(stood, 1))
                share = np.where(judged >= FEWEST, share, np.nan)
                least = np.fmin(least, share)
        return np.where(np.isinf(least), np.nan, np.maximum(least, 0))

    def _stays(self, here: np.ndarray, norms: np.ndarray) -> np.ndarray:
        """-> (n,)"""
        last, least = len(self._mean) - 1, np.full(len(here), np.inf)
        for k in STAYS:
            _, vanished, kept = self._compare(np.maximum(here - k, 0), np.minimum(here + k - 1, last), norms)
            lost, held = vanished.sum(1), kept.sum(1)
            least = np.minimum(least, np.where(lost + held >= FEWEST, held / np.maximum(lost + held, 1), np.nan))
        return least

    def _compare(self, a: np.ndarray, b: np.ndarray, norms: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Frames a (n,) with frames b (n,): changed, vanished and kept blocks, (n, 196) bool each."""
        alike = self._product(a, b) >= ALIKE * norms[a] * norms[b]  # (n, 196)
        alike &= norms[b] > DIM * norms[a]  # what is left of a block that became flat is noise
        stood, stands = norms[a] > SIGMA * BLOCK, norms[b] > SIGMA * BLOCK
        changed = (stood | stands) & ~alike | (np.abs(self._mean[a] - self._mean[b]) > LEVEL)
        return changed, stood & ~alike, stood & alike

    def _gradual(self, here: np.ndarray, norms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """-> mixed (n,), faded (n,)."""
        last = len(self._mean) - 1
        light = self._mean.mean(1)  # (k,)
        mixed, faded = np.zeros(len(here)), np.zeros(len(here))
        back = [self._dots(here, norms, k)[-1] for k in (1, 2)]
        returns = np.maximum(np.maximum(*back), 0)  # (n,) how much of the picture is back a moment later
        for k in SPANS:
            a, b = np.maximum(here - k, 0), np.minimum(here + k, last)
            whole = (here - k >= 0) & (here + k <= last)
            own, size_a, size_b, with_a, with_b, sides = self._dots(here, norms, k)  # (n,) each
            rest = np.maximum(1 - sides * sides, 1e-2)
            explained = (with_a**2 + with_b**2 - 2 * with_a * with_b * sides) / rest
            both = ((with_a - with_b * sides) / rest > PART) & ((with_b - with_a * sides) / rest > PART)
            unlike = 1 - np.maximum(sides, 0)
            # Two pictures that share the screen have less contrast than either alone; a moving one keeps its own.
            dip = np.clip(1 - 2 * own**2 / (size_a**2 + size_b**2), -1, DIP)
            mixed = np.maximum(mixed, np.where(whole & both, explained * unlike + SINKS * (dip - PAN), 0))
            darker = 1 - light[here] / np.maximum(np.minimum(light[a], light[b]), 1)
            brighter = 1 - (255 - light[here]) / np.maximum(255 - np.maximum(light[a], light[b]), 1)
            sunk = (1 - own / np.minimum(size_a, size_b)) * np.clip(2 * np.maximum(darker, brighter), 0, 1)
            faded = np.maximum(faded, np.where(whole, sunk * np.minimum(unlike, 1 - returns), 0))
        return np.clip(mixed, 0, 1), faded

    def _dots(self, here: np.ndarray, norms: np.ndarray, k: int) -> tuple[np.ndarray, ...]:
        """Of frames f = here, a = f - k and b = f + k: norms of f, a, b; correlations (f, a), (f, b), (a, b). (n,) each.

        Each block weighs by what it holds in all three, so that a subtitle is no more than the blocks it covers.
        """
        a, b = np.maximum(here - k, 0), np.minimum(here + k, len(norms) - 1)
        weight = 1 / (norms[here] ** 2 + norms[a] ** 2 + norms[b] ** 2 + 3 * (SIGMA * BLOCK) ** 2)  # (n, 196)
        size = [np.sqrt((weight * norms[i] ** 2).sum(1)) + 1e-4 for i in (here, a, b)]
        inner = [(weight * self._product(x, y)).sum(1) for x, y in ((a, here), (here, b), (a, b))]
        return *size, inner[0] / (size[0] * size[1]), inner[1] / (size[0] * size[2]), inner[2] / (size[1] * size[2])


def describe(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(m, H, W, 3) uint8 -> blocks of the green channel with their means removed (m, 196, 64), and the means (m, 196)."""
    m, high, wide = frames.shape[:3]
    green = frames[..., 1]
    if high % SIDE == 0 and wide % SIDE == 0:
        down, across = high // SIDE, wide // SIDE
        small = np.zeros((m, SIDE, SIDE), np.uint32)
        for y in range(down):
            for x in range(across):
                small += green[:, y::down, x::across]
        small = small.astype(np.float32) / (down * across)
    else:  # sizes that do not divide: the nearest pixels
        small = green[:, np.arange(SIDE) * high // SIDE][:, :, np.arange(SIDE) * wide // SIDE].astype(np.float32)
    small = without_bars(small)
    blocks = small.reshape(m, GRID, BLOCK, GRID, BLOCK).transpose(0, 1, 3, 2, 4).reshape(m, GRID * GRID, BLOCK * BLOCK)
    mean = blocks.mean(-1)  # (m, 196)
    return blocks - mean[..., None], mean


@dataclass(frozen=True)
class EvidenceRule:
    """How the contrast of delta and the evidence come to one score. `*_slope` is the half-width of the zone of doubt.

        e     = max((gone - cut) / cut_slope, (mixed - dissolve) / dissolve_slope, (faded - fade) / fade_slope,
                    (swapped - swap) / swap_slope)
        e     = clip(e, - (doubt + (2 - doubt) * stays), 2)     (and a fiftieth of what is beyond 2)
        own   = contrast / threshold, at most 2
        score = max(0, 1 + (own - 1 + e) / 2) * threshold

    The score is compared with the same threshold as the contrast. Pixels that are sure (e above 1) mark a scene alone; in
    doubt delta decides. What they do not show can be a transition they have no word for, so that they refuse a strong
    delta only as far as the picture stays. Where nothing stands still and nothing is mixed, delta stands alone.
    """

    cut: float = 0.25
    cut_slope: float = 0.1
    dissolve: float = 0.61
    dissolve_slope: float = 0.06
    fade: float = 0.35
    fade_slope: float = 0.1
    swap: float = 2.5
    swap_slope: float = 1.5
    doubt: float = 0.5


def combine(contrast: np.ndarray, threshold: float, evidence: Evidence, rule: EvidenceRule = EvidenceRule()) -> np.ndarray:
    """contrast (m,) of delta (peaks.scores) -> score (m,), to be compared with `threshold`."""
    if threshold <= 0:
        return contrast
    gradual = np.maximum((evidence.mixed - rule.dissolve) / rule.dissolve_slope, (evidence.faded - rule.fade) / rule.fade_slope)
    gradual = np.maximum(gradual, (evidence.swapped - rule.swap) / rule.swap_slope)
    sure = np.fmax((evidence.gone - rule.cut) / rule.cut_slope, gradual)  # (m,)
    lowest = -(rule.doubt + (2 - rule.doubt) * np.clip(np.nan_to_num(evidence.stays), 0, 1))
    # Beyond 2 it grows only so much that of two frames the surer one stays the higher.
    sure = np.maximum(np.minimum(sure, 2.0) + 0.02 * np.clip(sure - 2, 0, 8), lowest)
    own = np.minimum(contrast / threshold, 2.0)  # (m,)
    blind = np.isnan(evidence.gone) & (gradual < 0)
    return np.where(blind, own, np.maximum(1 + (own - 1 + sure) / 2, 0)) * threshold


def fits(times: np.ndarray) -> bool:
    """Whether frames at these times (m,) lie as far apart as the numbers of this module are made for: 2 to 8 a second."""
    return len(times) > 2 and 0.12 <= float(np.median(np.diff(times))) <= 0.51
