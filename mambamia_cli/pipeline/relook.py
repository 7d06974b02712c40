"""A second look: the moments at which words are seen best, decoded once more and larger, and read in overlapping views.

The first look squeezes a whole frame into the encoder's input; what is small there is a few patches. Here a frame is read in
windows that keep its shape: side by side where its shorter side fills the input, and in two rows or columns where it is enlarged
half as much again. What names them is a reader of its own, trained on such windows (language/spotter.py). A moment's odds for a
word are the mean of its odds (not of their logarithms) over the views: one clear view is enough.

What the first look does not know for what it is has no best moment. So the middle of each stretch between peaks of delta is
looked at as well, whatever is asked (`swept`).

A model without such a reader has its compressor and projector read the frame as a whole, squeezed as at first, in five windows
where that is enlarged by 10/7, and in nine where it is enlarged twice.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from mambamia_cli.pipeline.engine import Models
from mambamia_cli.pipeline.index import Index
from mambamia_cli.scenes import peaks

if TYPE_CHECKING:
    from torch import Tensor

    from mambamia_cli.language.lexicon import Lexicon
    from mambamia_cli.pipeline.imagenet_sight import Known, Sight
    from mambamia_cli.scenes.peaks import PeakRule

FIVE = ((0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5))
NINE = tuple((y, x) for y in (0, 0.5, 1) for x in (0, 0.5, 1))
SCALES = ((1, ((0, 0),)), (10 / 7, FIVE), (2, NINE))
"""How much a squeezed frame is enlarged, and where its windows lie: parts of what is left over, from the top and from the left."""

ENLARGED, STEP, LONGEST = (1, 3 / 2), 0.6, 4
"""For a reader of single views: how much the frame is enlarged over its shorter side filling the input, how far a window lies from
the next in parts of its own side at most, and the longest side that is read, in shorter ones; what is longer is squeezed."""

MOMENTS = 2  # a word
FEWEST, MOST, EACH = 24, 120, 20
"""Moments looked at whatever is asked, at most: one for each so many frames of the first look, within these bounds."""

PIECE, SHORTEST, FAINT = 4.0, 0.6, 0.5
"""Seconds that one of them stands for, at most and at least; parts of a scene's threshold from which on a peak of delta opens a
stretch of its own."""

APART = 1.5  # seconds: nearer ones are the same moment
_GROUP = 8  # moments decoded and read at once, while as many more are decoded: bounds the memory


class SecondLook:
    """The second looks at one video. They are kept: questions about a video come back to the same moments.

    models: whose encoder and compressor looked at it; reader: whose words it is to be read in, theirs unless given."""

    def __init__(self, index: Index, models: Models, reader: Models | None = None):
        self._index, self._models, self._reader = index, models, reader or models
        self._known: dict[int, Tensor] = {}
        self._sight: Sight | None = None
        self._recognised: tuple[Known, ...] | None = None
        self._swept: list[int] | None = None

    def odds(self, frames: Sequence[int], lexicon: "Lexicon", measure: "Callable[[Lexicon, Tensor], Tensor]") -> np.ndarray:
        """-> (w, k) log-odds of words in frames of the index.

        measure: (words as they are to be read, tokens (f, t, width)) -> (w, f). Readers count by their mean log-odds, the views
        of a frame by their mean odds.
        """
        import torch

        tokens = self.tokens(frames)  # (k, v, r, t, width)
        with torch.inference_mode():
            readings = [measure(words, tokens[:, :, r].flatten(0, 1)) for r, words in enumerate(self.words(lexicon))]  # (w, k * v) each
            views = torch.stack(readings).mean(0).unflatten(1, tokens.shape[:2])  # (w, k, v)
            return (views.logsumexp(-1) - math.log(views.shape[-1])).numpy()

    def tokens(self, frames: Sequence[int]) -> "Tensor":
        """Visual tokens of frames of the index, each view read on its own by r readers: -> (k, v, r, t, width)."""
        import torch

        new = [i for i in dict.fromkeys(frames) if i not in self._known]
        groups = [new[at : at + _GROUP] for at in range(0, len(new), _GROUP)]
        with torch.inference_mode(), ThreadPoolExecutor(1) as decoding:  # the next group while this one is read
            coming = [decoding.submit(self.views, groups[0])] if groups else []
            for g, group in enumerate(groups):
                views = coming.pop().result()
                coming = [decoding.submit(self.views, later) for later in groups[g + 1 : g + 2]]
                self._known.update(zip(group, self._read(views), strict=True))
        return torch.stack([self._known[i] for i in frames]).float()

    def swept(self) -> list[int]:
        """The frames to look at whatever is asked (see `swept`); none where nothing but the compressor would read them, which has
        seen them already."""
        if self._reader.spotter is None:
            return []
        if self._swept is None:
            index = self._index
            self._swept = swept(index.delta, index.seconds, self._models.rule, index.range[1])
        return self._swept

    def words(self, lexicon: "Lexicon") -> "list[Lexicon]":
        """The words as each reader's tokens are to be read."""
        return [lexicon] if self._reader.spotter is None else self._reader.spotter.lexicons(lexicon)

    def recognised(self, only: tuple[str, ...] | None = None) -> "tuple[Known, ...]":
        """What the encoder's ImageNet head knows at a closer look (pipeline/imagenet_sight.py), the surest first, of `only` these words;
        nothing where the encoder has no such head."""
        if self._recognised is not None:
            return self._recognised if only is None else tuple(thing for thing in self._recognised if thing.name in only)
        if not hasattr(self._models.encoder, "encode_and_classify"):
            return ()
        if self._sight is None:
            from mambamia_cli.pipeline.imagenet_sight import Sight, looker, spread

            start, end = self._index.range
            self._sight = Sight(looker(self._index.info), spread(start, end), self._models.encoder, end=end)
        found = self._sight.recognise(only)
        if only is None:
            self._recognised = found
        return found

    def frame_at(self, seconds: float) -> int:
        """The frame of the index that is nearest to a time."""
        return int(np.abs(self._index.seconds - seconds).argmin())

    def views(self, frames: list[int]) -> "Tensor":
        """-> (k, v, 3, H, W) uint8, by `windows`, or by SCALES."""
        import torch

        from mambamia_cli.video.grab import grab_in

        info, (high, wide) = self._index.info, self._models.encoder.input_size
        cut = squeezed(high, wide) if self._reader.spotter is None else windows((info.height, info.width), high)
        times, views = [self._index.times[i] for i in frames], []
        for scaled, (_, places) in zip(grab_in(info.path, times, [size for size, _ in cut], stream=info.stream), cut, strict=True):
            pictures = torch.from_numpy(scaled).permute(0, 3, 1, 2)  # (k, 3, H', W')
            for top, left in places:
                views.append(pictures[..., top : top + high, left : left + wide])
        return torch.stack(views, 1)

    def _read(self, views: "Tensor") -> "Tensor":
        """views (k, v, 3, H, W) uint8 -> (k, v, r, t, width) float16."""
        import torch

        from mambamia_cli.language.projector import frozen_tokens

        models, reader, tokens = self._models, self._reader, []
        for part in views.flatten(0, 1).split(models.settings.chunk):
            patches = models.encoder.encode(part)  # (m, n, d_vision)
            if reader.spotter is not None:
                tokens.append(reader.spotter(patches.to(models.device).float()).cpu().half())
                continue
            patches = patches.to(models.device, models.half)
            anchors = models.compressor(patches[:, None]).anchors  # (m, 1, g, d): each view is a video of one frame
            tokens.append(frozen_tokens(reader.projector, anchors[:, 0].float())[:, None].cpu().half())  # one reader
        return torch.cat(tokens).unflatten(0, views.shape[:2])


