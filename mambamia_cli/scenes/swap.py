"""What a display swaps at one moment: the few words of a slide that make way for others, whatever else stays. No torch.

A slide with a line or two of text has little to lose: the frame, the logo and the speaker's window that stay beside it are
most of the standing picture, so the share that vanishes (`gone` in evidence.py) is small. But where a picture stands still,
nothing that it shows ever vanishes by a bullet that appears or by a speaker who moves. So the blocks are counted that

- stand still before frame i (from i-5 to i-3) and after it (from i+2 to i+5): nothing of a moving picture does,
- lose their ink, the strokes that stand out of the block's ground, between i-3 and i+2. The correlation is weighted by the ink
  that was there, so that ink which joins it takes nothing away,
- lose it within a frame of i, all at once,
- lose words with it, what differs along a row of pixels: a bar that marks another line takes none with it,
- and keep their ground, or most of the picture changes its own: what is covered, by a bar that joins a chart or by a picture
  that appears on a slide, was not swapped.

What is no wider than a mouse pointer does not count, nor do captions, unless as much goes above them. The count is damped where
less than most of the picture stands still: there a few blocks may do all this by chance.
"""

import numpy as np

SIGMA = 3.5
"""Grey values: standard deviation from which a block shows something. Standing pictures have little noise."""

BEFORE, REF, PAST, AFTER = 5, 3, 2, 5
"""Frames: still from i-BEFORE to i-REF and from i+PAST to i+AFTER; half a second to each side for a soft change."""

ALIKE, STILL = 0.5, 0.985
"""Correlations: above ALIKE the ink is still there, above STILL the block has not moved."""

STEP = 2.0
"""Grey values, mean of a block's pixels, that a still block changes by from frame to frame at most; more where its contrast is strong."""

FAINT = 0.15
"""Ink of less than this part of what was there is noise."""

STAY = 0.9
"""Correlation of what differs along rows of pixels from which on it is the same words: a photograph that stays behind words which go
has less."""

WORDS = 0.08
"""Part of a block's power that words have at least: what differs along its rows of pixels."""

POINTER = 2
"""Blocks that a pointer takes each way at most."""

CAPTION = 0.3
"""The lowest part of the picture, in which captions come and go while the slide stays."""

RESTS = (0.4, 0.7)
"""Share of the standing blocks that stand still before and after: below the first the count is nothing, above the second whole."""


GROUND, MOST = 12.0, 0.5
"""Grey values by which the ground of a block may change; share of the blocks from which on it may change by any."""

BESIDE = 0.4
"""What a swap counts in the frames beside the one in which most of it happens: else it would be as high in all three."""

SIDES = 0.4
"""The ground is the darker or the lighter side of a block, as its text is light or dark: what this share of its pixels is below,
or above. Where either stays, the ground does."""


