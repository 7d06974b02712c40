"""Which frames of a look the vision encoder sees: it costs more than all else that is done to a frame.

- A frame that equals the last one, or in a close look is nearly it (`ALIKE`), has that one's patches.
- In a close look, frames between two others may be calm ones: these two are much alike (`CALM`), and what lies between them
  lies between them in its picture, too. Three frames at once (`SPANS`), or where that is too much one, have a mixture of
  the two's patches. Where anything begins or ends, neighbours differ, and every frame is encoded.

On three lectures and a film (bench/scene_set.py, seeds 28 and 30) 59 to 64 % and 47 % of the frames are spared, and of 96 markers none came,
went or moved. A look for answers spares equal frames only.
"""

from typing import TYPE_CHECKING

import numpy as np

from mambamia_cli.pipeline.backoff import Backoff

if TYPE_CHECKING:
    from torch import Tensor

ALIKE = 2.0
"""Grey values by which the 8 x 8 pixel blocks of a frame may at most differ from the last one's, each on its mean."""

CALM = 14.0
"""Grey values: mean difference of two frames' thumbnails below which they are alike."""

BETWEEN, NOISE = 0.45, 0.5
"""How far a frame between two like ones may be from their mixture, on the mean: BETWEEN of what these two differ by, or NOISE grey values.
Where one picture replaces another at once, as slides of few words do that differ by little, a frame is half of that away and more."""

SPANS = (4, 2)
"""Frames from one of two like ones to the other, tried in turn."""

BLOCK = 8  # pixels on a side
THUMBNAIL = 28  # pixels on a side


class SparingEncoder:
    """`encode` takes the chunks of a video in order. close: a close look, see the module's text."""

    def __init__(self, backoff: Backoff, *, close: bool):
        self._backoff, self._close = backoff, close
        self._frame: np.ndarray | None = None  # the last that was not like the one before it
        self._patches: Tensor | None = None  # of the last frame, (1, n, d_vision)
        self._count = 0
        self.spared = 0
        """Frames not encoded so far."""

    def encode(self, frames: np.ndarray) -> "Tensor":
        """frames (m, H, W, 3) uint8, those that follow the ones given before -> patches (m, n, d_vision)."""
        import torch

        new = np.array([self._is_new(frame) for frame in frames])  # (m,)
        way = self._way(frames, new) if self._close else np.zeros(len(frames))  # (m,)
        seen = new & (way == 0)
        self._count += len(frames)
        self.spared += int((~seen).sum())
        if seen.all():
            patches = self._backoff.encode(torch.from_numpy(frames).permute(0, 3, 1, 2))  # from (m, 3, H, W) uint8
        else:
            known = [] if self._patches is None else [self._patches]
            if seen.any():
                known.append(self._backoff.encode(torch.from_numpy(frames[seen]).permute(0, 3, 1, 2)))
            pool = torch.cat(known)
            which = np.cumsum(seen) - (0 if self._patches is not None else 1)  # (m,) places in the pool
            # Places are plain numbers: no index goes to a card.
            rows = [torch.lerp(pool[at], pool[at + 1], part) if part else pool[at] for at, part in zip(which.tolist(), way.tolist(), strict=True)]
            patches = torch.stack(rows)
        self._patches = patches[-1:].clone()
        return patches

    def _is_new(self, frame: np.ndarray) -> bool:
        """Whether a frame differs from the last new one."""
        if self._frame is not None and _farthest(self._frame, frame) <= (ALIKE if self._close else 0):
            return False
        self._frame = frame.copy()  # not a view that keeps a whole chunk
        return True

    def _way(self, frames: np.ndarray, new: np.ndarray) -> np.ndarray:
        """How far each calm frame is on its way from the last encoded one to the next, 0 for all others: frames (m, H, W, 3),
        new (m,) -> (m,). Both ends of a span stand at a multiple of its length, so that they have patches of their own, and
        in the same chunk."""
        small = _thumbnails(frames)  # (m, h, w)
        way = np.zeros(len(frames))
        for span in SPANS:
            parts = np.arange(1, span, dtype=np.float32) / span  # (span - 1,)
            for a in range(-self._count % span, len(frames) - span, span):
                inside = slice(a + 1, a + span)
                if way[inside].any() or not new[a + 1 : a + span + 1].all():
                    continue
                before, whole = small[a], small[a + span] - small[a]
                change = float(np.abs(whole).mean())
                away = np.abs(small[inside] - before - whole * parts[:, None, None]).mean((1, 2))  # (span - 1,)
                if change < CALM and away.max() < max(NOISE, BETWEEN * change):
                    way[inside] = parts
        return way


def _thumbnails(frames: np.ndarray) -> np.ndarray:
    """(m, H, W, 3) uint8 -> their green in about THUMBNAIL pixels each way, float32. What is left over at the edges is not looked at."""
    m, high, wide = frames.shape[:3]
    down, across = max(1, high // THUMBNAIL), max(1, wide // THUMBNAIL)
    h, w = high // down, wide // across
    lines = frames[:, : h * down, : w * across, 1].reshape(m, h, down, w * across).sum(2, dtype=np.uint32)  # (m, h, W)
    return lines.reshape(m, h, w, across).sum(3).astype(np.float32) / (down * across)


def _farthest(one: np.ndarray, other: np.ndarray) -> float:
    """The greatest mean difference of a BLOCK x BLOCK block of two frames (H, W, 3) uint8, in grey values. Blocks cut off by
    an edge count as if they went on alike."""
    apart = np.maximum(one, other) - np.minimum(one, other)
    high, wide = -(-apart.shape[0] // BLOCK), -(-apart.shape[1] // BLOCK)
    if apart.shape[:2] != (high * BLOCK, wide * BLOCK):
        apart = np.pad(apart, ((0, high * BLOCK - apart.shape[0]), (0, wide * BLOCK - apart.shape[1]), (0, 0)))
    lines = apart.reshape(high, BLOCK, wide * BLOCK * 3).sum(1, dtype=np.uint16)  # (H / 8, W * 3)
    return float(lines.reshape(high, wide, BLOCK * 3).sum(-1, dtype=np.uint32).max()) / (BLOCK * BLOCK * 3)
