"""What kind of question was asked, where that is plain from its wording. Everything else is the language model's.

    when     at what time, when, how many seconds into the video
    exists   is there a, does a ... appear, can a ... be seen: to be answered yes or no
    first    first, earliest; "before the other" between two things
    last     last, latest, at the end; "after the other"
    appear   which of these appears, is shown, can be seen
    absent   which of these does not appear
    order    does one thing come before another: to be answered yes or no
    after    what appears right after a thing; `before`: right before it
    list     name what appears, in order
    count    how many different things appear
    number   how many of one thing there are: how many cats
    times    how often one thing appears
    duration how long one thing can be seen
    length   how long the video is
    colour   what colour a thing has
    coloured is a thing of a colour, is there one of a colour: to be answered yes or no

A part of the video may be named beside any of these ("at 0:15", "in the last minute": intent/stretch.py).

A question is read in two steps. `skeleton` rewrites it with few words: those that make the wording (SAME, PHRASES) become
one word for each meaning, and every run of other words, which must name a thing, becomes X; "Does the old bus come after a
blue car, in this film?" is "do X after X". The patterns of the kinds are then short, and a thing needs no lexicon to be found.
A word that belongs to no wording known here makes an X too many, and the question is the language model's.
"""

import re
from dataclasses import dataclass, replace

from mambamia_cli.language.intent.bones import Phrase, known, skeleton
from mambamia_cli.language.intent.patterns import fits
from mambamia_cli.language.intent.stretch import Stretch, cut
from mambamia_cli.language.intent.words import COLOURS, NO_SORT, NO_THING

OF_ONE = ("number", "times", "duration", "colour")
"""Kinds that ask how much there is of one thing, or what it is like."""

YES, NO = {"yes", "y", "true", "correct", "right"}, {"no", "n", "false", "incorrect", "wrong"}


@dataclass(frozen=True)
class Intent:
    """`kind` as in the module's table, or None; `things`: what the answer is about or chosen among (none: it is open).

    `about`: of "after" and "before" the thing that is not to be chosen, of "coloured" the colour. `edge` of "when": "first" or "last" time, or "end"
    where it is asked when something is seen no more. The things of "order" are turned so that "yes" means the first comes first.
    `stretch`: the part of the video that is meant, None = all of it.
    """

    kind: str | None
    things: tuple[str, ...] = ()
    about: str | None = None
    edge: str | None = None
    stretch: Stretch | None = None


def read(question: str, named: list[str], choices: tuple[str, ...] = ()) -> Intent:
    """`named`: words of the lexicon in the question; `choices`: the answers offered."""
    rest, stretch = cut(question)
    intent = _read(rest, named, choices)
    return intent if stretch is None or intent.kind is None else replace(intent, stretch=stretch)


def _read(question: str, named: list[str], choices: tuple[str, ...]) -> Intent:
    bones, phrases = skeleton(question)
    things = [known(phrase, named) for phrase in phrases]
    closed, offered = bool(choices) and affirmation(choices) is not None, tuple(choices)
    if bones.startswith("when"):
        return _when(bones, phrases, things, named, offered)
    if bones.startswith("howlong") and fits("length", bones):
        return Intent("length")
    if len(things) == 1 and (kind := next((k for k in OF_ONE if fits(k, bones)), None)):
        thing = known(phrases[0]._replace(plural=kind == "number"), named)
        return Intent(None) if thing in (NO_SORT | NO_THING) - set(named) else Intent(kind, (thing,))
    if closed or not choices:
        said = _yes_or_no(bones, phrases, things, named, closed)
        if closed or said.kind:
            return said
    return _chosen(bones, things, offered)


def _when(bones: str, phrases: list[Phrase], things: list[str], named: list[str], choices: tuple[str, ...]) -> Intent:
    """Of several things the first is whose time is asked. Among answers that are no times the language model chooses."""
    if any(not re.search(r"\d", choice) for choice in choices):
        return Intent(None)
    words = bones.split()
    edge = "end" if "gone" in words else next((w for w in words if w in ("first", "last")), None)
    if things and (verb := re.match(r"when(?: there| first| last)*( do| be| can| have)? X(?! (?:seen|appear|gone|here|first|last|can|be))", bones)):
        things = [_doer(phrases[0], things[0], verb.group(1) == " do", named)]
    return Intent("when", tuple(things[:1]), edge=edge)


