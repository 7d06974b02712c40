"""What a video shows that ImageNet knows, in everyday words: the head of the embedded encoder on larger pictures.

A picture squeezed to 224 pixels shows a bicycle in a street to nobody, so a frame is seen in squares at two zooms, as high as
the frame and three fifths of it. The head names something in any picture; it is believed only where the views agree: both zooms,
in colour and in grey, and a moment before or after. What a drawing or a blur is taken for by its colours or its texture passes one of
these tests, hardly ever all.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from mambamia_cli.video import VideoInfo

BAR = 0.55
"""Agreement at which a name is told."""

LOOKS = 48
"""Moments at which ImageNet's head looks at a video: half a second apart in a short one, spread evenly over a long one."""

SHORT_SIDE = 360  # pixels of a picture looked at: three fifths of it fill the encoder's input
ZOOM, STEP = 0.6, 0.5  # side of the smaller squares over the picture's short side; from one square to the next, over its side
APART = 0.4  # seconds from a look to those that must confirm it
CONFIRM = 0.4  # agreement in one of them

Look = Callable[[Sequence[float]], Iterable[np.ndarray]]
"""Times in seconds -> pictures (H, W, 3) uint8 RGB, one for each, in this order."""


class Classifier(Protocol):
    """vision.embedded.EmbeddedEncoder."""

    input_size: tuple[int, int]

    def encode_and_classify(self, frames: Any) -> tuple[Any, Any]:
        """frames (m, 3, H, W) uint8 -> patches and ImageNet logits (m, 1000)."""


@dataclass(frozen=True)
class Known:
    """A thing by its everyday word; `score` its best agreement in (0, 1); `times` at which it was seen, in order."""

    name: str
    score: float
    times: tuple[float, ...]


def looker(info: "VideoInfo") -> Look:
    """Looks at a video's file, in a size that is enough."""
    from mambamia_cli.pipeline.answerers import pictures

    scale = min(1.0, SHORT_SIDE / min(info.height, info.width))
    size = (round(info.height * scale), round(info.width * scale))
    return lambda times: pictures(info, times, size)


def recognise(look: Look, times: Sequence[float], encoder: Classifier, *, end: float, bar: float = BAR) -> tuple[Known, ...]:
    """Look at `times` (any number, in order) and name what is plain to see, the surest first. `end`: of the video, in seconds."""
    from mambamia_cli.vision.everyday import folding

    words, _ = folding()
    first = [(t, agreement(picture, encoder, least=bar)) for t, picture in zip(times, look(times), strict=True)]
    worth = [(t, shares) for t, shares in first if shares.max() >= bar]
    # Beyond an edge the other side is looked at twice as far away: a picture must not confirm itself.
    again = [moment for t, _ in worth for moment in (t - APART if t >= APART else t + 2 * APART, t + APART if t + APART < end else t - 2 * APART)]
    looks = iter(look(again) if again else ())
    found: dict[int, list[tuple[float, float]]] = {}
    for t, shares in worth:
        # Before or after: a cut may be near.
        second = np.maximum(*(agreement(next(looks), encoder, least=CONFIRM) for _ in range(2)))  # (k,)
        both = np.sqrt(shares * second)
        for k in np.flatnonzero(both >= bar):
            found.setdefault(int(k), []).append((float(t), float(both[k])))
    known = (Known(words[k], max(s for _, s in seen), tuple(t for t, _ in seen)) for k, seen in found.items())
    return tuple(sorted(known, key=lambda thing: -thing.score))


def spread(start: float, end: float) -> list[float]:
    """Times at which to look, at most LOOKS."""
    count = max(1, min(LOOKS, int((end - start) / 0.5)))
    return [start + (end - start) * (i + 0.5) / count for i in range(count)]


def agreement(picture: np.ndarray, encoder: Classifier, *, least: float) -> np.ndarray:
    """picture (H, W, 3) uint8 -> (k,) how far the views agree on each everyday word. In colour that is the geometric mean of its best
    probabilities among the large and the small squares; what it has less in grey lowers it. Below `least` it is 0."""
    colour = _two_zooms(picture, encoder, least)
    if colour.max() < least:
        return np.zeros_like(colour)
    grey = _two_zooms(np.repeat(_grey(picture), 3, 2), encoder, 0.0)
    both = np.minimum(colour, np.sqrt(colour * grey))
    return np.where(both >= least, both, 0)


def _two_zooms(picture: np.ndarray, encoder: Classifier, least: float) -> np.ndarray:
    """(k,) geometric means; zeros where the large squares alone rule out that any word reaches `least`."""
    side = min(picture.shape[:2])
    large = _best(squares(picture, side, encoder.input_size), encoder)
    if large.max() < least**2:  # the small ones count at most 1
        return np.zeros_like(large)
    return np.sqrt(large * _best(squares(picture, round(side * ZOOM), encoder.input_size), encoder))


def squares(picture: np.ndarray, side: int, size: tuple[int, int]) -> np.ndarray:
    """picture (H, W, 3) -> (s, h, w, 3): squares that cover it, each overlapping the next by at least half, scaled to `size`."""
    import torch
    from torch.nn.functional import interpolate

    height, width = picture.shape[:2]
    cut = np.stack([picture[y : y + side, x : x + side] for y in _starts(height, side) for x in _starts(width, side)])  # (s, side, side, 3)
    scaled = interpolate(torch.from_numpy(cut).permute(0, 3, 1, 2).float(), size, mode="bilinear", antialias=True, align_corners=False)
    return scaled.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()


def _starts(length: int, side: int) -> list[int]:
    count = 1 if length <= side else int(np.ceil((length - side) / (side * STEP))) + 1
    return [round(at) for at in np.linspace(0, max(0, length - side), count)]


def _grey(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) -> (H, W, 1): luma as Rec. 601 has it."""
    return np.rint(picture @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)[..., None]


def _best(parts: np.ndarray, encoder: Classifier) -> np.ndarray:
    """parts (s, h, w, 3) -> (k,) the best probability of each everyday word."""
    import torch

    from mambamia_cli.vision.everyday import folded

    logits = encoder.encode_and_classify(torch.from_numpy(parts).permute(0, 3, 1, 2).contiguous())[1]  # (s, 1000)
    return folded(logits.double().softmax(-1).numpy()).max(0)
