"""A scenes record as a picture (PNG or SVG), readable for three minutes and for three hours: the delta curve with its
markers, under it a strip of the scenes' thumbnails. The curve is scaled as scenes.scale says: the first frame is left out,
peaks far above the usual are cut off and marked."""

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mambamia_cli.records import ScenesRecord
from mambamia_cli.scenes.scale import Curve, ceiling, drawn
from mambamia_cli.scenes.table import _clock, _span
from mambamia_cli.scenes.thumbs import evenly

INK, FAINT, CURVE, MARK, BAND, LEAD = "#1f2937", "#6b7280", "#2563eb", "#dc2626", "#eef2f7", "#cbd5e1"
POINTS = 3000
"""More frames than this are drawn as the highest and lowest of each stretch: a curve finer than a pixel is a smear."""

CROWDED, STRETCHES = 25, 25
"""More scenes an inch than CROWDED are not drawn one by one; the curve then has so many points an inch."""

NUMBER_GAP = 0.016
"""Scene numbers stand at least this share of the width apart; between them some are left out."""

LEFT, RIGHT, TOP, CURVE_HEIGHT, AXIS, BOTTOM = 0.62, 0.3, 0.55, 2.45, 0.34, 0.08
"""Inches: margins of the curve, its height, and the room of its time axis."""

THUMB_HEIGHT, THUMB_GAP, LEAD_HEIGHT, CAPTION = 0.72, 0.1, 0.16, 0.22
"""Inches: a thumbnail, the least space between two, the lines that lead to them, and the words below."""

HEADROOM = 1.12
"""The axis goes so much higher than the curve: room for the ticks of the markers."""

DPI = 150
BOX = (180, 720)
"""Pixels (height, width) within which a thumbnail is wanted; it is drawn a little smaller."""


