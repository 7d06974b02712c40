"""Text that scrolls: what changed between two pictures is there again some lines higher or lower. No torch.

Of the part that changed, a box of blocks, what changes along the lines is looked at, less each column's mean: any two texts are alike in that they
have lines, and begin at the left. Its correlation with itself, moved up and down, tells a scroll from another text.
"""

import numpy as np

BLOCK, CHANGED, FEWEST = 8, 2.0, 3
"""Pixels on a side, grey values on the mean from which a block has changed, and blocks without which nothing has."""

MOST = 0.7
"""Share of the blocks: a window that scrolls has a frame, a page its margins, and a cut changes all."""

LINES = 12
"""Lines of pixels that something is written on: two short lines of text are alike by chance."""

FARTHEST = 0.25
"""Of the picture's height: what scrolls farther at once has too little in common with what was there."""

ALIKE, MORE = 0.5, 0.12
"""The least correlation of what has moved, and by how much it is more than where nothing is moved."""


def is_scrolled(before: np.ndarray, after: np.ndarray) -> bool:
    """before, after (H, W) grey values, H and W multiples of BLOCK."""
    changed = _changed(before, after)
    if changed.sum() < FEWEST or changed.mean() > MOST:
        return False
    rows, columns = (np.flatnonzero(changed.any(axis)) for axis in (1, 0))
    box = np.s_[rows[0] * BLOCK : (rows[-1] + 1) * BLOCK, columns[0] * BLOCK : (columns[-1] + 1) * BLOCK]
    x, y = _strokes(before[box]), _strokes(after[box])
    if min(_lines(x), _lines(y)) < LINES:
        return False
    correlation = _moved(x, y, round(FARTHEST * len(before)))
    middle = len(correlation) // 2
    moved = np.delete(correlation, [middle - 1, middle, middle + 1])
    return bool(len(moved)) and float(moved.max()) >= max(ALIKE, float(correlation[middle]) + MORE)


def is_replaced(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether most of the picture changed: a window may have scrolled and made way for another a moment later."""
    return bool(_changed(before, after).mean() > MOST)


def _changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Of pictures (H, W) -> (H / BLOCK, W / BLOCK) bool"""
    high, wide = before.shape
    return np.abs(after - before).reshape(high // BLOCK, BLOCK, wide // BLOCK, BLOCK).mean((1, 3)) > CHANGED


def _strokes(x: np.ndarray) -> np.ndarray:
    """What changes along the lines of x (h, w), less each column's mean: (h, w - 1)"""
    along = np.diff(x, axis=1)
    return along - along.mean(0)


def _lines(x: np.ndarray) -> float:
    """Over how many of its lines the power of x (h, w) is spread."""
    power = (x**2).sum(1)
    return float(power.sum() ** 2 / max((power**2).sum(), 1e-6))


def _moved(x: np.ndarray, y: np.ndarray, most: int) -> np.ndarray:
    """x, y (h, w) -> correlations of x moved down by -n .. n lines with y where they overlap, n at most `most` and half of h: (2 n + 1,)"""
    h, n = len(x), min(most, len(x) // 2)
    spectra = [np.fft.rfft(z, 2 * h, axis=0) for z in (x, y)]
    products = np.fft.irfft((np.conj(spectra[0]) * spectra[1]).sum(1), 2 * h)  # at k: sum of x[i] * y[i + k]
    power = [np.concatenate([[0.0], np.cumsum((z**2).sum(1))]) for z in (x, y)]
    k = np.arange(-n, n + 1)
    of_x = power[0][h - np.maximum(k, 0)] - power[0][np.maximum(-k, 0)]
    of_y = power[1][h - np.maximum(-k, 0)] - power[1][np.maximum(k, 0)]
    return products[k] / np.maximum(np.sqrt(of_x * of_y), 1e-6)
