"""What looks like a wipe or a dissolve in a stretch of frames and is only movement. No torch.

Where a camera pans over soft ground, an object drifts or somebody walks past the lens, the pictures before and after differ and what lies
between is explained by both, more or less. But

- a wipe replaces one picture by the other, each block of it once: while its edge passes. What drifts loses next to nothing from
  frame to frame, and keeps part of what it showed to the end;
- in a dissolve both pictures explain all between, or else it is fast (a whip pan is an editor's cut, too);
- where shots end alike, as views of one place do, the detail of what lies between sinks.

A soft change between slides may look like a wipe, as few pixels are half of each; it is short.
"""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from mambamia_cli.scenes.cuts import ALIKE, BLOCK, SIGMA, in_blocks
from mambamia_cli.scenes.refine import Turn, explained

FEWEST = 4
"""Blocks with structure that two frames must have for anything to be said of what is lost."""

REPLACED, JUMP = 0.5, 0.5
"""Of wipes: how often the picture is replaced at least; a frame that loses JUMP of it is enough."""

ACROSS_FRAME = 16
"""Blocks that an edge passes on its way, at most."""

EDGE, ACROSS = 0.2, 0.55
"""Of wipes: the least share that some frame loses, or that the last has lost of the first."""

SOFT = 0.6
"""Seconds: a shorter change between standing pictures may be a soft change of slide."""

EXPLAINED, FAST = 0.9, 3.0
"""The share from which on a dissolve is explained, and what is lost from frame to frame, in sum, where it need not be."""

SAME, DIP = 0.9, 0.1
"""Likeness of the ends from which on the detail of what lies between sinks by DIP at least."""


def only_moves(turn: Turn, frames: np.ndarray, times: Sequence[float]) -> bool:
    """Whether the wipe or dissolve `turn` that was made out among `frames` (k, H, W, 3) uint8, presented at `times` (k,), is none."""
    first, last = max(0, bisect_right(times, turn.start - 1e-6) - 1), min(len(times) - 1, bisect_right(times, turn.end - 1e-6))
    if turn.kind not in ("wipe", "dissolve") or last - first < 2:
        return False
    steps = np.array([_lost(frames[k], frames[k + 1]) for k in range(first, last)])  # (last - first,)
    part, _, alike = explained(frames, first, last)
    if turn.dip is not None and turn.dip < DIP and alike > SAME:
        return True
    if turn.kind == "dissolve":
        return bool(part < EXPLAINED and steps.sum() < FAST)
    if (turn.dip is None and turn.end - turn.start < SOFT) or steps.max() >= JUMP:
        return False
    drifts = steps.max() < EDGE and part < EXPLAINED and _lost(frames[first], frames[last]) < ACROSS
    return bool(drifts) or _replaced(frames, first, last) < REPLACED


def _replaced(frames: np.ndarray, first: int, last: int) -> float:
    """How often the picture is replaced from frame `first` to frame `last`. The frames that are compared are so far apart that an edge on its way
    from side to side passes a block between them."""
    apart = -((first - last) // ACROSS_FRAME) + 1
    return sum(_lost(frames[k], frames[k + apart]) for k in range(first, min(last + 1, len(frames) - apart))) / apart


def _lost(a: np.ndarray, b: np.ndarray) -> float:
    """The share of the structure of frames a and b (H, W, 3) that they do not have in common; 0 where either has too little."""
    x = in_blocks(np.stack([a, b])[..., 1])  # (2, q, p)
    norm = np.sqrt(np.einsum("kqp,kqp->kq", x, x))
    stands = norm > SIGMA * BLOCK
    if stands.sum(1).min() < FEWEST:
        return 0.0
    unlike = np.einsum("qp,qp->q", *x) < ALIKE * norm[0] * norm[1]
    return float(min(unlike[one].mean() for one in stands))