def squeezed(high: int, wide: int) -> list[tuple[tuple[int, int], list[tuple[int, int]]]]:
    """SCALES in pixels for an input of `high` and `wide`: a size (height, width), and (top, left) of its windows."""
    found = []
    for scale, places in SCALES:
        size = round(high * scale), round(wide * scale)
        found.append((size, [(round((size[0] - high) * y), round((size[1] - wide) * x)) for y, x in places]))
    return found


def windows(shape: tuple[int, int], side: int) -> list[tuple[tuple[int, int], list[tuple[int, int]]]]:
    """ENLARGED in pixels for a frame of `shape` (height, width) and square windows: as of `squeezed`."""
    short, found = min(shape), []
    for scale in ENLARGED:
        size = tuple(round(min(length / short, LONGEST) * side * scale) for length in shape)
        rows, columns = (_offsets(length, side) for length in size)
        found.append((size, [(top, left) for top in rows for left in columns]))
    return found


def _offsets(length: int, side: int) -> list[int]:
    """Where windows of `side` begin that cover `length`, evenly."""
    count = math.ceil((length - side) / (STEP * side)) + 1
    return [round((length - side) * i / max(1, count - 1)) for i in range(count)]


def moments(odds: np.ndarray, times: np.ndarray, most: int = MOMENTS) -> list[int]:
    """The best frames of a curve (m,), no two within APART of each other, best first."""
    left, found = np.array(odds, dtype=np.float64), []
    while len(found) < most and np.isfinite(left).any():
        best = int(np.argmax(left))
        found.append(best)
        left[np.abs(times - times[best]) < APART] = -np.inf
    return found


