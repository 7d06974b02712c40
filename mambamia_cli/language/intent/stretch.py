"""The part of a video that a question is about: "at 0:15", "between 10 and 20 seconds", "in the last minute", "in the second half"."""

import re
from dataclasses import dataclass

AROUND = 1.0
"""Seconds on each side of a moment that is asked about."""

_NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12,
            "fifteen": 15, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "ninety": 90, "half a": 0.5, "a": 1}  # fmt: skip
_PARTS = {"half": 2, "third": 3, "quarter": 4}

_COUNT = rf"(?:\d+(?:\.\d+)?|{'|'.join(_NUMBERS)})"
_UNIT = r"(?:hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s)\b"
_CLOCK = r"\d+:\d\d(?::\d\d)?(?:\.\d+)?(?!\w)"
_SHORT = r"\d+h(?:\d+m)?(?:\d+s)?|\d+m\d+s"
_TIME = rf"(?:the )?(?:{_CLOCK}|{_SHORT}|{_COUNT}[ -]?{_UNIT}(?:,? (?:and )?{_COUNT}[ -]?{_UNIT})*|(?:second|minute) \d+(?:\.\d+)?)"
_VIDEO = r"(?:it|(?:the|this) (?:video|clip|film|movie|footage|recording))"
_MARK = rf"(?: (?:mark|point))?(?: in(?:to)?(?: {_VIDEO})?)?"
_OF = rf"(?: (?:of|in) {_VIDEO})?"
_EITHER = rf"(?:{_TIME}|\d+(?:\.\d+)?)"  # where the other one has the unit

_PATTERNS = [(re.compile(rf"(?<!\w){pattern}(?!\w)", re.IGNORECASE), kind) for kind, pattern in (
    ("between", rf"(?:between|from) ({_EITHER}) (?:and|to|until|till|through) ({_TIME}){_MARK}"),
    ("between", rf"(?:in |during |at )?({_CLOCK}) ?[-\u2013] ?({_CLOCK})"),
    ("first", rf"(?:in|during|within|for|over) the (?:very )?first ({_COUNT} {_UNIT}|minute|second|hour){_OF}"),
    ("last", rf"(?:in|during|within|for|over) the (?:very )?(?:last|final) ({_COUNT} {_UNIT}|minute|second|hour){_OF}"),
    ("part", rf"(?:in|during|within) the (first|second|third|last|final|middle) (half|third|quarter){_OF}"),
    ("after", rf"(?:after|since|later than|from) ({_TIME}){_MARK}(?: on(?:wards)?)?"),
    ("before", rf"(?:before|until|till|up to|earlier than|within) ({_TIME}){_MARK}"),
    ("at", rf"(?:right |exactly )?(?:at|around|about|near|on) (?:about |around |roughly |exactly )?({_TIME}){_MARK}"),
    ("at", rf"(?:exactly |roughly )?({_TIME}) in(?:to)?(?: {_VIDEO})?"),
)]  # fmt: skip


@dataclass(frozen=True)
class Stretch:
    """From `start` to `end`, None where it is open: seconds from the beginning of the video or, where `back`, from its end, below
    zero; where `share`, parts of its length."""

    start: float | None
    end: float | None
    back: bool = False
    share: bool = False

    def within(self, begin: float, end: float) -> tuple[float, float]:
        """-> seconds (from, to) of a video looked at from `begin` to `end`; nothing where it lies outside (from >= to)."""

        def moment(value: float | None, open_at: float) -> float:
            if value is None:
                return open_at
            return begin + value * (end - begin) if self.share else (end if self.back else 0.0) + value

        return max(begin, moment(self.start, begin)), min(end, moment(self.end, end))


def cut(question: str) -> tuple[str, Stretch | None]:
    """-> the question without the words that say which part of the video is meant, and that part; None where none is named, or
    more than one."""
    rest, found = question, []
    for pattern, kind in _PATTERNS:
        while match := pattern.search(rest):
            stretch = _stretch(kind, match.groups())
            if stretch is None:
                break
            found.append(stretch)
            rest = f"{rest[: match.start()].rstrip()} {rest[match.end() :].lstrip()}"
    return (re.sub(r"^[\s,]+|\s+(?=[,.?!])", "", rest).strip(), found[0]) if len(found) == 1 else (question, None)


def _stretch(kind: str, parts: tuple[str, ...]) -> Stretch | None:
    if kind == "part":
        return _part(*(part.lower() for part in parts))
    unit = re.search(_UNIT, parts[-1].lower())
    bare = f" {unit.group()}" if unit else " s"  # "from 10 to 20 seconds"
    times = [_seconds(part + bare if re.fullmatch(r"[\d.]+", part) else part) for part in parts]
    if None in times:
        return None
    if kind == "between":
        return Stretch(times[0], times[1])
    at = times[0]
    return {"first": Stretch(0.0, at), "last": Stretch(-at, None, back=True), "after": Stretch(at, None), "before": Stretch(0.0, at),
            "at": Stretch(max(0.0, at - AROUND), at + AROUND)}[kind]  # fmt: skip


def _part(which: str, of: str) -> Stretch | None:
    count = _PARTS[of]
    at = {"first": 0, "second": 1, "third": 2, "last": count - 1, "final": count - 1, "middle": 1 if count == 3 else None}[which]
    return None if at is None or at >= count else Stretch(at / count, (at + 1) / count, share=True)


def _seconds(text: str) -> float | None:
    """"0:15", "20 s", "1h2m3s", "a minute and ten seconds", "minute 2" -> seconds; None for what is no time."""
    text = text.lower().removeprefix("the ")
    if named := re.fullmatch(r"(second|minute) (\d+(?:\.\d+)?)", text):
        return float(named.group(2)) * (60 if named.group(1) == "minute" else 1)
    if text in ("second", "minute", "hour"):
        text = f"1 {text}"
    if ":" in text:
        *larger, smallest = map(float, text.split(":"))
        if smallest >= 60 or any(part >= 60 for part in larger[1:]):
            return None
        return sum(part * 60**power for power, part in enumerate((smallest, *reversed(larger))))
    counts = re.findall(rf"({_COUNT})[ -]?(h|m|s)", text)
    return sum(float(_NUMBERS.get(count, count)) * {"h": 3600, "m": 60, "s": 1}[unit] for count, unit in counts)
