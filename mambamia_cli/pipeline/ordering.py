"""What follows from sightings for questions of order, absence and number, and for open ones: pure functions.

A thing's time is not one number but a distribution over the frames looked at, the softmax of its log-odds: what is seen well
once has a time, what is seen nowhere has none, and then nothing is said about its place in the order.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mambamia_cli.errors import UsageError
from mambamia_cli.language.intent import Intent

if TYPE_CHECKING:
    from mambamia_cli.pipeline.sightings import Sightings

TINY = 1e-4
NOTHING = "nothing I can name"
"""What is said where nothing is recognised."""

ALSO = {"none": 0, "no": 0, "never": 0, "once": 1, "twice": 2}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


@dataclass(frozen=True)
class Named:
    """A thing that nobody asked for: where it is first seen, in seconds, the chance that it is there, and all `stretches` of time
    in which it is seen."""

    name: str
    start: float
    end: float
    chance: float
    stretches: tuple[tuple[float, float], ...] = ()

    def within(self, start: float, end: float) -> bool:
        """Whether it is seen between two times."""
        return any(a < end and b > start for a, b in self.stretches or ((self.start, self.end),))


def during(things: Sequence[Named], start: float, end: float) -> tuple[Named, ...]:
    """The things seen between two times, by what of them is seen there, in the order of their first times there."""
    inside = []
    for thing in things:
        spans = tuple((max(a, start), min(b, end)) for a, b in thing.stretches or ((thing.start, thing.end),) if a < end and b > start)
        if spans:
            inside.append(Named(thing.name, *spans[0], thing.chance, spans))
    return tuple(sorted(inside, key=lambda thing: thing.start))


def moments(seen: "Sightings") -> np.ndarray:
    """(w, m): how likely each frame is to be the one that shows a word, were it there."""
    odds = seen.odds.astype(np.float64)
    shares = np.exp(odds - odds.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


def sooner(when: np.ndarray) -> np.ndarray:
    """when (w, m) -> (w, w): [i, j] the chance that i's frame comes before j's; the same frame counts half."""
    later = when[:, ::-1].cumsum(1)[:, ::-1] - when  # (w, m): the chance of a frame after this one
    return when @ (later + 0.5 * when).T


def order(seen: "Sightings") -> float:
    """The chance that the first of two words comes before the second. The question takes for granted that both are there, so
    where one is not seen it is even."""
    sure = float(seen.presence[0] * seen.presence[1])
    return sure * float(sooner(moments(seen))[0, 1]) + (1 - sure) / 2


def absent(seen: "Sightings") -> np.ndarray:
    """(w,) log-probability of each word to be the one that does not appear, where the others do."""
    present = _present(seen)
    return _normalised(np.log(1 - present) - np.log(present))


def after(seen: "Sightings", *, backwards: bool = False) -> np.ndarray:
    """(w - 1,) log-probability of each word but the first to be what appears next after the first word (`backwards`: last
    before it): it is there, it comes later, and none of the others comes between."""
    present, when = _present(seen), moments(seen)
    if backwards:
        when = when[:, ::-1]
    later = when[:, ::-1].cumsum(1)[:, ::-1] - when  # (w, m)
    follows = np.maximum((when[0] * later[1:]).sum(1), TINY)  # (w - 1,)
    score = np.log(present[1:]) + np.log(follows)
    for i in range(1, len(when)):
        for j in range(1, len(when)):
            if i != j:
                both = when[j] * later[i]  # j in this frame and i after it
                between = (when[0] * (both[::-1].cumsum()[::-1] - both)).sum() / follows[i - 1]
                score[i - 1] += np.log(max(1 - present[j] * min(between, 1.0), TINY))
    return _normalised(score)


def likelihoods(intent: Intent, seen: "Sightings") -> np.ndarray | None:
    """log-probability of each of the intent's things as the answer, for "absent", "after" and "before"; None for other kinds.

    `seen` holds the intent's things; for "after" and "before" what the question is about stands before them.
    """
    if intent.kind == "absent":
        return absent(seen)
    if intent.kind in ("after", "before"):
        return after(seen, backwards=intent.kind == "before")
    return None


def listed(seen: "Sightings", *, bar: float, drop: float) -> tuple[Named, ...]:
    """Words whose log-odds reach `bar`, in the order of their first times. One stretch of time gets one name, the best: of words
    that are read into the same frames the weaker ones are misreadings of the same thing. `drop` as in MatchRule."""
    from mambamia_cli.language.matching import ranges

    words = [w for w in range(len(seen.words)) if seen.odds[w].max() >= bar]
    stretches = [(r, w) for w in words for r in ranges(seen.odds[w], seen.times, least=bar, drop=drop, end=seen.end)]
    taken: list[tuple[float, float, int]] = []
    for stretch, word in sorted(stretches, key=lambda pair: -pair[0].peak):
        others = ((a, b) for a, b, by in taken if by != word)
        if all(2 * (min(b, stretch.end) - max(a, stretch.start)) <= stretch.end - stretch.start for a, b in others):
            taken.append((stretch.start, stretch.end, word))
    stretches: dict[int, list[tuple[float, float]]] = {}
    for start, end, word in sorted(taken):
        stretches.setdefault(word, []).append((start, end))
    return tuple(Named(seen.words[w], *spans[0], float(seen.presence[w]), tuple(spans)) for w, spans in stretches.items())


def told(intent: Intent, names: Sequence[str]) -> str | None:
    """The answer to an open question from what is `listed`; None where the list does not say."""
    if intent.kind == "count":
        return str(len(names))
    if intent.kind == "list":
        return joined(names) if names else None
    if intent.kind in ("first", "last") and names:
        return names[0 if intent.kind == "first" else -1]
    if intent.kind in ("after", "before") and intent.about in names:
        at = names.index(intent.about) + (1 if intent.kind == "after" else -1)
        return names[at] if 0 <= at < len(names) else None
    return None


def counted(chances: Sequence[float]) -> np.ndarray:
    """(n + 1,) the chance of each number of things, from the chance of each to be there."""
    total = np.ones(1)
    for chance in chances:
        total = np.convolve(total, [1 - chance, chance])
    return total


def count_among(choices: Sequence[str], chances: Sequence[float]) -> np.ndarray | None:
    """(c,) log-probability of each choice as the number of things; None where a choice is no number."""
    total, known = counted(chances), [number(choice) for choice in choices]
    if any(n is None for n in known):
        return None
    return _normalised(np.log([max(total[n], TINY) if n < len(total) else TINY for n in known]))  # type: ignore[operator,index]


def number(text: str) -> int | None:
    """"3", "three", "3 objects" -> 3."""
    word = re.match(r"\W*(\w+)", text.lower())
    if word is None:
        return None
    if word.group(1).isdigit():
        return int(word.group(1))
    if word.group(1) in ALSO:
        return ALSO[word.group(1)]
    return NUMBERS.index(word.group(1)) if word.group(1) in NUMBERS else None


def nearest_number(choices: Sequence[str], amount: float) -> int | None:
    """Which of the choices is nearest to a number; None where one is none."""
    known = [number(choice) for choice in choices]
    return None if None in known or not known else min(range(len(known)), key=lambda i: abs(known[i] - amount))  # type: ignore[operator]


def closest(choices: Sequence[str], seconds: float) -> int | None:
    """Which of choices that are times ("5 s", "0:12", "at 12 seconds", "1:02:03") is nearest to a time; None where one is none."""
    from mambamia_cli.video.timespec import parse_time

    gaps = []
    for choice in choices:
        found = re.search(r"\d+(?::\d+)+(?:\.\d+)?|\d+(?:\.\d+)?", choice)
        try:
            moment = float(parse_time(found.group())) if found else None
        except UsageError:
            moment = None
        if moment is None:
            return None
        if re.search(r"\d\s*min", choice):
            moment *= 60
        gaps.append(abs(moment - seconds))
    return int(np.argmin(gaps)) if gaps else None


def joined(names: Sequence[str]) -> str:
    """"a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _present(seen: "Sightings") -> np.ndarray:
    return np.clip(seen.presence.astype(np.float64), TINY, 1 - TINY)


def _normalised(score: np.ndarray) -> np.ndarray:
    return score - np.logaddexp.reduce(score)
