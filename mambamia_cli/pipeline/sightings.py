"""Where in a video the words of a question are seen, and what answers follow from that alone.

Presence and time of each word come from matching (language/matching.py). A choice's probability follows from both: to be first,
a thing must be present, and whatever is seen earlier must not be.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mambamia_cli.language.intent import Intent
from mambamia_cli.pipeline.engine import Models
from mambamia_cli.pipeline.index import Index
from mambamia_cli.pipeline.relook import SecondLook, corrected, moments
from mambamia_cli.records import Evidence, timecode

if TYPE_CHECKING:
    from mambamia_cli.language.lexicon import Lexicon
    from mambamia_cli.language.matching import MatchRule

_BLOCK = 2048
"""Frames whose tokens are read and matched at once: bounds the memory for long videos."""

TINY = 1e-4

FAINT, SURE, GAP = 0.2, 0.8, 1.0
"""Of stretches that are counted: chance at which one ends, chance of a further one, seconds between two of them."""


@dataclass(frozen=True)
class Sightings:
    """Log-odds (w, m) of `words` in the frames of an index, smoothed in time; `presence` (w,) of each word in the video."""

    words: tuple[str, ...]
    odds: np.ndarray
    presence: np.ndarray
    times: np.ndarray
    end: float

    @property
    def best(self) -> np.ndarray:
        """(w,) the time at which each word is seen best."""
        return self.times[self.odds.argmax(1)]


def look_for(index: Index, models: Models, words: Sequence[str], second: SecondLook | None = None,
             within: tuple[float, float] | None = None) -> Sightings:  # fmt: skip
    """Match words, known to the lexicon or not, against every frame looked at; with `second`, the moments at which they are
    seen best are looked at once more. `within`: frames between these seconds only, at least one."""
    import torch

    from mambamia_cli.language.matching import log_odds, smoothed
    from mambamia_cli.language.projector import frozen_tokens

    assert index.anchors is not None
    lexicon, plain = lexicon_with(words, models)
    rows, m = [], len(index.times)
    with torch.inference_mode():
        for at in range(0, m, _BLOCK):
            anchors = index.anchors.read(list(range(at, min(at + _BLOCK, m)))).to(models.device)  # (k, g, d)
            rows.append(log_odds(lexicon, frozen_tokens(models.projector, anchors).cpu(), plain))  # (w, k)
        odds = smoothed(torch.cat(rows, 1), index.seconds, models.match.smooth).numpy()  # (w, m)
    frames = np.arange(m) if within is None else frames_within(index.seconds, *within)
    odds, times, end = odds[:, frames], index.seconds[frames], index.range[1] if within is None else min(within[1], index.range[1])
    if second is not None and models.match.again > 0:
        odds = _recognised(_looked_again(odds, frames, times, models, lexicon, plain, second), times, models, plain, second)
    presence = models.match.presence(torch.from_numpy(odds).amax(1))  # (w,)
    return Sightings(tuple(words), odds, presence.numpy(), times, end)


def lexicon_with(words: Sequence[str], models: Models) -> "tuple[Lexicon, list[str]]":
    """The model's lexicon with words that it may not know, and how it spells them."""
    from mambamia_cli.language.lexicon import word_point

    assert models.lexicon is not None
    language, plain = models.language, [models.lexicon.spelling(word) for word in words]
    return models.lexicon.extended(plain, lambda word: word_point(word, language.tokenize, language.embed)), plain


def frames_within(times: np.ndarray, start: float, end: float) -> np.ndarray:
    """The frames on screen between two seconds: those taken there, and the one before unless one was taken at `start`. At least one."""
    first, last = np.searchsorted(times, start + 1e-6, "right") - 1, np.searchsorted(times, end)
    return np.arange(max(0, first), max(last, first + 1, 1))


def _looked_again(odds: np.ndarray, frames: np.ndarray, times: np.ndarray, models: Models, lexicon: "Lexicon", words: Sequence[str],
                  second: SecondLook) -> np.ndarray:  # fmt: skip
    """odds (w, k) in some of the index's frames (k,) -> the same after second looks at each word's best moments, and at those that are
    looked at anyway."""
    from mambamia_cli.language.matching import log_odds

    rule = models.match
    always = np.flatnonzero(np.isin(frames, second.swept())).tolist()
    chosen = [list(dict.fromkeys([*moments(row, times), *always])) for row in odds]
    looked = sorted({i for row in chosen for i in row})
    again = second.odds(frames[looked].tolist(), lexicon, lambda words_as_read, tokens: log_odds(words_as_read, tokens, words))  # (w, c)
    place = {i: c for c, i in enumerate(looked)}
    return np.stack([
        corrected(row, times, {i: (1 - rule.again) * row[i] + rule.again * again[w, place[i]] for i in chosen[w]}, rule.drop)
        for w, row in enumerate(odds)
    ])


