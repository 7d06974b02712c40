"""Chapter lists: ffmpeg's metadata file, OGM's CHAPTERxx lines, WebVTT, and a YouTube description's.

Times are a player's: seconds from the beginning of the file.
"""

import re
from collections.abc import Sequence
from fractions import Fraction
from math import lcm

from mambamia_cli.records import ScenesRecord
from mambamia_cli.scenes.formats import Written
from mambamia_cli.scenes.formats.moments import Span, clock, milliseconds, one_line, shown

_FINEST_BASE = 1 << 30
"""libav keeps a time base's parts in 32 bits."""

YOUTUBE_SHORTEST, YOUTUBE_FEWEST = 10, 3
"""Seconds of a chapter, and chapters of a video, below which YouTube shows none of them."""


def ffmetadata(record: ScenesRecord) -> Written:
    """For `ffmpeg -i VIDEO -i FILE -map 0 -map_chapters 1 -codec copy OUT`. Exact: the time base divides every time."""
    scenes = shown(record)
    base = lcm(*(moment.denominator for one in scenes for moment in (one.start, one.end)))
    base = base if base <= _FINEST_BASE else 1_000_000
    lines = [";FFMETADATA1"]
    for one in scenes:
        start, end = (int(moment * base + Fraction(1, 2)) for moment in (one.start, one.end))
        lines += ["[CHAPTER]", f"TIMEBASE=1/{base}", f"START={start}", f"END={end}", f"title={_escaped(one.title)}"]
    return "\n".join(lines) + "\n", []


def _escaped(text: str) -> str:
    """Line breaks stay, escaped; other control characters go."""
    lines = "\n".join(one_line(line) for line in text.splitlines())
    return re.sub(r"([=;#\\\n])", r"\\\1", lines)


def ogm(record: ScenesRecord) -> Written:
    """CHAPTER01=HH:MM:SS.mmm and CHAPTER01NAME=..., for mkvmerge and MP4Box. Numbers and hours grow past two digits."""
    lines = []
    for one in shown(record):
        lines += [f"CHAPTER{one.n:02d}={clock(milliseconds(one.start))}", f"CHAPTER{one.n:02d}NAME={one_line(one.title)}"]
    return "".join(f"{line}\n" for line in lines), []


def vtt(record: ScenesRecord) -> Written:
    """A WebVTT file for <track kind="chapters">."""
    cues = ["WEBVTT\n"]
    for one in shown(record):
        start = milliseconds(one.start)
        end = max(milliseconds(one.end), start + 1)  # a cue must not be empty
        text = one_line(one.title).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        cues.append(f"{one.n}\n{clock(start)} --> {clock(end)}\n{text}\n")
    return "\n".join(cues), []


def youtube(record: ScenesRecord) -> Written:
    """Lines for a video's description. YouTube wants the first at 0:00 and ten seconds for each: a scene that is shorter is
    joined to the one before it, a short first one to the one after."""
    scenes = shown(record)
    kept, doubts = _long_enough(scenes), []
    if len(kept) < len(scenes):
        doubts.append(f"{len(scenes) - len(kept)} of {len(scenes)} scenes are shorter than the {YOUTUBE_SHORTEST} s YouTube asks for "
                      "and were joined to their neighbours")  # fmt: skip
    if len(kept) < YOUTUBE_FEWEST:
        doubts.append(f"{len(kept)} chapters are left and YouTube shows none where there are fewer than {YOUTUBE_FEWEST}; try another --level or --threshold")
    lines = (f"{_short(second if i else 0)} {_plain(title)}\n" for i, (second, title) in enumerate(kept))
    return "".join(lines), doubts


def _long_enough(scenes: Sequence[Span]) -> list[tuple[int, str]]:
    """(second, title) of the scenes that begin a chapter, counted in the whole seconds that YouTube sees."""
    kept: list[tuple[int, str]] = []
    for one in scenes:
        second = int(one.start)
        if not kept or second - (kept[-1][0] if len(kept) > 1 else 0) >= YOUTUBE_SHORTEST:
            kept.append((second, one.title))
    while len(kept) > 1 and int(scenes[-1].end) - kept[-1][0] < YOUTUBE_SHORTEST:
        kept.pop()
    return kept


def _short(second: int) -> str:
    """0:07, 12:05 or 1:02:03."""
    hours, minutes = divmod(second // 60, 60)
    return f"{hours}:{minutes:02d}:{second % 60:02d}" if hours else f"{minutes}:{second % 60:02d}"


def _plain(title: str) -> str:
    """A description may not hold angle brackets."""
    return one_line(title).replace("<", "‹").replace(">", "›")
