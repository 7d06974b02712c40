"""Answers that frames alone give: from where the things of a question are seen, or from all that is recognised."""

import math
from collections.abc import Sequence

import numpy as np

from mambamia_cli.language.intent import Intent, affirmation
from mambamia_cli.pipeline import colour as colours
from mambamia_cli.pipeline import ordering, sightings
from mambamia_cli.pipeline.answer import Answer, Reply
from mambamia_cli.pipeline.engine import Models
from mambamia_cli.pipeline.sightings import Sightings
from mambamia_cli.records import Evidence, timecode

ABSENT = 0.05
"""Chance that a thing is there below which a question of its time is answered that it is not seen."""

THERE = 0.5
"""Chance from which a thing counts as there where how often or how long it is seen is asked."""


def of_one(intent: Intent, seen: Sightings, models: Models, choices: Sequence[str] | None) -> Reply | None:
    """A question about one thing, or about the order of two; None where what is seen does not say."""
    if intent.kind == "when":
        return when(intent, seen, models, choices)
    if intent.kind in ("exists", "order"):
        return yes_or_no(intent, seen, models, choices)
    if intent.kind in ("times", "duration", "number"):
        return measured(intent, seen, models, choices)
    return None


def when(intent: Intent, seen: Sightings, models: Models, choices: Sequence[str] | None) -> Reply:
    """When a thing is seen: the start of its best stretch, of its first or last one, or the end of that, as was asked."""
    chance = float(seen.presence[0])
    ranges = sightings.found(seen, models, 0) or sightings.found(seen, models, 0, least=0.0, most=1)
    if not ranges or (chance < ABSENT and not choices):  # among times that are offered, a guess is what is asked for
        return Reply(read_off("not seen"), None, (), 1 - chance)
    told = ranges[0] if intent.edge is None else (min if intent.edge == "first" else max)(ranges, key=lambda r: r.start)
    ranges = (told, *(r for r in ranges if r is not told))
    moment = told.end if intent.edge == "end" else told.start
    near = ordering.closest(choices or (), moment)
    return Reply(read_off(f"at {sightings.clock(moment)}" if near is None else choices[near]), None, ranges, chance)


def yes_or_no(intent: Intent, seen: Sightings, models: Models, choices: Sequence[str] | None) -> Reply:
    """Whether a thing is there, or comes before another."""
    chance = ordering.order(seen) if intent.kind == "order" else float(seen.presence[0])
    yes, no = affirmation(tuple(choices or ())) or ("yes", "no")
    listed = tuple(sorted(((yes, round(chance, 4)), (no, round(1 - chance, 4))), key=lambda pair: -pair[1]))
    answer = Answer(listed[0][0], "evidence", 0.0, choices=listed if choices else None)
    ranges = [r for word in range(len(seen.words)) for r in sightings.found(seen, models, word, most=5)]
    shown = chance >= 0.5 or intent.kind == "order"
    return Reply(answer, None, _best_first(ranges) if shown else (), max(chance, 1 - chance))


def measured(intent: Intent, seen: Sightings, models: Models, choices: Sequence[str] | None) -> Reply | None:
    """How often a thing appears ("times"), for how long it is seen ("duration"), or how many of it there are ("number"): of the last no
    more is known than whether there is one, since two in one frame are not told apart. None where the choices are no numbers, or
    where more would have to be known."""
    chance = float(seen.presence[0])
    ranges = sightings.appearances(seen, models, 0) if chance >= THERE else ()
    amount = sum(r.end - r.start for r in ranges) if intent.kind == "duration" else len(ranges)
    sure = chance if ranges else 1 - chance
    if intent.kind == "number":
        sure = None if ranges else sure
        if choices and (ranges or 0 not in map(ordering.number, choices)):
            return None
    if choices:
        near = ordering.closest(choices, amount) if intent.kind == "duration" else ordering.nearest_number(choices, amount)
        return None if near is None else Reply(read_off(choices[near]), None, ranges, sure)
    absent = {"times": "never", "duration": "not seen", "number": "none seen"}[intent.kind]
    told = {"times": _often(len(ranges)), "duration": f"about {max(1, round(amount))} s", "number": "at least one"}[intent.kind]
    return Reply(read_off(told if ranges else absent), None, ranges, sure)


