"""Delta curve -> peaks -> scenes. Every number of the rule stands in `PeakRule`.

The rule. A frame opens a scene when its delta stands out of the seconds around it. Its contrast is

    score_t = (delta_t - median_t) / (1.4826 * spread_t + floor * median_t + share * top + base)

with, over the window of +- `window` seconds around t: `median_t` the median of delta, and `spread_t` the median
distance below it of the values below it (1.4826 makes it the standard deviation of a normal distribution). The lower
half alone measures the noise, so that many cuts in a window, as in an action film, do not hide one another. `top` is the
99th percentile over the video of delta_t - median_t.

Why three terms. The first asks a peak to stand out of the noise around it, which differs between a shaking camera and a
lectern. The second keeps a static video, whose noise is almost nothing, from finding scenes in it. The third compares
with what the video's strongest changes are, so that a pan between hard cuts is not one; it bounds the score by
about 1 / share.

These terms grow with delta, so the score does not change when delta is multiplied by a constant: a threshold carries over
between models whose delta-times have different units. `base` is the one exception, 0 unless a model sets it: a model
whose delta was trained to a known height at boundaries may say below which height nothing has happened, so that a clip of
a single shot gets no marker for its largest ripple. Training calibrates the numbers (`scenes` in a model's config.json).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from mambamia_cli.errors import ModelError
from mambamia_cli.records import Scene

NORMAL = 1.4826
"""Median absolute deviation -> standard deviation of a normal distribution."""

_BLOCK = 4096
"""Frames whose windows are gathered at once: bounds the working memory for videos of any length."""


@dataclass(frozen=True)
class PeakRule:
    """The numbers of the rule; see the module's text."""

    threshold: float = 4.0
    window: float = 8.0  # s, each side
    floor: float = 0.3
    share: float = 0.05
    base: float = 0.0  # in the units of the model's delta

    @classmethod
    def from_config(cls, values: dict[str, Any]) -> "PeakRule":
        """The `scenes` object of a model's config.json. Raises ModelError for unknown names and impossible values."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ModelError(f"the model's scenes settings have an unknown key {unknown[0]}", "correct its config.json or update mambamia")
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
                raise ModelError(f"the model's scenes setting {name} must be a number of at least 0", "correct its config.json")
        if values.get("window", 1) == 0:
            raise ModelError("the model's scenes setting window must be above 0", "correct its config.json")
        return cls(**{name: float(value) for name, value in values.items()})


def scores(delta: Sequence[float] | np.ndarray, times: Sequence[float] | np.ndarray, rule: PeakRule = PeakRule()) -> np.ndarray:
    """Contrast of every frame. delta (m,), times (m,) in seconds, increasing -> (m,) float64, never below 0.

    Windows are counted in frames at the median frame distance, so frames of a variable frame rate are windowed nearly.
    """
    delta, times = np.asarray(delta, np.float64), np.asarray(times, np.float64)  # (m,), (m,)
    m = len(delta)
    if m < 3:
        return np.zeros(m)
    step = float(np.median(np.diff(times)))
    half = int(np.clip(round(rule.window / step) if step > 0 else m, 2, max(2, m - 1)))
    median, spread = _local(delta, half)  # (m,), (m,)
    contrast = delta - median  # (m,)
    top = max(float(np.quantile(contrast, 0.99)), 0.0)
    noise = NORMAL * spread + rule.floor * median + rule.share * top + rule.base  # (m,)
    with np.errstate(divide="ignore", invalid="ignore"):
        score = np.where(noise > 0, contrast / noise, np.where(contrast > 0, 1 / max(rule.share, 1e-6), 0.0))
    return np.maximum(score, 0.0)


def _local(delta: np.ndarray, half: int) -> tuple[np.ndarray, np.ndarray]:
    """Median and lower-half spread over each frame's 2 * half + 1 frames. The window is shifted, not cut, at the ends,
    so that the first seconds are judged by as many frames as the rest. delta (m,) -> (m,), (m,)."""
    m = len(delta)
    width = min(2 * half + 1, m)
    views = np.lib.stride_tricks.sliding_window_view(delta, width)  # (m - width + 1, width), no copy
    median, spread = np.empty(len(views)), np.empty(len(views))
    for at in range(0, len(views), _BLOCK):
        block = views[at : at + _BLOCK]  # (v, width)
        middle = np.median(block, axis=1)  # (v,)
        below = np.where(block <= middle[:, None], middle[:, None] - block, np.nan)  # (v, width)
        median[at : at + _BLOCK], spread[at : at + _BLOCK] = middle, np.nanmedian(below, axis=1)
    which = np.clip(np.arange(m) - half, 0, len(views) - 1)  # (m,)
    return median[which], spread[which]


def markers(
    score: np.ndarray, times: Sequence[float] | np.ndarray, threshold: float, min_scene_len: float, end: float
) -> list[int]:
    """Indices of the frames that open a scene, increasing; the first frame of the video is not among them.

    A marker is a local maximum of the score that reaches the threshold. Strongest first, it silences what lies closer
    than `min_scene_len` seconds to it, to the start or to `end`, so that no scene is shorter. Of a flat top the first
    frame counts.
    """
    times = np.asarray(times, np.float64)
    if len(score) < 3:
        return []
    before, after = np.concatenate(([-np.inf], score[:-1])), np.concatenate((score[1:], [-np.inf]))  # (m,), (m,)
    peak = (score > before) & (score >= after) & (score >= threshold) & (score > 0)  # (m,)
    peak &= (times - times[0] >= min_scene_len) & (end - times >= min_scene_len)
    peak[0] = False
    chosen: list[int] = []
    taken = np.zeros(len(score), bool)
    for index in sorted(np.flatnonzero(peak), key=lambda i: (-score[i], i)):
        if not taken[index]:
            chosen.append(int(index))
            near = slice(*np.searchsorted(times, (times[index] - min_scene_len, times[index] + min_scene_len), ("right")))
            taken[near] = True
    return sorted(chosen)


def mark(
    delta: Sequence[float] | np.ndarray, times: Sequence[float] | np.ndarray, *, end: float,
    rule: PeakRule = PeakRule(), threshold: float | None = None, min_scene_len: float = 0.6,
) -> tuple[Scene, ...]:  # fmt: skip
    """The scenes of a video: [start, end) in seconds, without gaps, from the first frame to `end`.

    A marker is the time of the first frame of the new scene; `peak` is its score (0 for the first scene).
    """
    times = np.asarray(times, np.float64)
    score = scores(delta, times, rule)
    opens = [0, *markers(score, times, rule.threshold if threshold is None else threshold, min_scene_len, end)]
    starts = [float(times[i]) for i in opens]
    ends = [*starts[1:], max(end, starts[-1])]
    return tuple(
        Scene(n, start, stop, round(float(score[i]), 3) if n > 1 else 0.0)
        for n, (i, start, stop) in enumerate(zip(opens, starts, ends, strict=True), 1)
    )
