"""What all formats share: exact times, frame numbers at a timeline's rate, SMPTE timecodes, names on one line."""

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from mambamia_cli.records import Scene, ScenesRecord

_FINEST = 100_000
"""Time bases of containers are no finer than this many units a second, or so fine that 10 us do not matter."""

_NTSC = tuple(Fraction(n * 1000, 1001) for n in (24, 30, 48, 60, 120))
TIMELINE_RATES = tuple(sorted((*_NTSC, *map(Fraction, (24, 25, 30, 48, 50, 60, 100, 120)))))
"""Frames a second that editing programs know."""

_ROUNDED = Fraction(1, 5000)
"""A stated rate may be so far, relatively, from the one it means: 23.98 for 24000/1001, 29.97 for 30000/1001."""

_UNKNOWN_RATE = Fraction(25)


@dataclass(frozen=True)
class Span:
    """A scene with exact times, [start, end) in seconds from the first frame, and a title that is never empty."""

    n: int
    start: Fraction
    end: Fraction
    title: str


def exact(seconds: float) -> Fraction:
    """The rational time that a float in a record stands for: 2.0020000000000002 -> 1001/500."""
    return Fraction(seconds).limit_denominator(_FINEST)


def spans(record: ScenesRecord) -> list[Span]:
    return [Span(scene.n, exact(scene.start), exact(scene.end), title_of(scene, record)) for scene in record.scenes]


def shown(record: ScenesRecord) -> list[Span]:
    """The spans on the clock of a player, which starts with the file and not with the first frame."""
    late = exact(record.video.offset or 0.0)
    return [Span(one.n, one.start + late, one.end + late, one.title) for one in spans(record)]


def title_of(scene: Scene, record: ScenesRecord) -> str:
    return scene.title or f"{'Chapter' if record.level == 'chapter' else 'Scene'} {scene.n}"


def name_of(record: ScenesRecord) -> str:
    """The video's file name on one line."""
    return one_line(record.video.title or os.path.basename(record.video.source.rstrip("/"))) or "video"


def one_line(text: str) -> str:
    """Text without line breaks, control characters and what is no character at all (a file name may hold all of these)."""
    return " ".join("".join(" " if _unfit(c) else c for c in text).split())


def _unfit(c: str) -> bool:
    return unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in "\ufffe\uffff"


def address(record: ScenesRecord) -> str:
    """The video as a URL: file:///... with the bytes of its path percent-encoded, or the URL that it came from."""
    source = record.video.source
    return source if "://" in source[:12] else Path(os.path.abspath(source)).as_uri()


def rate(record: ScenesRecord) -> Fraction:
    """Frames a second of the video, the rate that is meant where the stated one is a rounded one. 25 where none is stated."""
    stated = Fraction(record.video.fps) if record.video.fps else _UNKNOWN_RATE
    known = (*TIMELINE_RATES, Fraction(max(1, round(stated))))
    near = min(known, key=lambda one: abs(one - stated))
    return near if abs(near - stated) <= near * _ROUNDED else stated


def timeline_rate(record: ScenesRecord) -> tuple[Fraction, list[str]]:
    """A rate that editing programs know, and what to say where it is not the video's own: the smallest that is a multiple of
    it, else the smallest whole one that is not slower."""
    own = rate(record)
    if own in TIMELINE_RATES:
        used = own
    else:
        faster = [one for one in TIMELINE_RATES if one > own]
        whole = (one for one in faster if one.denominator == 1)
        used = next((one for one in faster if (one / own).denominator == 1), next(whole, TIMELINE_RATES[-1]))
    if record.video.vfr:
        return used, [f"the video has a variable frame rate: frames are counted at {_said(used)} a second, so cuts are exact to one of these"]
    if used != own:
        return used, [f"no editing program counts {_said(own)} frames a second: the timeline counts {_said(used)}"]
    return used, []


def _said(rate: Fraction) -> str:
    return f"{float(rate):.5g}"


def frame_at(moment: Fraction, rate: Fraction) -> int:
    """The number, from 0, of the frame that begins nearest to a time."""
    return int(moment * rate + Fraction(1, 2))


def on_frames(record: ScenesRecord, rate: Fraction) -> Iterator[tuple[Span, int, int]]:
    """(scene, first frame, frame after its last); a scene shorter than a frame has none and is left out."""
    for one in spans(record):
        first, after = frame_at(one.start, rate), frame_at(one.end, rate)
        if after > first:
            yield one, first, after


def drops(rate: Fraction) -> bool:
    """Whether timecode at this rate skips numbers to keep with the clock: 29.97 and its multiples."""
    return rate.denominator == 1001 and round(rate) % 30 == 0


def smpte(frame: int, rate: Fraction) -> str:
    """Frame number -> "HH:MM:SS:FF", drop-frame ("HH:MM:SS;FF") where the rate asks for it. Wraps at 24 hours, as clocks do.

    Drop-frame: the first 2 numbers (4 at 59.94) of each minute are skipped, but not those of every tenth.
    """
    nominal, drop = round(rate), drops(rate)
    if drop:
        skipped = nominal // 15
        minute = nominal * 60 - skipped  # frames in a minute that skips
        tens, rest = divmod(frame, minute * 10 + skipped)
        frame += skipped * 9 * tens + (skipped * ((rest - skipped) // minute) if rest >= nominal * 60 else 0)
    seconds, ff = divmod(frame, nominal)
    return f"{seconds // 3600 % 24:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{';' if drop else ':'}{ff:02d}"


def milliseconds(moment: Fraction) -> int:
    return int(moment * 1000 + Fraction(1, 2))


def clock(ms: int) -> str:
    """Milliseconds -> "HH:MM:SS.mmm"; as many digits of hours as it takes."""
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"
