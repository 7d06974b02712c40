"""What a job may say: every setting once, the commands that take it, and the check that gives its value one form."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from mambamia_cli.asked import check_choices
from mambamia_cli.errors import UsageError
from mambamia_cli.records import LEVELS
from mambamia_cli.video.timespec import parse_length, parse_rate, parse_time

COMMANDS = ("ask", "scenes", "summarize", "find")


@dataclass(frozen=True)
class Setting:
    """`check` takes what was written, which `shown` names for people, to the one form that is hashed and sent to the worker. It
    raises UsageError."""

    check: Callable[[Any, str], Any]
    commands: tuple[str, ...] = COMMANDS


def _refuse(shown: str, wanted: str) -> UsageError:
    return UsageError(f"{shown} is not {wanted}")


def text(value: Any, shown: str) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise _refuse(shown, "a text")
    return value


def _texts(value: Any, shown: str) -> list[str]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not listed or not all(isinstance(one, str) and one.strip() for one in listed):
        raise _refuse(shown, "a text or a list of texts, none of them empty")
    return listed


def _choices(value: Any, shown: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise _refuse(shown, "a list of different choices")
    return list(check_choices(value, shown))


def _whole(least: int) -> Callable[[Any, str], int]:
    def check(value: Any, shown: str) -> int:
        if type(value) is not int or value < least:  # True is an int, too
            raise _refuse(shown, f"a whole number from {least} on")
        return value

    return check


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _threshold(value: Any, shown: str) -> float:
    if not _is_number(value) or value < 0:
        raise _refuse(shown, "a number from 0 on")
    return float(value)


def _flag(value: Any, shown: str) -> bool:
    if type(value) is not bool:
        raise _refuse(shown, "true or false")
    return value


def _level(value: Any, shown: str) -> str:
    if value not in LEVELS:
        raise _refuse(shown, f"one of {', '.join(LEVELS)}")
    return value


def _parsed(parse: Callable[[str], Any], wanted: str) -> Callable[[Any, str], str]:
    """Numbers and texts that `parse` takes come to the same text for the same value: 2, 2.0 and "2"."""

    def check(value: Any, shown: str) -> Any:
        try:
            if isinstance(value, str) or _is_number(value):
                return parse(str(value))
        except UsageError:
            pass
        raise _refuse(shown, wanted)

    return check


def _rate(written: str) -> str:
    rate = parse_rate(written)
    return "all" if rate is None else str(rate)


def _moment(written: str) -> str:
    seconds = parse_time(written)  # of decimals and whole factors, so that it has an end in decimals, too
    return format(Decimal(seconds.numerator) / Decimal(seconds.denominator), "f")


_TIME = "a time such as 95, 95.5 or 1:35"
_MARKED, _SPOKEN = ("scenes", "summarize"), ("ask", "summarize")

SETTINGS: dict[str, Setting] = {
    "questions": Setting(_texts, ("ask",)),
    "choices": Setting(_choices, ("ask",)),
    "queries": Setting(_texts, ("find",)),
    "threshold": Setting(_threshold, _MARKED),
    "min_scene_len": Setting(_parsed(lambda written: parse_length(written, ""), "a length of time such as 0.6 or 0.6s"), _MARKED),
    "level": Setting(_level, ("scenes",)),
    "refine": Setting(_flag, ("scenes",)),
    "fps": Setting(_parsed(_rate, "a frame rate above 0 and up to 1000, or 'all'")),
    "start": Setting(_parsed(_moment, _TIME)),
    "end": Setting(_parsed(_moment, _TIME)),
    "max_frames": Setting(_whole(1)),
    "video_track": Setting(_whole(0)),
    "token_budget": Setting(_whole(1), _SPOKEN),
    "max_tokens": Setting(_whole(1), _SPOKEN),
}

SINGULAR = {"question": "questions", "query": "queries"}
"""One of a list may be written alone."""
NEEDED = {"ask": ("questions", '"question"'), "find": ("queries", '"query"')}
"""What a command cannot do without."""
