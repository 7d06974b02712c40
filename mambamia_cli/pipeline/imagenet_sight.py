"""What a video shows that ImageNet knows, in everyday words: the head of the embedded encoder on larger pictures.

A picture squeezed to 224 pixels shows a bicycle in a street to nobody, so a frame is seen in squares at two zooms, as high as
the frame and three fifths of it. The head names something in any picture; it is believed only where the views agree: both zooms,
in colour and in grey, and a moment before or after. What a drawing or a blur is taken for by its colours or its texture passes one of
these tests, hardly ever all.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from mambamia_cli.video import VideoInfo

BAR = 0.55
"""Agreement at which a name is told, if another look at the video finds it too."""

ALONE = 0.75
"""Agreement at which one look is enough. On 38 held-out videos of drawings over photographs all names found twice were those of the
photographs; of what was found once, a peach was a ping-pong ball (0.55) and a balloon (0.85), a radio a traffic sign (0.59), a boot a guitar (0.64)."""

LOOKS = 24
"""Moments at which ImageNet's head looks at a video: half a second apart in a short one, spread evenly over a long one."""

SHORT_SIDE = 360  # pixels of a picture looked at: three fifths of it fill the encoder's input
ZOOM, STEP = 0.6, 0.6  # side of the smaller squares over the picture's short side; from one square to the next, over its side
APART = 0.4  # seconds from a look to those that must confirm it
TRIES = 3  # looks of each word that are confirmed, its best ones: one must be

Look = Callable[[Sequence[float]], Iterable[np.ndarray]]
"""Times in seconds -> pictures (H, W, 3) uint8 RGB, one for each, in this order."""


Box = tuple[int, int, int]
"""A square of a picture: left, top, side, in pixels."""


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


class Sight:
    """Looks at `times` (any number, in order) of a video that ends at `end` seconds. Pictures and what their large squares show are kept:
    one question after the other comes back to them."""

    def __init__(self, look: Look, times: Sequence[float], encoder: Classifier, *, end: float, bar: float = BAR):
        self._look, self._times, self._encoder, self._end, self._bar = look, list(times), encoder, end, bar
        self._pictures: list[tuple[np.ndarray, np.ndarray]] | None = None  # each with the shares of its large squares

    def recognise(self, only: Collection[str] | None = None) -> tuple[Known, ...]:
        """Name what is plain to see, the surest first; of `only` these words, which is quicker where few are there."""
        from mambamia_cli.vision.everyday import folding

        words, bar = folding()[0], self._bar
        wanted = None if only is None else np.flatnonzero(np.isin(words, list(only)))
        if self._pictures is None:
            self._pictures = [(p, _shares(p, boxes(p, min(p.shape[:2])), self._encoder)) for p in self._look(self._times)]
        spots: dict[int, list[tuple[float, float]]] = {}  # word -> (score, time) of each look that spotted it
        for t, (picture, large) in zip(self._times, self._pictures, strict=True):
            for word, score in spotted(picture, self._encoder, bar, wanted, large).items():
                spots.setdefault(word, []).append((score, float(t)))
        best = {word: sorted(seen, reverse=True)[:TRIES] for word, seen in spots.items()}
        beside = self._beside(sorted({t for seen in best.values() for _, t in seen}), bar**2, wanted)
        found = []
        for word, seen in best.items():
            score = max(float(np.sqrt(score * beside[t][word])) for score, t in seen)
            if score >= (bar if len(spots[word]) > 1 else max(bar, ALONE)):
                found.append(Known(words[word], score, tuple(t for _, t in spots[word])))
        return tuple(sorted(found, key=lambda thing: -thing.score))

    def _beside(self, times: Sequence[float], least: float, wanted: np.ndarray | None) -> dict[float, np.ndarray]:
        """time -> (k,) how far a picture a little earlier or a little later shows each word: one of them, since a cut may be near."""
        # Beyond an edge the other side is looked at twice as far away: a picture must not confirm itself.
        again = [moment for t in times for moment in (t - APART if t >= APART else t + 2 * APART, t + APART if t + APART < self._end else t - 2 * APART)]
        looks = iter(self._look(again) if again else ())
        return {t: np.maximum(*(_two_zooms(next(looks), self._encoder, least, wanted)[0] for _ in range(2))) for t in times}


