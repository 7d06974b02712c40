"""A scenes record as text: the delta curve as a sparkline with its markers, above a table of scenes."""

import shutil
from dataclasses import dataclass
from typing import TextIO

from mambamia_cli.records import Scene, ScenesRecord, timecode
from mambamia_cli.scenes.scale import Curve, ceiling, drawn

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.-:=+*#"
CUT_OFF, ASCII_CUT_OFF = "▲", "^"


@dataclass(frozen=True)
class Look:
    """How text may look: its width in characters, whether it may hold escape codes and block characters."""

    width: int = 80
    color: bool = False
    unicode: bool = True

    @classmethod
    def of(cls, stream: TextIO) -> "Look":
        """What a stream can show. NO_COLOR and a dumb terminal are respected; a pipe gets 80 columns and no colour."""
        import os

        tty = stream.isatty()
        color = tty and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        unicode = (stream.encoding or "").lower().replace("-", "").startswith("utf")
        width = shutil.get_terminal_size().columns if tty else 80
        return cls(width=max(40, min(width, 120)), color=color, unicode=unicode)

    def paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.color else text


CROWDED = 1.5
"""More markers a character than this are counted, not shown."""

BAR, SHORT_BAR, ROOMY = 10, 6, 84
"""Characters of the bar of the strongest marker, and where transitions need the room on a terminal that is less than ROOMY wide."""

DIM, BOLD, ACCENT = "2", "1", "36"


def render(record: ScenesRecord, look: Look = Look()) -> str:
    """The whole text, without a final newline."""
    count = len(record.scenes)
    name = record.video.title or record.video.source
    start, end = record.range or (record.scenes[0].start, record.scenes[-1].end)
    head = f"{count} scene{'s' if count != 1 else ''} in {_span(end - start)}"
    lines = [f"{look.paint(_plain(name), BOLD)}  {look.paint(head, DIM)}"]
    if len(record.delta) > 1:
        lines += ["", *_curve(record, look, start, end)]
    lines += ["", look.paint(f"{'#':>4}  {'start':<12}  {'end':<12}  {'length':>9}  {'contrast':>8}", DIM)]
    strongest = max((scene.peak for scene in record.scenes), default=0.0)
    bar = SHORT_BAR if look.width < ROOMY and any(map(_gradual, record.scenes)) else BAR
    return "\n".join(lines + [_row(scene, strongest, look, bar) for scene in record.scenes])


def _row(scene: Scene, strongest: float, look: Look, most: int) -> str:
    """A line of the table; `most`: characters of the bar of the strongest marker."""
    contrast = f"{scene.peak:8.1f}" if scene.peak else " " * 8
    length, bar = max(1, round(most * scene.peak / strongest)) if scene.peak and strongest else 0, ""
    if look.width >= 64:
        bar = "  " + look.paint(("█" if look.unicode else "#") * length, ACCENT) + " " * (most - length)
    more = "".join(f"  {text}" for text in (_gradual(scene), _plain(scene.title or "")) if text)
    row = f"{scene.n:4d}  {timecode(scene.start):<12}  {timecode(scene.end):<12}  {scene.end - scene.start:7.2f} s  {contrast}{bar}{more}"
    return row.rstrip()


def _gradual(scene: Scene) -> str:
    """How a scene opens that does not open with a cut: "dissolve 0.8 s"."""
    if scene.transition_start is None or scene.transition_end is None:
        return ""
    return f"{_plain(scene.transition or 'transition')} {scene.transition_end - scene.transition_start:.1f} s"


def _plain(text: str) -> str:
    """Text of a record, which anybody may have written, without what would steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def _curve(record: ScenesRecord, look: Look, start: float, end: float) -> list[str]:
    """Markers (where there are any), the curve, its time axis."""
    width, pad = look.width - 4, "  "
    starts, delta = [scene.start for scene in record.scenes[1:]], drawn(record.delta)
    curve = sparkline(delta, start, end, width, look.unicode, ceiling(delta, starts))
    left, middle, right = _clock(start, end), _clock((start + end) / 2, end), _clock(end, end)
    gap = width - len(left) - len(middle) - len(right)
    axis = f"{left}{' ' * (gap // 2)}{middle}{' ' * (gap - gap // 2)}{right}"
    return [*(pad + line for line in _markers(starts, start, end, width, look)), pad + curve, pad + look.paint(axis, DIM)]


def _markers(starts: list[float], start: float, end: float, width: int, look: Look) -> list[str]:
    """A marker over every character in which a scene begins. Where that is nearly everywhere, it would say nothing: then how
    many begin in each, as a curve of its own."""
    counts = [0] * width
    for time in starts:
        counts[_column(time, start, end, width)] += 1
    if not starts:
        return []
    if len(starts) <= CROWDED * width:
        return [look.paint("".join(("▾" if look.unicode else "v") if n else " " for n in counts).rstrip(), ACCENT)]
    blocks, most = BLOCKS if look.unicode else ASCII_BLOCKS, max(counts)
    line = "".join(blocks[-(-n * len(blocks) // most) - 1] if n else " " for n in counts)
    return [look.paint(f"markers, up to {most} in {_span((end - start) / width)}; below them delta", DIM), look.paint(line.rstrip(), ACCENT)]


def sparkline(delta: Curve, start: float, end: float, width: int, unicode: bool = True, top: float | None = None) -> str:
    """The curve in `width` characters; each shows the highest delta of its stretch of time, so no peak is lost.

    A stretch without a frame (fewer frames than characters) shows the frame before it. What is higher than `top`
    (None: nothing is) is shown as cut off.
    """
    columns: list[float | None] = [None] * width
    for time, value in delta:
        at = _column(time, start, end, width)
        columns[at] = value if columns[at] is None else max(columns[at], value)  # type: ignore[type-var]
    high = max(v for _, v in delta) if top is None else top
    low = min(min(v for _, v in delta), high / 2)  # a nearly flat curve is drawn flat, not its noise blown up
    blocks, cut_off = (BLOCKS, CUT_OFF) if unicode else (ASCII_BLOCKS, ASCII_CUT_OFF)
    text, last = [], delta[0][1]
    for value in columns:
        last = last if value is None else value
        level = (last - low) / (high - low) if high > low else 0.0
        text.append(cut_off if last > high else blocks[min(len(blocks) - 1, int(level * len(blocks)))])
    return "".join(text)


def _column(time: float, start: float, end: float, width: int) -> int:
    return min(width - 1, max(0, int((time - start) / (end - start) * width))) if end > start else 0


def _clock(seconds: float, longest: float) -> str:
    """Short time for an axis: 0:07, 12:05 or 1:02:03."""
    whole = round(seconds)
    if longest >= 3600:
        return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
    return f"{whole // 60}:{whole % 60:02d}"


def _span(seconds: float) -> str:
    """A length for people: 9.6 s, 12 min 5 s, 2 h 3 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole // 60 % 60} min"
