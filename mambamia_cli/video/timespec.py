"""Times as a person types them: 95, 95.5, 1:35, 1:02:03.5, 1h2m3s. A bare number is seconds."""

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
