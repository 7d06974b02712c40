"""A stage's metrics.jsonl as a picture: losses, time, and a small panel for every score, training and held-out alike."""

import json
import math
import os
from pathlib import Path

from mambamia_cli.errors import OutputError, UsageError

METRICS, PICTURE = "metrics.jsonl", "metrics.png"
LOSSES = ("loss", "naming", "pull", "delta", "distil", "edge")
SIDE = ("step", "seconds", "validation", "lr", "grad_norm", "tokens", "examples", "skipped", "kept")  # not scores
INK, FAINT, GRID = "#1f2937", "#6b7280", "#e5e7eb"
COLORS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed")
TRAINING = "#9ca3af"
COLUMNS = 4
POINTS = 24  # a curve is averaged to about so many points: single batches are noise

Curve = list[tuple[float, float]]


def read_metrics(path: Path) -> list[dict]:
    """The rows of a metrics file in the order of their steps. A run that was killed and resumed wrote some steps twice: the
    later row counts. A line cut short by the kill is passed over. Raises UsageError when the file cannot be read."""
    rows: dict[tuple, dict] = {}
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", "name the work folder of a training") from None
    for line in lines:
        try:
            row = json.loads(line)
            rows[(row["step"], row.get("validation", ""))] = row
        except (ValueError, KeyError, TypeError):
            continue
    return sorted(rows.values(), key=lambda row: row["step"])


def curves(rows: list[dict]) -> tuple[dict[str, Curve], dict[str, dict[str, Curve]]]:
    """-> losses by name, and scores by name and set ("training" or a held-out set's name), each as (step, value) pairs.

    A loss on a held-out set stands among the losses under the set's name.
    """
    losses: dict[str, Curve] = {}
    scores: dict[str, dict[str, Curve]] = {}
    for row in rows:
        where = row.get("validation", "training")
        for key, value in row.items():
            if key in SIDE or not isinstance(value, int | float) or not math.isfinite(value):
                continue
            if key in LOSSES:
                name = key if where == "training" else where if key == "loss" else f"{key}, {where}"
                losses.setdefault(name, []).append((row["step"], value))
            else:
                scores.setdefault(key, {}).setdefault(where, []).append((row["step"], value))
    return losses, scores


def smooth(curve: Curve, points: int = POINTS) -> Curve:
    """Means over equal stretches, at most `points` of them."""
    size = -(-len(curve) // points)
    parts = [curve[at : at + size] for at in range(0, len(curve), size)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]


def draw(path: Path) -> Path:
    """Draw the metrics file `path` as metrics.png beside it, whole or not at all; returns the picture's path.

    Raises UsageError for a file without rows, OutputError when the picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    rows = read_metrics(path)
    if not rows:
        raise UsageError(f"{path} holds no metrics yet", "let the training run a little longer")
    losses, scores = curves(rows)
    lines = -(-len(scores) // COLUMNS)
    figure = Figure(figsize=(12, 3.1 + 2.1 * lines), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(1 + lines, COLUMNS, height_ratios=[1.45, *[1] * lines])
    minutes = rows[-1]["seconds"] / 60
    figure.suptitle(f"{path.parent.name}: {rows[-1]['step']:,} steps in {minutes:,.1f} minutes", x=0.01, ha="left", fontsize=12,
                    fontweight="bold", color=INK)
    _losses(figure.add_subplot(grid[0, : COLUMNS - 1]), losses)
    _seconds(figure.add_subplot(grid[0, COLUMNS - 1]), rows)
    sets = sorted({name for by_set in scores.values() for name in by_set} - {"training"})
    for at, name in enumerate(scores):
        _score(figure.add_subplot(grid[1 + at // COLUMNS, at % COLUMNS]), name, scores[name], sets)
    if scores:
        lines = [Line2D([], [], color=TRAINING, label="training")]
        lines += [Line2D([], [], color=COLORS[i % len(COLORS)], label=name, marker="o", markersize=3) for i, name in enumerate(sets)]
        figure.legend(handles=lines, loc="upper right", ncols=len(lines), fontsize=8, frameon=False, labelcolor=INK)
    for axes in figure.axes:
        axes.set_xlim(0, max(1, rows[-1]["step"]) * 1.02)
    target = path.with_name(PICTURE)
    temporary = target.with_suffix(".tmp")
    try:
        figure.savefig(temporary, format="png")
        os.replace(temporary, target)
    except OSError as error:
        raise OutputError(f"cannot write {target} ({error.strerror})", "choose a work folder with space") from None
    return target


def draw_all(work: Path) -> list[Path]:
    """Draw every stage of a work folder (or the folder itself, when it is a stage's). Raises UsageError when there is none."""
    found = sorted(p for p in (work / METRICS, *work.glob(f"*/{METRICS}")) if p.is_file())
    if not found:
        raise UsageError(f"{work} holds no {METRICS}", "name the work folder of a training")
    return [draw(path) for path in found]


def _losses(axes, losses: dict[str, Curve]) -> None:
    """Losses on a logarithmic scale: their parts differ by orders of magnitude. The total in ink, as averaged and, faint, as it was."""
    from matplotlib.ticker import LogLocator, NullLocator

    others = [name for name in losses if name != "loss"]
    for name, curve in losses.items():
        curve = [(x, y) for x, y in curve if y > 0]
        main = name == "loss"
        color = INK if main else COLORS[others.index(name) % len(COLORS)]
        if not curve:
            continue
        if main:
            axes.plot(*zip(*curve, strict=True), color=TRAINING, linewidth=0.7, alpha=0.6)
        width = 1.8 if main else 1.1
        axes.plot(*zip(*smooth(curve), strict=True), color=color, linewidth=width, label=name, marker=_marker(curve), markersize=3)
    if losses:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.legend(fontsize=8, frameon=False, ncols=3, labelcolor=INK)
    axes.set_xlabel("step", fontsize=8, color=FAINT)
    _dress(axes, "loss")


def _seconds(axes, rows: list[dict]) -> None:
    """Minutes against steps: a straight line is a steady run, a jump a validation or a pause."""
    axes.plot([row["step"] for row in rows], [row["seconds"] / 60 for row in rows], color=INK, linewidth=1.4)
    axes.set_xlabel("step", fontsize=8, color=FAINT)
    axes.set_ylim(bottom=0)
    _dress(axes, "minutes of training")


def _score(axes, name: str, by_set: dict[str, Curve], sets: list[str]) -> None:
    if curve := by_set.get("training"):
        axes.plot(*zip(*smooth(curve), strict=True), color=TRAINING, linewidth=1.2, label="training")
    for where in sets:
        if curve := by_set.get(where):
            axes.plot(*zip(*curve, strict=True), color=COLORS[sets.index(where) % len(COLORS)], linewidth=1.5, label=where,
                      marker=_marker(curve), markersize=3)  # fmt: skip
    values = [y for curve in by_set.values() for _, y in curve]
    low, high = min(values), max(values)
    axes.set_ylim(min(0, low) - 0.02, 1.02 if high <= 1 else high * 1.05)
    shown = [where for where in sets if where in by_set] or ["training"]
    _dress(axes, name.replace("_", " ") + ":  " + ", ".join(f"{where} {by_set[where][-1][1]:.2f}" for where in shown))


def _marker(curve: Curve) -> str:
    return "o" if len(curve) < 12 else ""


def _dress(axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=9, color=INK)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=7, colors=FAINT, length=2)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#cbd5e1")
