"""Times as a person types them: 95, 95.5, 1:35, 1:02:03.5, 1h2m3s; a bare number is seconds. Lengths of time and frame rates, too."""

import re
from fractions import Fraction

from ..errors import UsageError

_NUMBER = r"\d+(?:\.\d*)?|\.\d+"
_COLONS = re.compile(rf"(?:(?P<h>\d+):)?(?P<m>\d+):(?P<s>{_NUMBER})", re.ASCII)
_UNITS = re.compile(rf"(?:(?P<h>{_NUMBER})h)?(?:(?P<m>{_NUMBER})m)?(?:(?P<s>{_NUMBER})s)?", re.IGNORECASE | re.ASCII)


def parse_time(text: str) -> Fraction:
    """Seconds, exact, from 95 | 95.5 | 1:35 | 1:02:03.5 | 1h2m3s (any unit may be left out, in this order).

    In the colon form, minutes stay below 60 when hours are given and seconds stay below 60 always.
    Raises UsageError for anything else, negative times included.
    """
    word = text.strip()
    if re.fullmatch(_NUMBER, word, re.ASCII):
        return Fraction(word)
    if match := _COLONS.fullmatch(word):
        hours, minutes, seconds = int(match["h"] or 0), int(match["m"]), Fraction(match["s"])
        if seconds < 60 and (match["h"] is None or minutes < 60):
            return hours * 3600 + minutes * 60 + seconds
    elif word and (match := _UNITS.fullmatch(word)):
        hours, minutes, seconds = (Fraction(match[unit] or 0) for unit in "hms")
        return hours * 3600 + minutes * 60 + seconds
    raise UsageError(f"'{text}' is not a time", "write it as 95, 95.5, 1:35, 1:02:03.5 or 1h2m3s")


def parse_rate(text: str, flag: str = "--fps") -> Fraction | None:
    """"2", "0.5", "30000/1001" -> frames a second; "all" -> None, every frame.

    Raises:
        UsageError: it is none of these or not positive.
    """
    if text.strip().lower() == "all":
        return None
    try:
        rate = Fraction(text.strip())
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if rate <= 0 or rate > 1000:
        raise UsageError(f"{flag} {text} is not a frame rate", "give a number above 0 and up to 1000, such as 2 or 0.5, or 'all'")
    return rate


def parse_length(text: str, flag: str) -> float:
    """A length of time, "0.6", "0.6s" or "1:30" -> seconds."""
    try:
        return float(parse_time(text))
    except UsageError as error:
        raise UsageError(f"{flag} {text} is not a length of time", "give seconds, such as 0.6 or 0.6s") from error