def _doer(phrase: Phrase, thing: str, infinitive: bool, named: list[str]) -> str:
    """Who does what in "(when does) the old dog bark", whose verb is not known here."""
    words = phrase.text.split()
    if thing in named or len(words) < 2:
        return thing
    for end in range(len(words) - 1, 0, -1):
        if (thing := known(Phrase(" ".join(words[:end])), named)) in named:
            return thing
    return " ".join(words[:-1]) if infinitive or words[-1].endswith(("s", "ing")) else thing


def _yes_or_no(bones: str, phrases: list[Phrase], things: list[str], lexicon: list[str], closed: bool) -> Intent:
    def asked(kind: str) -> bool:
        return fits(kind, bones) or (closed and fits(f"{kind}, yes or no", bones))

    if asked("order") and len(things) == 2:
        return Intent("order", tuple(things if "before" in bones.split() else reversed(things)))
    if len(things) != 1 or not (fits("coloured", bones) or asked("exists")):
        return Intent(None)
    words = set(phrases[0].text.split())
    if (words - ({things[0]} & set(lexicon))) & NO_THING:  # "two dogs", but a camera is a thing as well
        return Intent(None)
    if named := words & COLOURS:  # "a red car": that there is a car does not answer it
        rest = phrases[0]._replace(text=" ".join(w for w in phrases[0].text.split() if w not in named))
        return Intent("coloured", (known(rest, lexicon),), about=named.pop()) if len(named) == 1 and rest.text else Intent(None)
    return Intent("exists", tuple(things)) if asked("exists") else Intent(None)


def _chosen(bones: str, things: list[str], choices: tuple[str, ...]) -> Intent:
    """Kinds that choose among things, those offered or those that the question names as alternatives; or that are open."""
    among = choices
    if not choices:  # of events nothing is known here, but of what appears meanwhile
        bones = " ".join("appear" if w == "happen" else w for w in bones.split())
    if "ALT" in bones or ("BOTH" in bones and "which" in bones):  # "the cat or the dog": all the things named, or the question is about more than a choice
        if "X" in bones or (choices and {t.lower() for t in things} - {c.strip().lower() for c in choices}):
            return Intent(None)
        among, bones = choices or tuple(things), " ".join(w for w in bones.split() if w not in ("ALT", "BOTH", "with"))
        bones = bones if bones.startswith("which") else f"which {bones}"
        things = []
    elif not choices and things and fits("after", bones):
        return Intent("after" if " after " in f" {bones} " else "before", (), about=things[-1])
    if things and bones.startswith("which X") and choices and things[0] not in NO_SORT:
        bones, things = bones.replace("which X", "which", 1), things[1:]  # "which animal": what the choices are
    words = bones.split()
    if len(things) == 1 and among and fits("after", bones):
        return Intent("after" if "after" in words else "before", among, about=things[0])
    if things:
        return Intent(None)
    if among and fits("absent", bones):
        return Intent("absent", among)
    edges = {w for w in words if w in ("first", "last")}
    if len(edges) == 1 and (words[0] in ("which", "list") or among):
        rest = " ".join(w for w in words if w not in edges)
        if fits("appear", f"{rest} appear" if rest.startswith(("which", "list")) else f"which {rest} appear"):
            return Intent(edges.pop(), among)
    if not among:
        return Intent(next((kind for kind in ("count", "list") if fits(kind, bones)), None))
    if fits("count", bones):
        return Intent("count", choices)
    return Intent("appear", among) if fits("appear", bones) and len(among) > 1 else Intent(None)


def affirmation(choices: tuple[str, ...]) -> tuple[str, str] | None:
    """The choices that mean yes and no, as they are written, if there are these two and no other."""
    plain = {choice.strip().lower().rstrip(".!"): choice for choice in choices}
    if len(plain) != 2 or not (yes := YES & set(plain)) or not (no := NO & set(plain)):
        return None
    return plain[yes.pop()], plain[no.pop()]