def spread(start: float, end: float) -> list[float]:
    """Times at which to look, at most LOOKS."""
    count = max(1, min(LOOKS, int((end - start) / 0.5)))
    return [start + (end - start) * (i + 0.5) / count for i in range(count)]


def spotted(picture: np.ndarray, encoder: Classifier, least: float, wanted: np.ndarray | None = None, large: np.ndarray | None = None) -> dict[int, float]:
    """picture (H, W, 3) uint8 -> the everyday words (by index; of `wanted`, None = of all) on which its views agree by at least `least`,
    and how far: what the two squares that show a word best have less in grey lowers its agreement in colour. `large`: as `_two_zooms`."""
    colour, pairs = _two_zooms(picture, encoder, least, wanted, large)
    words = [int(k) for k in np.flatnonzero(colour >= least)]
    if not words:
        return {}
    shares = _shares(np.repeat(_grey(picture), 3, 2), [box for k in words for box in pairs(k)], encoder)  # (2 w, k)
    grey = (np.sqrt(shares[2 * i, k] * shares[2 * i + 1, k]) for i, k in enumerate(words))
    both = {k: min(float(colour[k]), float(np.sqrt(colour[k] * g))) for k, g in zip(words, grey, strict=True)}
    return {k: score for k, score in both.items() if score >= least}


def _two_zooms(picture: np.ndarray, encoder: Classifier, least: float, wanted: np.ndarray | None = None,
               large: np.ndarray | None = None) -> tuple[np.ndarray, Callable[[int], tuple[Box, Box]]]:  # fmt: skip
    """-> (k,) the geometric mean of each word's best probabilities among the large and the small squares, zeros where the large ones rule
    out that any reaches `least` and for words that are not wanted; and which two squares show a word best. `large` (s, k): the shares
    of the large squares, where they are known."""
    side = min(picture.shape[:2])
    large_boxes, small_boxes = boxes(picture, side), boxes(picture, round(side * ZOOM))
    if large is None:
        large = _shares(picture, large_boxes, encoder)  # (s, k)
    asked = np.arange(large.shape[1]) if wanted is None else wanted
    colour = np.zeros(large.shape[1])
    if large[:, asked].max(initial=0.0) < least**2:  # the small ones count at most 1
        return colour, lambda k: (large_boxes[0], small_boxes[0])
    small = _shares(picture, small_boxes, encoder)  # (s', k)
    colour[asked] = np.sqrt(large.max(0) * small.max(0))[asked]
    return colour, lambda k: (large_boxes[large[:, k].argmax()], small_boxes[small[:, k].argmax()])


def boxes(picture: np.ndarray, side: int) -> list[Box]:
    """Squares that cover a picture, each overlapping the next."""
    height, width = picture.shape[:2]
    return [(x, y, side) for y in _starts(height, side) for x in _starts(width, side)]


def cut(picture: np.ndarray, at: Sequence[Box], size: tuple[int, int]) -> "Tensor":
    """picture (H, W, 3) -> (s, 3, h, w) uint8: squares scaled to `size`."""
    import torch
    from torch.nn.functional import interpolate

    parts = [torch.from_numpy(picture[y : y + side, x : x + side]).permute(2, 0, 1)[None] for x, y, side in at]
    return torch.cat([interpolate(part, size, mode="bilinear", antialias=True, align_corners=False) for part in parts])


def _starts(length: int, side: int) -> list[int]:
    count = 1 if length <= side else int(np.ceil((length - side) / (side * STEP))) + 1
    return [round(at) for at in np.linspace(0, max(0, length - side), count)]


def _grey(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) -> (H, W, 1): luma as Rec. 601 has it."""
    return np.rint(picture @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)[..., None]


def _shares(picture: np.ndarray, at: Sequence[Box], encoder: Classifier) -> np.ndarray:
    """(s, k) probabilities of the everyday words in squares of a picture."""
    from mambamia_cli.vision.everyday import folded

    return folded(encoder.encode_and_classify(cut(picture, at, encoder.input_size))[1].double().softmax(-1).numpy())