def colour(intent: Intent, seen: Sightings, shares: np.ndarray, models: Models, choices: Sequence[str] | None) -> Reply | None:
    """What colour a thing has, or whether it has one, from what pipeline/colour.py found, (11,); None where the choices are no colours.
    Shares are told as chances: of 38 drawings in 40 held-out videos, with 0.6 and more 25 of 26 were right, with 0.4 to 0.6 6 of 11."""
    chance = float(seen.presence[0])
    ranges = sightings.found(seen, models, 0) if chance >= THERE else ()
    if intent.kind == "coloured":
        wanted = colours.words_of(intent.about or "")
        if wanted is None:
            return None
        yes, no = affirmation(tuple(choices or ())) or ("yes", "no")
        sure = chance * float(shares[wanted] / max(shares.max(), 1e-9))
        told = max(sure, 1 - sure) if chance < THERE else chance * float(shares.sum()) * max(sure, 1 - sure)
        return Reply(read_off(yes if sure >= THERE else no), None, ranges if sure >= THERE else (), told)
    if not choices:
        if not ranges:
            return Reply(read_off("not seen"), None, (), 1 - chance)
        return Reply(read_off(colours.COLOURS[int(shares.argmax())]), None, ranges, chance * float(shares.max()))
    places = [colours.words_of(choice) for choice in choices]
    if None in places:
        return None
    offered = shares[places] + 1e-3
    listed = tuple(sorted(zip(choices, (offered / offered.sum()).round(4).tolist(), strict=True), key=lambda pair: -pair[1]))
    return Reply(Answer(listed[0][0], "evidence", 0.0, choices=listed), None, ranges, chance * float(shares.sum()) * listed[0][1])


def surveyed(intent: Intent, things: Sequence[ordering.Named]) -> Reply | None:
    """A question that names nothing to choose among, from all that is recognised; None where that does not say."""
    text = ordering.told(intent, [thing.name for thing in things])
    if text is None:
        return None
    # Of a list or a number nothing says how likely it is to be whole: what is named is mostly there, but not all is named.
    sure = None if intent.kind in ("list", "count") else next(t.chance for t in things if t.name == text)
    return Reply(read_off(text), None, _ranges(things), sure)


def counted(things: Sequence[ordering.Named], choices: Sequence[str]) -> Reply | None:
    """Which of the choices is the number of things recognised; None where nothing is, or one is no number."""
    scores = ordering.count_among(choices, [thing.chance for thing in things])
    if not things or scores is None:
        return None
    listed = tuple(sorted(((text, round(math.exp(s), 4)) for text, s in zip(choices, scores, strict=True)), key=lambda pair: -pair[1]))
    return Reply(Answer(listed[0][0], "evidence", 0.0, choices=listed), None, _ranges(things), None)


def untold(things: Sequence[ordering.Named], asked: Sightings | None, models: Models) -> Reply:
    """In place of an answer, where frames do not decide: when the things that the question names are seen (`asked`), else what is recognised."""
    if asked is None:
        known = f"what I can name is {ordering.joined([t.name for t in things])}" if things else "there is nothing I can name"
        return Reply(Answer(f"I cannot tell; {known}", "unknown", 0.0), None, _ranges(things), 0.0, guess=True)
    found = [sightings.found(asked, models, w) if asked.presence[w] >= THERE else () for w in range(len(asked.words))]
    parts = [f"the {word} is seen at {sightings.clock(spots[0].start)}" if spots else f"no {word} is seen" for word, spots in zip(asked.words, found, strict=True)]
    return Reply(Answer(f"I cannot tell; {ordering.joined(parts)}", "unknown", 0.0), None, _best_first([r for spots in found for r in spots]), 0.0, guess=True)


def nothing() -> Reply:
    """For a question of what there is to see, where nothing is recognised."""
    return Reply(read_off(ordering.NOTHING), None, (), None)


def outside(start: float, end: float) -> Reply:
    """For a question about a part of the video that was not looked at, or does not exist; seconds that were."""
    return Reply(read_off(f"I looked at {sightings.clock(start)} to {sightings.clock(end)} only"), None, (), None)


def read_off(text: str) -> Answer:
    """An answer that no model wrote."""
    return Answer(text, "evidence", 0.0)


def _often(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _ranges(things: Sequence[ordering.Named]) -> tuple[Evidence, ...]:
    return _best_first([Evidence(round(t.start, 3), round(t.end, 3), timecode(t.start), round(t.chance, 4)) for t in things])


def _best_first(ranges: Sequence[Evidence]) -> tuple[Evidence, ...]:
    return tuple(sorted(ranges, key=lambda r: -r.score))
