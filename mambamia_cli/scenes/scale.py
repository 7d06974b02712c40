"""How high the delta curve is drawn, for every picture of it: the sparkline, the plot and the page.

Two things would flatten the rest of a curve. The first frame has no frame before it, so all of it is new and its delta says
nothing of a change: it is left out. And a single peak may tower over all others, a flash for instance: where one is far
above what opens most scenes, the curve is cut off there and the place is marked (▲)."""

from bisect import bisect_left
from collections.abc import Sequence
from statistics import median

Curve = tuple[tuple[float, float], ...]

FEW = 4
"""From fewer markers than this there is no telling what is usual: nothing is cut off."""

USUAL = 1.5
"""The curve is cut off at so many times the delta of the median marker."""

SPARED = 1.2
"""A peak higher than that by no more than this factor is drawn whole: cutting a little off would tell less than it hides."""


def drawn(delta: Curve) -> Curve:
    """The frames whose delta is drawn: all but the first, where there are others."""
    return delta[1:] if len(delta) > 2 else delta


def ceiling(curve: Curve, starts: Sequence[float]) -> float:
    """The highest delta that is drawn at its own height; 0 for an empty curve. starts: the times of the markers."""
    top = max((value for _, value in curve), default=0.0)
    heights = [_height(curve, start) for start in starts] if curve else []
    if len(heights) < FEW:
        return top
    usual = USUAL * median(heights)
    return usual if 0 < usual * SPARED < top else top


def _height(curve: Curve, start: float) -> float:
    """The delta of a marker: refinement has moved it off the frame that was looked at, so the highest of those around it."""
    at = bisect_left(curve, (start,))
    return max(value for _, value in curve[max(0, at - 2) : at + 2] or curve[-1:])
