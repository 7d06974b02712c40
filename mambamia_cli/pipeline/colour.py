"""What colour a thing has: the pixels that make a second look name it, in the eleven basic colour terms.

The gradient of a word's log-odds by the patches of a view, times the patches, says how far each patch speaks for the word, to each
reader. Pixels count by that, less what the rest of the view has of their colour, since a patch holds background too. Black counts little unless
most of it is black: drawings have outlines, and real things shadows.
"""

from typing import TYPE_CHECKING

import numpy as np

from mambamia_cli.pipeline.engine import Models
from mambamia_cli.pipeline.relook import SecondLook
from mambamia_cli.pipeline.sightings import Sightings, lexicon_with

if TYPE_CHECKING:
    from torch import Tensor

COLOURS = ("black", "white", "grey", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
ALSO = {"gray": "grey", "violet": "purple", "golden": "yellow", "gold": "yellow", "silver": "grey", "turquoise": "blue", "beige": "brown"}
"""Other words for them."""

APART = 0.5  # seconds: beside the best moment, those before and after it are looked at where the thing is seen as well
VIEWS, ALIKE = 4, 2.0  # of a moment the best views count, whose log-odds are within so much of the best one's
CLEAR, NEAR = 0.2, 0.08
"""Parts of the clearest patch's say from which a pixel counts, and below which it is the rest of the view."""

GROUND, OUTLINE, MOSTLY = 0.5, 0.35, 0.6
"""How far the rest of the view is taken off, what black counts, and from which share on it counts whole."""


def shares(seen: Sightings, word: int, second: SecondLook, models: Models) -> np.ndarray | None:
    """(11,) how far each of COLOURS is a word's, together the chance that the word is seen in these views at all, as a thing that only
    ImageNet's head knows is not; None for a model whose second looks have no reader of their own."""
    import torch

    if models.spotter is None:
        return None
    total, clearest = np.zeros(len(COLOURS)), -np.inf
    for views in second.views(_moments(seen, word, second)):  # (v, 3, H, W)
        odds, maps = _speaking(views, seen.words[word], second, models)
        clearest = max(clearest, float(odds.max()))
        for v in np.argsort(-odds, kind="stable")[:VIEWS]:
            if odds[v] >= odds.max() - ALIKE:
                total += np.exp(min(odds[v], 0.0)) * painted(views[v].permute(1, 2, 0).numpy(), maps[v])
    return total / max(total.sum(), 1e-9) * float(models.match.presence(torch.tensor(clearest)))


def words_of(text: str) -> int | None:
    """The one colour that a text names ("red", "dark gray"), by its place in COLOURS; None for none or several."""
    found = {ALSO.get(word, word) for word in text.lower().replace("-", " ").split()} & set(COLOURS)
    return COLOURS.index(found.pop()) if len(found) == 1 else None


def painted(picture: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """picture (H, W, 3) uint8, weight (H, W) of its pixels at most 1 -> (11,) how far each colour is that of what the weights point at."""
    named = names(picture)
    own = np.where(weight > CLEAR, weight, 0.0)
    rest = (weight < NEAR).astype(float)
    inside, around = (np.bincount(named.ravel(), part.ravel(), minlength=len(COLOURS)) / max(part.sum(), 1e-9) for part in (own, rest))
    return foremost(np.maximum(inside - GROUND * around, 0))


def foremost(part: np.ndarray) -> np.ndarray:
    """(11,) parts of a picture -> what each colour counts, of 1 together: black little, unless it is most of it."""
    black = part[0] if part[0] >= MOSTLY * part.sum() else part[0] * OUTLINE
    counted = np.array([black, *part[1:]])
    return counted / max(counted.sum(), 1e-9)


def names(rgb: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 -> (...) places in COLOURS, by hue, saturation and value."""
    x = rgb.astype(np.float32) / 255
    value, chroma = x.max(-1), x.max(-1) - x.min(-1)
    saturation, step = chroma / np.maximum(value, 1e-6), np.maximum(chroma, 1e-6)
    r, g, b = x[..., 0], x[..., 1], x[..., 2]
    hue = 60 * np.where(value == r, ((g - b) / step) % 6, np.where(value == g, (b - r) / step + 2, (r - g) / step + 4))
    found = np.select([hue < 15, hue < 42, hue < 68, hue < 170, hue < 255, hue < 295, hue < 345], [3, 4, 5, 6, 7, 8, 9], 3)
    dull = (value < 0.68) | ((value < 0.82) & (saturation < 0.65))
    found[dull & ((found == 4) | ((found == 5) & (value < 0.5)) | ((hue >= 8) & (hue < 15)))] = 10  # dark or dull orange is brown
    found[((hue < 15) | (hue >= 345)) & (saturation < 0.55) & (value > 0.7)] = 9  # pale red is pink
    plain = (saturation < 0.16) | (chroma < 0.09)
    found[plain] = np.select([value < 0.5, value <= 0.82], [0, 2], 1)[plain]
    found[value < 0.2] = 0
    return found


def _moments(seen: Sightings, word: int, second: SecondLook) -> list[int]:
    """Frames of the index: where a word is seen best, and near there where it is seen nearly as well."""
    row, times = seen.odds[word], seen.times
    best = int(row.argmax())
    beside = [int(np.abs(times - (times[best] + shift)).argmin()) for shift in (-APART, APART)]
    chosen = [best, *(i for i in beside if i != best and row[i] >= row[best] / 2)]
    return [second.frame_at(float(times[i])) for i in chosen]


def _speaking(views: "Tensor", word: str, second: SecondLook, models: Models) -> tuple[np.ndarray, np.ndarray]:
    """views (v, 3, H, W) uint8 -> (v,) log-odds of a word, and (v, H, W) how far each place speaks for it, the clearest 1."""
    import torch
    from torch.nn.functional import interpolate

    from mambamia_cli.language.matching import log_odds

    lexicon, spelt = lexicon_with([word], models)
    patches = models.encoder.encode(views).to(models.device).float().clone().requires_grad_()  # (v, n, d_vision)
    size, reads, odds, maps = models.spotter.config.compressor, second.words(lexicon), [], []
    with torch.enable_grad():
        tokens = models.spotter(patches)  # (v, r, t, width)
        for r, words in enumerate(reads):
            odds.append(log_odds(words, tokens[:, r], spelt)[0])  # (v,)
            (slope,) = torch.autograd.grad(odds[-1].sum(), patches, retain_graph=r + 1 < len(reads))
            speak = (slope * patches).sum(-1).detach().clamp_min(0)  # (v, n)
            maps.append((speak / speak.amax(-1, keepdim=True).clamp_min(1e-9)).unflatten(-1, (size.grid_rows, size.patches_per_row)))
    whole = interpolate(torch.stack(maps).mean(0)[:, None].cpu(), views.shape[-2:], mode="bilinear", align_corners=False)[:, 0]  # (v, H, W)
    return torch.stack(odds).mean(0).detach().cpu().numpy(), (whole / whole.amax((-2, -1), keepdim=True).clamp_min(1e-9)).numpy()
