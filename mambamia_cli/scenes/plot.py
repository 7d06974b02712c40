"""The delta curve of a scenes record as a picture (PNG or SVG), readable for three minutes and for three hours."""

import io
import warnings
from typing import Any

from mambamia_cli.records import ScenesRecord
from mambamia_cli.scenes.table import _clock, _span

INK, FAINT, CURVE, MARK, BAND = "#1f2937", "#6b7280", "#2563eb", "#dc2626", "#eef2f7"
POINTS = 3000
"""More frames than this are drawn as the highest and lowest of each stretch: a curve finer than a pixel is a smear."""

NUMBER_GAP = 0.016
"""Scene numbers stand at least this share of the width apart; between them some are left out."""


def draw(record: ScenesRecord, format: str = "png") -> bytes:
    """The picture as bytes of a "png" or "svg" file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    start, end = record.range or (record.scenes[0].start, record.scenes[-1].end)
    length = end - start
    # Long videos get a wider picture, up to a limit: 11 inches for minutes, 18 for hours.
    figure = Figure(figsize=(11 if length < 900 else 14 if length < 3600 else 18, 3.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _bands(axes, record)
    times, low, high = thin(record.delta, POINTS)
    axes.fill_between(times, 0, high, color=CURVE, alpha=0.18, linewidth=0)
    if low is not high:
        axes.fill_between(times, low, high, color=CURVE, alpha=0.55, linewidth=0)
    axes.plot(times, high, color=CURVE, linewidth=1.1 if len(times) < 1500 else 0.6, solid_joinstyle="round")
    _markers(axes, record, start, end)
    _frame(axes, record, start, end, max(high, default=1.0))
    target = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter of a title that the font lacks is drawn as a box
        figure.savefig(target, format=format, metadata={"Date": None} if format == "svg" else None)
    return target.getvalue()


def thin(delta: tuple[tuple[float, float], ...], points: int) -> tuple[list[float], list[float], list[float]]:
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


def _bands(axes: Any, record: ScenesRecord) -> None:
    for scene in record.scenes[1::2]:
        axes.axvspan(scene.start, scene.end, color=BAND, linewidth=0, zorder=0)


def _markers(axes: Any, record: ScenesRecord, start: float, end: float) -> None:
    """A faint line behind the curve and a tick above it at every marker; a number at a scene wherever there is room."""
    many = len(record.scenes) > 150
    for scene in record.scenes[1:]:
        axes.axvline(scene.start, color=MARK, linewidth=0.3 if many else 0.7, alpha=0.3, zorder=1)
        axes.axvline(scene.start, ymin=0.95, color=MARK, linewidth=0.7 if many else 1.4, zorder=3)
    wide = (end - start) * NUMBER_GAP * (1 + 0.35 * (len(str(len(record.scenes))) - 1))
    last = float("-inf")
    for scene in record.scenes:
        if scene.start - last >= wide:
            axes.annotate(str(scene.n), (scene.start, 1), xycoords=("data", "axes fraction"), xytext=(2, 3),
                          textcoords="offset points", fontsize=7, color=MARK if scene.n > 1 else FAINT)  # fmt: skip
            last = scene.start


def _frame(axes: Any, record: ScenesRecord, start: float, end: float, top: float) -> None:
    """Axes, labels and title."""
    from matplotlib.ticker import FuncFormatter

    count = len(record.scenes)
    name = (record.video.title or record.video.source).rsplit("/", 1)[-1]
    name = name if len(name) <= 70 else name[:67] + "..."
    axes.set_title(name, loc="left", fontsize=10, fontweight="bold", color=INK, pad=16, parse_math=False)
    axes.set_title(f"{count} scene{'s' if count != 1 else ''}, {_span(end - start)}", loc="right", fontsize=9, color=FAINT, pad=16)
    axes.set_xlim(start, end if end > start else start + 1)
    axes.set_ylim(0, top * 1.12 if top > 0 else 1)  # room for the ticks of the markers
    axes.set_ylabel("delta-time", fontsize=9, color=INK)
    axes.set_xticks(ticks(start, end))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _clock(value, end)))
    axes.tick_params(labelsize=8, colors=FAINT, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#cbd5e1")


def ticks(start: float, end: float) -> list[float]:
    """Round times, 6 to 14 of them: matplotlib's own are multiples of ten, which are not round on a clock."""
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
    step = next((s for s in steps if (end - start) / s <= 14), steps[-1])
    first = -(-start // step) * step
    return [first + i * step for i in range(int((end - first) // step) + 1)] if end >= first else [start]
