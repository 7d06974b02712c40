"""Questions about what appears when, phrased many ways, with their answers: what the tune stage and the evaluation ask.

A timeline is what is known of a video: each name's sampled frames, in order. Where the truth is a tie (two drawings
enter together) the question is not asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mambamia_cli.language.prompt import SUMMARY_QUESTION, TITLE_QUESTION

KINDS = ("appear", "first", "last", "before", "after", "exists", "count", "order", "list", "show", "title", "summary")

APPEAR = ("Which of these appears in the video?", "Which of these can be seen?", "Which one is shown in the video?",
          "One of these is in the video. Which?", "What appears in the video?")
FIRST = ("What appears first?", "Which of these appears first?", "What is the first thing to appear in the video?",
         "Which one comes first?", "Who or what enters first?", "Which object is shown first?")
LAST = ("What appears last?", "Which of these appears last?", "What is the last thing to appear in the video?",
        "Which one comes last?", "Which object is shown last?")
BEFORE = ("Which appears before the other, {a} or {b}?", "Which appears first, the {a} or the {b}?", "What comes earlier: {a} or {b}?",
          "Does the {a} or the {b} appear first?", "Of {a} and {b}, which is shown first?", "Which appears before the other?")
AFTER = ("What appears after the {a}?", "What comes next after the {a}?", "Which object follows the {a}?", "What is shown right after the {a}?")
EXISTS = ("Is there a {a} in the video?", "Does a {a} appear?", "Can a {a} be seen in the video?", "Is a {a} shown?", "Do you see a {a}?")
COUNT = ("How many different objects appear?", "How many different things appear in the video?", "Count the objects that appear.")
ORDER = ("List the objects in the order they appear.", "In what order do the objects appear?", "Name the objects in order of appearance.")
LIST = ("What objects appear in the video?", "Which objects can be seen?", "Name the objects in the video.")
SHOW = ("What does the video show?", "What can be seen?", "What is in the video?", "What is this video about?")
TITLE = (TITLE_QUESTION,)
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class Question:
    """`options` are to be shown with the question, or empty; `answer` is one of them where there are any."""

    kind: str
    text: str
    answer: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Timeline:
    """`frames` {name: sorted indexes of sampled frames it is on}; `labels` names of what the footage itself shows."""

    frames: dict[str, tuple[int, ...]]
    labels: tuple[str, ...] = ()

    def by_start(self) -> list[str]:
        return sorted(self.frames, key=lambda n: self.frames[n][0])

    def starts(self) -> list[int]:
        return sorted(f[0] for f in self.frames.values())


def joined(names: Sequence[str], last: str = "and") -> str:
    """"a", "a and b", "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"


def _pick(rng, phrasings: Sequence[str]) -> str:
    return phrasings[int(rng.integers(len(phrasings)))]


def _options(rng, answer: str, others: Sequence[str], count: int = 4) -> tuple[str, ...]:
    chosen = [answer, *(str(o) for o in rng.choice([o for o in others if o != answer], count - 1, replace=False))]
    return tuple(chosen[i] for i in rng.permutation(len(chosen)))


def ask(rng, kind: str, timeline: Timeline, names: Sequence[str]) -> Question | None:
    """A random question of a kind, or None where the timeline gives it no single answer. `names`: every possible name."""
    order, starts = timeline.by_start(), timeline.starts()
    absent = [n for n in names if n not in timeline.frames]
    tie_first, tie_last = starts[:2].count(starts[0]) > 1 if starts else True, starts[-2:].count(starts[-1]) > 1 if starts else True
    if kind in ("show", "title", "summary"):
        return _describe(rng, kind, timeline, order)
    if kind == "exists":
        yes = bool(order) and rng.random() < 0.5
        text = _pick(rng, EXISTS).format(a=_pick(rng, order if yes else absent))
        return Question(kind, text, "yes" if yes else "no", ("yes", "no") if rng.random() < 0.3 else ())
    if kind == "count":
        return Question(kind, _pick(rng, COUNT), NUMBERS[min(len(order), 10)])
    if not order or len(set(starts)) < len(starts) and kind in ("order", "before", "after"):
        return None
    if kind == "appear":
        answer = _pick(rng, order)
        return Question(kind, _pick(rng, APPEAR), answer, _options(rng, answer, absent))
    if kind in ("first", "last"):
        if len(order) < 2 or (tie_first if kind == "first" else tie_last):
            return None
        answer = order[0] if kind == "first" else order[-1]
        text = _pick(rng, FIRST if kind == "first" else LAST)
        if rng.random() < 0.4 and "these" not in text:
            return Question(kind, text, answer)
        rest = [n for n in order if n != answer]
        shown = rest if len(rest) <= 3 else [str(n) for n in rng.choice(rest, 3, replace=False)]
        fill = [str(n) for n in rng.choice(absent, 3 - len(shown), replace=False)] if len(shown) < 3 else []
        return Question(kind, text, answer, _options(rng, answer, [*shown, *fill]))
    if kind in ("before", "after"):
        if len(order) < 2:
            return None
        i = int(rng.integers(len(order) - 1))
        if kind == "after":
            return Question(kind, _pick(rng, AFTER).format(a=order[i]), order[i + 1])
        j = int(rng.integers(i + 1, len(order)))
        pair = (order[i], order[j]) if rng.random() < 0.5 else (order[j], order[i])
        text = _pick(rng, BEFORE)
        options = pair if "{a}" not in text or rng.random() < 0.5 else ()
        return Question(kind, text.format(a=pair[0], b=pair[1]), order[i], options)
    return Question(kind, _pick(rng, ORDER if kind == "order" else LIST), joined(order)) if kind in ("order", "list") else None


def _describe(rng, kind: str, timeline: Timeline, order: Sequence[str]) -> Question | None:
    seen = [*order, *(n for n in timeline.labels if n not in order)][:4]
    if not seen:
        return Question(kind, _pick(rng, SHOW if kind == "show" else TITLE), "nothing I can name") if kind != "summary" else None
    if kind == "show":
        return Question(kind, _pick(rng, SHOW), joined(seen))
    if kind == "title":
        return Question(kind, TITLE[0], joined(seen[:2]))
    first, *rest = seen
    text = f"The video shows {first}" + "".join(f", then {n}" for n in rest) + "."
    return Question(kind, SUMMARY_QUESTION.format(titles="\n".join(f"- {name}" for name in seen)), text)