def _recognised(odds: np.ndarray, times: np.ndarray, models: Models, words: Sequence[str], second: SecondLook) -> np.ndarray:
    """odds (w, k) -> the same, no lower than what ImageNet's head says of words it knows. It is slow, so it is asked only where
    none of the words is seen otherwise."""
    from mambamia_cli.pipeline.imagenet_sight import APART
    from mambamia_cli.vision.everyday import folding

    rule, known = models.match, set(folding()[0])
    wanted = {word: w for w, word in enumerate(words) if word in known}
    if not wanted or odds.max() >= rule.middle:
        return odds
    for thing in second.recognised(tuple(wanted)):
        if thing.name in wanted:
            row = odds[wanted[thing.name]]
            for moment in thing.times:
                near = np.abs(times - moment) <= APART
                row[near] = np.maximum(row[near], rule.middle + math.log(thing.score / (1 - thing.score)) / rule.slope)
    return odds


def found(seen: Sightings, models: Models, word: int, *, least: float = 0.5, most: int = 20) -> tuple[Evidence, ...]:
    """The time ranges in which a word is seen with a probability of at least `least`, best first."""
    import torch

    from mambamia_cli.language.matching import ranges

    rule = models.match
    stretches = ranges(seen.odds[word], seen.times, least=_odds_at(least, rule), drop=rule.drop, end=seen.end, most=most)
    return tuple(
        Evidence(round(s.start, 3), round(s.end, 3), timecode(s.start), round(float(rule.presence(torch.tensor(s.peak))), 4))
        for s in stretches
    )


def appearances(seen: Sightings, models: Models, word: int) -> tuple[Evidence, ...]:
    """The stretches in which a thing is on screen, in order, to be counted and timed: each whole, as far as it can still be made out
    (FAINT), where `found` gives the part that is clear. None unless it is likelier there than not; once it is, a further one must be
    SURE. Stretches within GAP are one."""
    import torch

    from mambamia_cli.language.matching import ranges

    rule = models.match
    best = rule.presence(torch.from_numpy(seen.odds[word])).numpy()  # (m,)
    spans = []
    for s in ranges(seen.odds[word], seen.times, least=_odds_at(FAINT, rule), drop=math.inf, end=seen.end):
        score = float(rule.presence(torch.tensor(s.peak)))
        if score >= (SURE if best.max() >= SURE else 0.5):
            spans.append((s.start, s.end, score))
    joined: list[tuple[float, float, float]] = []
    for start, end, score in sorted(spans):
        if joined and start - joined[-1][1] <= GAP:
            start, _, other = joined.pop()
            score = max(score, other)
        joined.append((start, end, score))
    return tuple(Evidence(round(a, 3), round(b, 3), timecode(a), round(score, 4)) for a, b, score in joined)


def _odds_at(chance: float, rule: "MatchRule") -> float:
    """The log-odds at which a word is there with this probability."""
    return rule.middle + math.log(max(chance, TINY) / max(1 - chance, TINY)) / rule.slope


def likelihoods(intent: Intent, seen: Sightings) -> np.ndarray | None:
    """log-probability of each thing as the answer, (w,), normalised; None for a kind that evidence does not decide."""
    present = np.clip(seen.presence.astype(np.float64), TINY, 1 - TINY)
    if intent.kind == "appear":
        # One of them is there: each hypothesis is that this one is and the others may be anything.
        score = np.log(present / (1 - present))
    elif intent.kind in ("first", "last"):
        when = seen.best if intent.kind == "first" else -seen.best
        sooner = when[None, :] < when[:, None]  # (w, w) [i, j]: j comes before i
        score = np.log(present) + (sooner * np.log(1 - present)[None, :]).sum(1)
    else:
        return None
    return score - np.logaddexp.reduce(score)


def clock(seconds: float) -> str:
    """A time as a person says it: "12 s (0:12)"."""
    whole = round(seconds)
    shown = f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02d}"
    return f"{whole} s ({shown})"
