"""What kind of question was asked, where that is plain from its wording. Everything else is the language model's.

    when     at what time, when, how many seconds into the video
    exists   is there a, does a ... appear, can a ... be seen: to be answered yes or no
    first    first, earliest; "before the other" between two things
    last     last, latest, at the end; "after the other"
    appear   which of these appears, is shown, can be seen
"""

import re
from dataclasses import dataclass

WHEN = re.compile(r"^\W*(at|on|in|around|from)?\s*(what|which)\s+(exact\s+)?(time|second|moment|minute|point|timestamp)|^\W*when\b"
                  r"|\bhow (many seconds|many minutes|long|far|late) (in|into|does it take|until|till|before)\b", re.IGNORECASE)  # fmt: skip
EXISTS = re.compile(r"^\W*(is|are|was|were) there\b|^\W*(is|are|was|were|does|do|did|can|could|has|have)\s.*"
                    r"(appear|shown?|seen|visible|see\b|featured?|occur|turn up|show up|in (this|the) (video|film|clip)|present)", re.IGNORECASE)
OTHER = re.compile(r"\b(before|earlier than|sooner than|after|later than) the others?\b", re.IGNORECASE)
EARLY = re.compile(r"\b(first|earliest|initially|earlier|sooner)\b", re.IGNORECASE)
LATE = re.compile(r"\b(last|latest|finally|later)\b|\bat the (very )?end\b", re.IGNORECASE)
BESIDE = re.compile(r"\b(before|after|between|next|until|while|during|second|third|colou?r|how many|how often|longest)\b", re.IGNORECASE)
APPEAR = re.compile(r"\b(appears?|seen|shown?|visible|present|contains?|in (this|the) (video|film|clip)|see)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Intent:
    """`kind` as in the module's table, or None; `things`: what the answer is about or chosen among."""

    kind: str | None
    things: tuple[str, ...] = ()


def read(question: str, named: list[str], choices: tuple[str, ...] = ()) -> Intent:
    """`named`: words of the lexicon in the question; `choices`: the answers offered."""
    text = question.strip()
    offered = tuple(c for c in choices if c.strip().lower() not in ("yes", "no"))
    yes_no = bool(choices) and not offered
    if WHEN.search(text) and not offered:
        return Intent("when", tuple(named))
    if yes_no or (not choices and EXISTS.search(text) and " or " not in text):
        return Intent("exists", tuple(named)) if len(named) == 1 and EXISTS.search(text) and not _ordered(text) else Intent(None)
    things = offered or tuple(named)
    if len(things) < 2:
        return Intent(None)
    other = OTHER.search(text)
    if other:
        return Intent("last" if other.group(1).lower().startswith(("after", "later")) else "first", things)
    if BESIDE.search(text) or (offered and set(named) - {c.strip().lower() for c in offered}):
        return Intent(None)  # "after the cat": about a thing that is not to be chosen
    if EARLY.search(text):
        return Intent("first", things)
    if LATE.search(text):
        return Intent("last", things)
    return Intent("appear", things) if offered and APPEAR.search(text) else Intent(None)


def _ordered(text: str) -> bool:
    return bool(EARLY.search(text) or LATE.search(text) or BESIDE.search(text))