def draw(record: ScenesRecord, format: str = "png", thumbs: Mapping[int, np.ndarray] | None = None) -> bytes:
    """The picture as bytes of a "png" or "svg" file. thumbs: scene index -> (H, W, 3) uint8, of those that `shown` names;
    without any, the curve alone."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    start, end = _span_of(record)
    strip = LEAD_HEIGHT + THUMB_HEIGHT + CAPTION if thumbs else 0.0
    width, height = _width(end - start), TOP + CURVE_HEIGHT + AXIS + strip + BOTTOM
    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((LEFT / width, (BOTTOM + strip + AXIS) / height, 1 - (LEFT + RIGHT) / width, CURVE_HEIGHT / height))
    crowded = len(record.scenes) > CROWDED * width
    curve = drawn(record.delta)
    top = ceiling(curve, [scene.start for scene in record.scenes[1:]])
    times, low, peaks = thin(curve, int(STRETCHES * width) if crowded else POINTS)
    high = [min(value, top) for value in peaks]
    if crowded:
        _crowd(axes, record, curve, times, high, start, end)
    else:
        _bands(axes, record)
        _line(axes, times, low, high)
        _ticks(axes, record)
    _numbers(axes, record, start, end)
    notes = (_cut_off(axes, times, peaks, top), "red: scenes a stretch, line: mean delta, pale: highest" if crowded else "")
    _frame(axes, record, start, end, top, "    ".join(filter(None, notes)))
    if thumbs:
        _strip(figure, record, thumbs, start, end)
    target = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter of a title that the font lacks is drawn as a box
        figure.savefig(target, format=format, metadata={"Date": None} if format == "svg" else None)
    return target.getvalue()


def shown(record: ScenesRecord) -> list[int]:
    """Indices of the scenes whose thumbnails have room, evenly spread where not all have."""
    start, end = _span_of(record)
    video = record.video
    wide = THUMB_HEIGHT * min(video.width / video.height, 4) if video.width and video.height else THUMB_HEIGHT * 16 / 9
    return evenly(len(record.scenes), int((_width(end - start) - 2 * BOTTOM) // (wide + THUMB_GAP)))


def _span_of(record: ScenesRecord) -> tuple[float, float]:
    return record.range or (record.scenes[0].start, record.scenes[-1].end)


def _width(length: float) -> float:
    """Inches. Long videos get a wider picture, up to a limit: 11 for minutes, 18 for hours."""
    return 11 if length < 900 else 14 if length < 3600 else 18


def thin(delta: Curve, points: int) -> tuple[list[float], list[float], list[float]]:
    """(times, lowest, highest) of at most `points` stretches of equally many frames; peaks stay at their own time.
    With few enough frames the two curves are one and the same list."""
    if len(delta) <= points:
        values = [value for _, value in delta]
        return [time for time, _ in delta], values, values
    size = -(-len(delta) // points)
    times, low, high = [], [], []
    for at in range(0, len(delta), size):
        stretch = delta[at : at + size]
        top = max(stretch, key=lambda pair: pair[1])
        times.append(top[0])
        high.append(top[1])
        low.append(min(value for _, value in stretch))
    return times, low, high


def means(delta: Curve, points: int) -> list[float]:
    """The mean of each stretch that `thin` makes: at most `points` of them."""
    size = -(-len(delta) // points) if points else 1
    return [float(np.mean([value for _, value in delta[at : at + size]])) for at in range(0, len(delta), size)]


def _bands(axes: Any, record: ScenesRecord) -> None:
    """Every other scene tinted, and gradual transitions from their start to their end."""
    across = axes.get_xaxis_transform()  # seconds to the right, shares of the height upwards
    tinted = [(scene.start, scene.end - scene.start) for scene in record.scenes[1::2]]
    axes.broken_barh(tinted, (0, 1), transform=across, color=BAND, linewidth=0, zorder=0)
    gradual = [(scene.transition_start, scene.transition_end - scene.transition_start)
               for scene in record.scenes if scene.transition_start is not None and scene.transition_end is not None]  # fmt: skip
    axes.broken_barh(gradual, (0, 1), transform=across, color=MARK, alpha=0.16, linewidth=0, zorder=1)


def _line(axes: Any, times: Sequence[float], low: Sequence[float], high: Sequence[float]) -> None:
    axes.fill_between(times, 0, high, color=CURVE, alpha=0.18, linewidth=0)
    if len(times) and low != high:
        axes.fill_between(times, low, high, color=CURVE, alpha=0.55, linewidth=0)
    axes.plot(times, high, color=CURVE, linewidth=1.1 if len(times) < 1500 else 0.6, solid_joinstyle="round")


def _ticks(axes: Any, record: ScenesRecord) -> None:
    """A faint line behind the curve and a tick above it at every marker."""
    many = len(record.scenes) > 150
    starts, across = [scene.start for scene in record.scenes[1:]], axes.get_xaxis_transform()
    axes.vlines(starts, 0, 1, transform=across, color=MARK, linewidth=0.3 if many else 0.7, alpha=0.12 if many else 0.3, zorder=1)
    axes.vlines(starts, 0.95, 1, transform=across, color=MARK, linewidth=0.7 if many else 1.4, zorder=3)


def _crowd(
    axes: Any, record: ScenesRecord, curve: Curve, times: Sequence[float], high: Sequence[float], start: float, end: float
) -> None:
    """Where peaks and markers would stand closer than they can be told apart: the highest delta of each stretch pale, its mean
    as a line, and above them how many markers there are, the redder the more."""
    usual = means(curve, len(times))
    axes.fill_between(times, 0, high, color=CURVE, alpha=0.22, linewidth=0)
    axes.fill_between(times, 0, usual, color=CURVE, alpha=0.3, linewidth=0)
    axes.plot(times, usual, color=CURVE, linewidth=1.2, solid_joinstyle="round")
    counts, edges = np.histogram([scene.start for scene in record.scenes[1:]], bins=max(len(times) // 4, 1), range=(start, end))
    most = max(int(counts.max()), 1)
    for count in np.unique(counts[counts > 0]):
        spans = [(a, b - a) for n, a, b in zip(counts, edges[:-1], edges[1:], strict=True) if n == count]
        axes.broken_barh(spans, (0.95, 0.05), transform=axes.get_xaxis_transform(), color=MARK, alpha=float(count / most), linewidth=0, zorder=3)


def _numbers(axes: Any, record: ScenesRecord, start: float, end: float) -> None:
    """The number of a scene above its beginning, wherever there is room."""
    wide = (end - start) * NUMBER_GAP * (1 + 0.35 * (len(str(len(record.scenes))) - 1))
    last = float("-inf")
    for scene in record.scenes:
        if scene.start - last >= wide:
            axes.annotate(str(scene.n), (scene.start, 1), xycoords=("data", "axes fraction"), xytext=(2, 3),
                          textcoords="offset points", fontsize=7, color=MARK if scene.n > 1 else FAINT)  # fmt: skip
            last = scene.start


def _cut_off(axes: Any, times: Sequence[float], high: Sequence[float], top: float) -> str:
    """A triangle at every peak that is higher than the picture; -> what to say of them."""
    above = [(time, value) for time, value in zip(times, high, strict=True) if value > top]
    if not above:
        return ""
    axes.plot([time for time, _ in above], [top] * len(above), "^", color=CURVE, markersize=6, markeredgewidth=0, zorder=4)
    return f"\u25b2 cut off, up to {max(value for _, value in above):.3g}"


def _frame(axes: Any, record: ScenesRecord, start: float, end: float, top: float, note: str) -> None:
    """Axes, labels and title; `note` stands beside it."""
    from matplotlib.ticker import FuncFormatter

    count = len(record.scenes)
    name = (record.video.title or record.video.source).rsplit("/", 1)[-1]
    most = 44 if note else 70
    name = name if len(name) <= most else name[: most - 3] + "..."
    axes.set_title(name, loc="left", fontsize=10, fontweight="bold", color=INK, pad=16, parse_math=False)
    facts = f"{count} scene{'s' if count != 1 else ''}, {_span(end - start)}"
    axes.set_title(f"{note}    {facts}" if note else facts, loc="right", fontsize=9, color=FAINT, pad=16)
    axes.set_xlim(start, end if end > start else start + 1)
    axes.set_ylim(0, top * HEADROOM if top > 0 else 1)
    axes.set_ylabel("delta-time", fontsize=9, color=INK)
    axes.set_xticks(ticks(start, end))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _clock(value, end)))
    for label in axes.get_xticklabels():  # the lines that lead to thumbnails pass behind the times
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
    axes.tick_params(labelsize=8, colors=FAINT, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#cbd5e1")


def _strip(figure: Any, record: ScenesRecord, thumbs: Mapping[int, np.ndarray], start: float, end: float) -> None:
    """The thumbnails below their scenes, pushed apart where they would overlap, each with a line to its scene."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((0, 0, 1, 1), facecolor="none", zorder=-1)  # in inches; behind, so that times stay readable
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.axis("off")
    length = end - start if end > start else 1
    indices = sorted(thumbs)
    half = [THUMB_HEIGHT * thumbs[i].shape[1] / thumbs[i].shape[0] / 2 for i in indices]
    scenes = [record.scenes[i] for i in indices]
    middles = [LEFT + ((s.start + s.end) / 2 - start) / length * (width - LEFT - RIGHT) for s in scenes]
    foot = BOTTOM + CAPTION + THUMB_HEIGHT
    for scene, index, at, reach, middle in zip(scenes, indices, apart(middles, half, BOTTOM, width - BOTTOM), half, middles, strict=True):
        axes.plot((middle, middle, at), (foot + LEAD_HEIGHT + AXIS, foot + LEAD_HEIGHT, foot), color=LEAD, linewidth=0.8)
        axes.imshow(thumbs[index], extent=(at - reach, at + reach, foot - THUMB_HEIGHT, foot), aspect="auto", interpolation="antialiased")
        axes.text(at, foot - THUMB_HEIGHT - 0.05, f"{scene.n} · {_clock(scene.start, end)}", fontsize=7, color=FAINT, ha="center", va="top")
    axes.set_xlim(0, width)  # imshow has set its own
    axes.set_ylim(0, height)


def apart(middles: Sequence[float], half: Sequence[float], low: float, high: float) -> list[float]:
    """`middles` (increasing) moved as little as a pass each way needs, so that things reaching `half` to each side stand
    THUMB_GAP apart within [low, high]. Too many for the room overlap at its left."""
    placed: list[float] = []
    for i, middle in enumerate(middles):
        least = low + half[i] if not placed else placed[-1] + half[i - 1] + THUMB_GAP + half[i]
        placed.append(max(middle, least))
    most = high
    for i in reversed(range(len(placed))):
        placed[i] = min(placed[i], most - half[i])
        most = placed[i] - half[i] - THUMB_GAP
    return placed


def ticks(start: float, end: float) -> list[float]:
    """Round times, 6 to 14 of them: matplotlib's own are multiples of ten, which are not round on a clock."""
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
    step = next((s for s in steps if (end - start) / s <= 14), steps[-1])
    first = -(-start // step) * step
    return [first + i * step for i in range(int((end - first) // step) + 1)] if end >= first else [start]
