"""How well each frame of a video shows a word: the same reading of visual tokens that the language model gets, per word.

For a word q and a frame's tokens, the odds are those of q's posterior in the lexicon (language/lexicon.py), q being as
likely beforehand as a question makes it; words of the lexicon whose last word is q ("acoustic guitar" for "guitar") count as q. A
frame takes its best token. What a word has in common with any footage (`Lexicon.common`) is taken off. Odds are averaged in the log over the frames next to it, since a thing stays for some frames.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mambamia_cli.errors import ModelError
from mambamia_cli.language.lexicon import PRIOR, Lexicon


@dataclass(frozen=True)
class MatchRule:
    """Numbers of the matching, calibrated by training (`evidence` in a model's config.json).

    smooth: seconds over which log-odds are averaged. slope, middle: log-odds z of a word's best frame -> probability that it
    is in the video, 1 / (1 + exp(-slope (z - middle))). drop: a range goes on while log-odds are within `drop` of its best.
    again: weight of a second look (pipeline/relook.py) beside the first where there is one; 0 = none is taken.
    writes: what the language model writes or chooses on its own counts as an answer. Else a question that frames do not decide is
    answered by what can be named, and a choice of the language model's alone is called a guess.
    """

    smooth: float = 0.6
    slope: float = 0.4
    middle: float = 0.0
    drop: float = 4.0
    again: float = 0.0
    weight: float = 1.0  # of the evidence's log-probability of a choice
    language: float = 0.1  # of the language model's
    unsure: float = 0.4  # a confidence below this is said to be no answer
    writes: bool = True

    @classmethod
    def from_config(cls, values: dict) -> "MatchRule":
        """Raises ModelError for unknown names and impossible values."""
        known = set(cls.__dataclass_fields__)
        for name, value in values.items():
            if name not in known:
                raise ModelError(f"the model's evidence settings have an unknown key {name}", "correct its config.json or update mambamia")
            if name == "writes":
                if not isinstance(value, bool):
                    raise ModelError("the model's evidence setting writes must be true or false", "correct its config.json")
            elif isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
                raise ModelError(f"the model's evidence setting {name} must be a number", "correct its config.json")
        return cls(**{name: value if name == "writes" else float(value) for name, value in values.items()})

    def presence(self, odds: Tensor) -> Tensor:
        """Log-odds (any shape) -> probabilities."""
        return torch.sigmoid(self.slope * (odds - self.middle))


# Everyday words whose kinds have names of their own among ImageNet's.
KINDS = {
    "bicycle": ("mountain bike", "bicycle-built-for-two"), "bike": ("bicycle", "mountain bike", "bicycle-built-for-two", "moped"),
    "car": ("cab", "convertible", "limousine", "racer", "minivan", "jeep", "beach wagon", "Model T"), "taxi": ("cab",),
    "bus": ("minibus", "trolleybus"), "train": ("electric locomotive", "steam locomotive"), "truck": ("pickup", "fire engine"),
    "boat": ("lifeboat", "speedboat", "fireboat", "canoe", "gondola", "yawl"), "ship": ("liner", "pirate"), "fire truck": ("fire engine",),
    "airplane": ("airliner", "warplane"), "deer": ("hartebeest", "impala", "gazelle"), "motorcycle": ("moped", "motor scooter"),
}  # fmt: skip
UNRELATED = ("hot dog", "sea lion", "sea cucumber")  # not kinds of what their last word says


def family(lexicon: Lexicon, word: str) -> list[int]:
    """Indices of the words that mean `word`: itself, those that end in it, and KINDS of it."""
    also = KINDS.get(word, ())
    return [i for i, known in enumerate(lexicon.words)
            if known == word or known in also or (known.endswith(" " + word) and known not in UNRELATED)]  # fmt: skip


def log_odds(lexicon: Lexicon, tokens: Tensor, words: Sequence[str], prior: float = PRIOR) -> Tensor:
    """tokens (m, t, width) -> (w, m): log-odds of each word, all of them in the lexicon, against every other word."""
    logits = lexicon.scores(tokens)  # (m, t, v)
    families = [family(lexicon, word) for word in words]
    tipped = torch.zeros(len(lexicon.words))
    for members in families:
        tipped[members] = prior
    logits = logits + tipped
    rows = []
    for members in families:
        own = torch.zeros(len(lexicon.words), dtype=torch.bool)
        own[members] = True
        odds = logits[..., own].logsumexp(-1) - logits[..., ~own].logsumexp(-1)  # (m, t)
        rows.append(odds.amax(-1) - lexicon.common[members].amax())
    return torch.stack(rows)  # (w, m)


def smoothed(odds: Tensor, times: Sequence[float], seconds: float) -> Tensor:
    """Averages over the frames within half of `seconds` on each side. odds (w, m), times (m,) -> (w, m)."""
    moments = torch.as_tensor(times, dtype=torch.float64)
    left = torch.searchsorted(moments, moments - seconds / 2 - 1e-6)
    right = torch.searchsorted(moments, moments + seconds / 2 + 1e-6)
    total = torch.cat([torch.zeros(len(odds), 1, dtype=torch.float64), odds.double().cumsum(1)], 1)
    return ((total[:, right] - total[:, left]) / (right - left)).to(odds.dtype)


@dataclass(frozen=True)
class Range:
    """A stretch [start, end] in seconds in which a word's log-odds stay near `peak`, their best there."""

    start: float
    end: float
    peak: float


def ranges(odds: Sequence[float], times: Sequence[float], *, least: float, drop: float, end: float, most: int = 20) -> list[Range]:
    """Stretches in which a word is seen, best first. odds, times (m,); `end` closes the last frame's time.

    The best frame opens a range, which grows both ways while odds stay above `least` and within `drop` of its peak; what it
    covers is left out and the next best follows.
    """
    odds, times = list(map(float, odds)), list(map(float, times))
    closes = [*times[1:], max(end, times[-1])]
    free, found = [True] * len(odds), []
    for i in sorted(range(len(odds)), key=lambda i: -odds[i]):
        if odds[i] < least or len(found) == most:
            break
        if not free[i]:
            continue
        floor = max(least, odds[i] - drop)
        a = b = i
        while a > 0 and free[a - 1] and odds[a - 1] >= floor:
            a -= 1
        while b + 1 < len(odds) and free[b + 1] and odds[b + 1] >= floor:
            b += 1
        touched = (a > 0 and not free[a - 1]) or (b + 1 < len(odds) and not free[b + 1])
        for j in range(a, b + 1):
            free[j] = False
        if not touched:  # the slope of a better range is no range
            found.append(Range(times[a], closes[b], odds[i]))
    return found