def ink_of(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """blocks (m, q, p) with their means removed -> with their medians removed, so that the ground of text is 0; and both their
    sides (m, q, 2)."""
    pixels = blocks.shape[-1]
    middle, side = pixels // 2, round(SIDES * pixels)
    order = np.sort(blocks, axis=-1)  # numpy sorts so few numbers in a tenth of the time that it takes to part them
    median = (order[..., middle - 1, None] + order[..., middle, None]) / 2
    return blocks - median, order[..., [side, pixels - 1 - side]]


def swapped(
    here: np.ndarray, blocks: np.ndarray, ink: np.ndarray, mean: np.ndarray, sides: np.ndarray, norms: np.ndarray
) -> np.ndarray:  # fmt: skip
    """Blocks swapped about each of the frames `here` (n,), increasing by one: -> (n,) float.

    blocks (k, q, p) with means removed, their ink (k, q, p), means (k, q), sides (k, q, 2) and norms (k, q).
    """
    last = len(mean) - 1
    around = np.clip(np.arange(here[0] - 1, here[-1] + 2), 0, last)  # one frame more on each side
    at = {k: np.clip(around + k, 0, last) for k in (-BEFORE, -REF, -1, 0, PAST, AFTER)}
    stood = norms[at[-REF]] > SIGMA * blocks.shape[-1] ** 0.5  # (n + 2, q)
    still = _rests(at[-BEFORE], at[-REF], blocks, mean, norms) & _rests(at[PAST], at[AFTER], blocks, mean, norms)
    lost = stood & still & ~_covered(sides[at[-REF]], sides[at[PAST]]) & ~_shows(at[-REF], at[PAST], ink)
    lost[lost] = _words_went(at[-REF], at[PAST], lost, blocks)
    now = lost & _shows(at[-REF], at[-1], ink) & ~_shows(at[-REF], at[0], ink)  # the last it was seen is the frame before
    about = now[:-2] | now[1:-1] | now[2:]  # (n, q)
    went = lost[1:-1] & about
    count = weight(went) * _is_wide(went) * np.where(_beside(now.sum(1)), BESIDE, 1.0)
    rests = (stood & still)[1:-1].sum(1) / np.maximum(stood[1:-1].sum(1), 1)
    return count * np.clip((rests - RESTS[0]) / (RESTS[1] - RESTS[0]), 0, 1)


def weight(went: np.ndarray) -> np.ndarray:
    """How many blocks went, of went (n, q) bool; of those in the CAPTION part no more than went above it. -> (n,) int"""
    low = went.shape[1] - round(CAPTION * went.shape[1] ** 0.5) * round(went.shape[1] ** 0.5)
    above = went[:, :low].sum(1)
    return above + np.minimum(went[:, low:].sum(1), above)


def _is_wide(went: np.ndarray) -> np.ndarray:
    """Whether more than POINTER x POINTER blocks went, of went (n, q) bool: a mouse pointer or a laser's dot is no wider. -> (n,) bool"""
    side = round(went.shape[1] ** 0.5)
    grid = went.reshape(-1, side, side)
    return np.logical_or(*(_extent(grid.any(axis)) > POINTER for axis in (1, 2)))


def _extent(line: np.ndarray) -> np.ndarray:
    """From the first to the last that is set: (n, side) bool -> (n,) int, 0 where none is."""
    side = line.shape[1]
    return np.where(line.any(1), side - line.argmax(1) - line[:, ::-1].argmax(1), 0)


def _beside(count: np.ndarray) -> np.ndarray:
    """Whether a neighbour has more, for all but the first and the last: (n + 2,) -> (n,) bool"""
    return np.maximum(count[:-2], count[2:]) > count[1:-1]


def _covered(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Blocks that something was put upon: sides (n, q, 2) -> (n, q) bool."""
    new = np.abs(before - after).min(-1) > GROUND  # (n, q)
    return new & (new.mean(1, keepdims=True) < MOST)


def _rests(a: np.ndarray, b: np.ndarray, blocks: np.ndarray, mean: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """Do the blocks stand still from frames a (n,) to frames b (n,)? -> (n, q) bool"""
    pixels = blocks.shape[-1]
    size = np.maximum(norms[a], norms[b])  # (n, q)
    moved = np.einsum("nqp,nqp->nq", blocks[a] - blocks[b], blocks[a] - blocks[b])
    flat = np.sqrt(moved / pixels) <= STEP
    return (np.abs(mean[a] - mean[b]) <= STEP + size / np.sqrt(pixels) / 4) & (flat | (moved <= 2 * (1 - STILL) * size * size))


def _words_went(a: np.ndarray, b: np.ndarray, lost: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Of the blocks `lost` (n, q) bool from frames a (n,) to frames b (n,), those whose words are: -> as many bool. What is alike along
    a row of pixels, as a bar is that marks a line, is no word; where words stay on it or there were none, none went."""
    which, where = np.nonzero(lost)
    side = round(blocks.shape[-1] ** 0.5)
    before, after = (blocks[frames[which], where].reshape(-1, side, side) for frames in (a, b))
    x, y = ((rows - rows.mean(-1, keepdims=True)).reshape(-1, side * side) for rows in (before, after))
    whole = np.einsum("kp,kp->k", blocks[a[which], where], blocks[a[which], where])
    own, other, both = (np.einsum("kp,kp->k", *pair) for pair in ((x, x), (y, y), (x, y)))
    return (both < STAY * np.sqrt(own * np.maximum(other, FAINT**2 * own))) & (own >= WORDS * whole)


def _shows(a: np.ndarray, b: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """Is the ink of frames a (n,) still in frames b (n,)? -> (n, q) bool"""
    return _alike(ink[a], ink[b])


def _alike(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Is the ink x (..., p) still in y (..., p)? -> (...,) bool"""
    weight = np.abs(x)
    own, other = np.einsum("...p,...p,...p->...", weight, x, x), np.einsum("...p,...p,...p->...", weight, y, y)
    both = np.einsum("...p,...p,...p->...", weight, x, y)
    return (both >= ALIKE * np.sqrt(own * other)) & (other >= FAINT**2 * own)