def swept(delta: np.ndarray, times: np.ndarray, rule: "PeakRule", end: float, most: int | None = None) -> list[int]:
    """Frames to look at whatever is asked, increasing: the middle of each stretch between peaks of delta (m,), long ones being cut in
    pieces; where there are more than `most`, those that the highest peaks open. What the first look does not know for what it
    is still makes delta rise when it comes, and when it goes."""
    most = min(max(FEWEST, len(delta) // EACH), MOST) if most is None else most
    score = peaks.scores(delta, times, rule)  # (m,)
    opens = [0, *peaks.markers(score, times, FAINT * rule.threshold, SHORTEST, end)]
    score[0] = score.max()  # all that the video begins with is new
    pieces = []  # (rank, middle)
    for i, stop in zip(opens, [*(float(times[i]) for i in opens[1:]), end], strict=True):
        count = max(1, math.ceil((stop - times[i]) / PIECE))
        length = (stop - times[i]) / count
        pieces += [(score[i] / (1 + k), times[i] + (k + 0.5) * length) for k in range(count)]
    kept = sorted(pieces, key=lambda piece: -piece[0])[:most]
    return sorted({int(np.abs(times - middle).argmin()) for _, middle in kept})


def corrected(odds: np.ndarray, times: np.ndarray, looked: dict[int, float], drop: float) -> np.ndarray:
    """A word's curve (m,) after second looks. `looked`: frame -> its odds now.

    The stretch around a looked-at moment, where the curve stays within `drop` of it, moves with it. What was not looked at
    was less likely before than what was, and stays so: it is capped at the least of these.
    """
    cap = min(looked.values())
    out, taken = np.minimum(odds, cap), np.zeros(len(odds), bool)
    nearest = np.abs(times[:, None] - times[list(looked)]).min(1)  # (m,) seconds to the nearest moment that was looked at
    for frame in sorted(looked, key=lambda i: -odds[i]):
        # Each moment rules what lies nearer to it than to any other; a frame midway, whichever comes first.
        stretch = _stretch(odds, frame, drop) & ~taken & (np.abs(times - times[frame]) <= nearest + 1e-9)
        stretch[frame] = True
        out[stretch] = np.minimum(odds[stretch] - odds[frame], 0.0) + looked[frame]
        taken |= stretch
    return out


def _stretch(odds: np.ndarray, frame: int, drop: float) -> np.ndarray:
    """(m,) bool: the run of frames around one that stay within `drop` of it."""
    near = odds >= odds[frame] - drop
    gaps = np.flatnonzero(~near)
    low = gaps[gaps < frame].max(initial=-1)
    high = gaps[gaps > frame].min(initial=len(odds))
    inside = np.zeros(len(odds), bool)
    inside[low + 1 : high] = True
    return inside
