"""A marker found at the sampling rate -> the exact frame, or the stretch of a gradual transition. Imports no torch.

Every frame around a marker is looked at in a small picture (`SIZE`).

A hard cut at frame k is measured by what it changes for good: the least distance between a frame of {k-3 .. k-1} and one of
{k .. k+2}. A flash has no such distance, nor has movement, whose neighbouring frames are alike. It is a cut when this
is much of the way from k-6 to k+5, no less than what k-6 .. k-1 and k .. k+5 change, and no other frame near it has half as much.
Where nearly all of it is low in the picture, a caption came or went, which is no transition.

Otherwise the change is gradual. In a fade the contrast (standard deviation of the picture) sinks to nothing and rises
again; lines through its fall and its rise say when it was whole and when it was gone. Between two standing
pictures, as slides are, a transition lasts as long as anything changes. In any other dissolve or wipe each
frame j is regressed on a frame A before and a frame B after, f_j ~ w_a A + w_b B (intercept and brightness removed), and
u_j = w_b / (w_a + w_b) is its place on the way. The line through u in [0.15, 0.85] gives start (u = 0) and end (u = 1); with
A and B taken just outside them it is drawn once more. Frames are made coarse for this, so that pans and zooms count little. Halfway through a dissolve most pixels lie between A's and B's, in a
wipe few do. The marker stands in the middle of a dissolve or wipe, and of the dark (or white) of a fade.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

FLASH = "flash"
"""The kind of what is no transition, since the picture before it comes back."""

MOTION = "motion"
"""The kind of what is no transition, since nothing is replaced (motion.py), or a caption only."""

SIZE = (45, 80)
"""Height and width that the frames are looked at in."""

COARSE, DETAIL = (9, 10), 5
"""Pixels (down, across) that are one where the place on the way is measured, and the side of the blocks whose detail is."""

ACROSS, WAY = 3, 6
"""Frames on each side of a cut that are compared across it, and that its part of the way is measured on."""


@dataclass(frozen=True)
class RefineRule:
    """The numbers of the refinement. Grey values are in [0, 255], times in seconds."""

    near: float = 0.26  # looked at around the two sampled frames that a cut lies between
    far: float = 1.7  # looked at on each side of a marker that may be a gradual transition
    leap: float = 0.45  # part of the way that a hard cut takes at once
    alone: float = 1.8  # times what any other frame within `apart` seconds changes for good
    apart: float = 0.4
    beyond: float = 1.0  # times what changes in the frames on either side: more than a stutter of what moves
    least: float = 0.3  # mean change in grey values below which there is no cut to place
    above: float = 0.7  # of the picture's height: captions come and go below
    caption: float = 0.25  # of what changes for good on the whole: if less does above, a caption did
    dark: float = 0.35  # of the sides' contrast: a fade
    fit: tuple[float, float] = (0.15, 0.85)  # places on the way that the line is drawn through
    between: float = 0.35  # share of pixels between both sides' halfway: fewer make a wipe
    quiet: float = 14.0  # range within which a pixel stands still
    confirmed: float = 0.6  # thresholds added to the score of a cut that every frame was looked at for, if nothing stays
    seen: float = 1.5  # thresholds that a cut seen frame by frame has at least, whatever the sampled frames say
    unfound: float = 0.5  # thresholds taken off where every frame shows no transition
    flashed: float = 2.0  # thresholds taken off where the picture comes back, only moves or scrolls
    frame: float = 0.3  # of the standing picture that stays where a window's text scrolls
    template: float = 0.15  # of the standing picture that stays where one slide follows another
    melted: tuple[float, float] = (0.5, 0.15)  # thresholds added for a dissolve whose detail sinks, if nothing stays; taken off where it does not
    sinks: tuple[float, float] = (0.2, 0.15)  # the dip that says neither, and how far from it both count whole
    longest: float = 3.2  # a longer transition is not believed
    flash: float = 0.45  # one no longer than this is a flash if the picture before it comes back
    returns: float = 4.0  # times what changed from before to after: what is in between


@dataclass(frozen=True)
class Turn:
    """What a marker became: [start, end] of the transition in seconds, and its kind: cut, dissolve, wipe, fade-black,
    fade-white, FLASH or MOTION. `time` is where the scene opens; for a cut all three times are that of the new scene's first frame.
    `dip`: by how much the picture's detail sinks halfway, about a half in a dissolve; None where that says nothing, as between slides, where a bullet may appear as softly."""

    start: float
    end: float
    kind: str
    time: float
    dip: float | None = None


def find_cut(frames: np.ndarray, times: Sequence[float], low: float, high: float, rule: RefineRule = RefineRule()) -> Turn | None:
    """The hard cut whose first new frame is presented in (low, high], if there is one.

    frames (k, H, W, 3) uint8, all frames of the stretch looked at, in order; times (k,) in seconds.
    """
    times = np.asarray(times, np.float64)
    x = _rows(frames)  # (k, P)
    lasting = np.zeros(len(x))
    # Where the video itself begins or ends there are fewer frames to compare; elsewhere a cut needs them all.
    room = min(ACROSS, max(1, len(x) // 2))
    apart = _apart(x, 2 * ACROSS - 1)
    for k in range(room, len(x) - room + 1):
        lasting[k] = apart[max(0, k - ACROSS) : k, k : k + ACROSS].min()
    inside = (times > low + 1e-6) & (times <= high + 1e-6)
    k = int(np.argmax(np.where(inside, lasting, -1.0))) if inside.any() else 0
    if k == 0:
        return None
    near = (np.abs(times - times[k]) <= rule.apart) & (np.arange(len(x)) != k)
    way = float(np.abs(x[max(0, k - WAY)] - x[min(len(x), k + WAY) - 1]).mean())
    # What each side changes by itself; the least of three, as one of the frames may be a flash's.
    ends = [[max(0, k - WAY + j) for j in range(3)], [min(len(x), k + WAY - j) - 1 for j in range(3)]]
    sides = [min(float(np.abs(x[i] - x[j]).mean()) for i in outer) for outer, j in zip(ends, (k - 1, k), strict=True)]
    if lasting[k] < max(rule.least, rule.leap * way, rule.alone * float(lasting[near].max(initial=0.0)), rule.beyond * max(sides)):
        return None
    kind = "cut" if _is_above(frames[max(0, k - ACROSS) : k + ACROSS], min(k, ACROSS), float(lasting[k]), rule) else MOTION
    return Turn(float(times[k]), float(times[k]), kind, float(times[k]))


def _apart(x: np.ndarray, reach: int) -> np.ndarray:
    """x (k, P) -> (k, k) mean difference of every row from those after it, as far as `reach` rows; infinite elsewhere."""
    apart = np.full((len(x), len(x)), np.inf)
    for step in range(1, min(reach, len(x) - 1) + 1):
        rows = np.arange(len(x) - step)
        apart[rows, rows + step] = np.abs(x[step:] - x[:-step]).mean(1)
    return apart


def _is_above(frames: np.ndarray, k: int, whole: float, rule: RefineRule) -> bool:
    """Whether what changes for good at frame k of `frames` (n, H, W, 3), by `whole` grey values, does so above the captions, too."""
    x = _rows(frames[:, : round(rule.above * frames.shape[1])])
    return min(float(np.abs(f - x[k:]).mean(-1).min()) for f in x[:k]) >= rule.caption * whole


def find_gradual(frames: np.ndarray, times: Sequence[float], around: float, rule: RefineRule = RefineRule()) -> Turn | None:
    """The gradual transition about the time `around`, if one can be made out, or the FLASH that it is. Frames and times as for `find_cut`."""
    times = np.asarray(times, np.float64)
    if len(times) < 6:
        return None
    x = _rows(frames)  # (k, P)
    turn = _fade(x, times, around, rule) or _between_still(x, times, around, rule) or _mixture(x, times, around, rule)
    if turn is None or turn.end - turn.start > rule.longest or not times[0] - 1 <= turn.time <= times[-1] + 1:
        return None
    return replace(turn, kind=FLASH) if _comes_back(x, times, turn, rule) else turn


def _comes_back(x: np.ndarray, times: np.ndarray, turn: Turn, rule: RefineRule) -> bool:
    """Whether a short change ends with the picture it began with: a flash, which is unlike both sides by more than these are unlike
    each other. x (k, P), times (k,)."""
    if turn.end - turn.start > rule.flash or x.shape[1] != SIZE[0] * SIZE[1] * 3:
        return False
    first, last = np.searchsorted(times, turn.start - 1e-6), np.searchsorted(times, turn.end + 1e-6)
    a, b = _coarse(x[[max(0, first - 2), min(len(x) - 1, last + 1)]])
    inside = _coarse(x[max(0, first - 1) : last + 1])  # (k, P / 90)
    least = min(float(np.abs(inside - side).mean(1).max()) for side in (a, b))
    return least > rule.returns * float(np.abs(a - b).mean())


def _rows(frames: np.ndarray) -> np.ndarray:
    """(k, H, W, 3) uint8 -> (k, H * W * 3) float32"""
    return frames.reshape(len(frames), -1).astype(np.float32)


def _fade(x: np.ndarray, times: np.ndarray, around: float, rule: RefineRule) -> Turn | None:
    """A fade through a flat picture: x (k, P), times (k,)."""
    contrast = x.std(1)  # (k,)
    middle = np.abs(times - around) <= 0.75
    if not middle.any():
        return None
    lowest = int(np.flatnonzero(middle)[np.argmin(contrast[middle])])
    left, right = contrast[lowest::-1], contrast[lowest:]  # both from the dark outwards
    if min(len(left), len(right)) < 4:
        return None
    sides = float(left.max()), float(right.max())
    if contrast[lowest] > rule.dark * min(sides) or min(sides) < 3:
        return None
    fall, rise = _growth(left, times[lowest::-1]), _growth(right, times[lowest:])
    if fall is None or rise is None:
        return None
    kind = "fade-black" if x[lowest].mean() < 128 else "fade-white"
    return Turn(min(fall[1], times[lowest]), max(rise[1], times[lowest]), kind, (fall[0] + rise[0]) / 2)


def _growth(contrast: np.ndarray, times: np.ndarray) -> tuple[float, float] | None:
    """(when it was none, when it was whole) of a contrast that grows from the dark, its first entry: by the line through
    a quarter and three quarters of the height at which the growth ends."""
    slope = np.convolve(np.diff(contrast), np.ones(3) / 3, "valid")  # (k - 3,)
    if not len(slope) or slope.max() <= 0:
        return None
    steep = int(np.argmax(slope > 0.6 * slope.max()))
    ended = np.flatnonzero(slope[steep:] < 0.25 * slope.max())
    level = float(contrast[steep + int(ended[0]) + 1]) if len(ended) else float(contrast.max())
    low, high = (_crossing(contrast, times, contrast[0] + (level - contrast[0]) * part) for part in (0.25, 0.75))
    if low is None or high is None:
        return None
    return float(low - (high - low) / 2), float(high + (high - low) / 2)


def _crossing(values: np.ndarray, times: np.ndarray, level: float) -> float | None:
    """The time at which values first rise above a level, between two frames."""
    above = np.flatnonzero(values >= level)
    if not len(above):
        return None
    j = int(above[0])
    if j == 0:
        return float(times[0])
    share = (level - values[j - 1]) / (values[j] - values[j - 1])
    return float(times[j - 1] + share * (times[j] - times[j - 1]))


def _between_still(x: np.ndarray, times: np.ndarray, around: float, rule: RefineRule) -> Turn | None:
    """A transition between two standing pictures, as slides are: it lasts as long as the picture changes. What moves before
    or after it anyway, as a speaker does, is left out. x (k, P), times (k,)."""
    sides = x[:WAY], x[-WAY:]
    still = np.all([side.max(0) - side.min(0) < rule.quiet for side in sides], axis=0)  # (P,)
    if len(x) < 3 * WAY or still.mean() < 0.5:
        return None
    jumps = np.concatenate([[0.0], np.abs(np.diff(x[:, still], axis=0)).mean(1)])  # (k,)
    noise = max(float(jumps[1:WAY].max()), float(jumps[-WAY + 1 :].max()))
    active = np.flatnonzero(jumps > max(3 * noise, rule.least / 2))
    runs = np.split(active, np.flatnonzero(np.diff(active) > 3) + 1) if len(active) else []
    near = [run for run in runs if times[run[0]] - 0.4 <= around <= times[run[-1]] + 0.4 and len(run) > 1]
    if not near:
        return None
    run = max(near, key=lambda run: float(jumps[run].sum()))
    first, last = int(run[0]) - 1, int(run[-1])
    start, end = float(times[first]), float(times[last])
    return Turn(start, end, _kind(x, first, (first + last) // 2, last, rule), (start + end) / 2)


def _kind(x: np.ndarray, first: int, middle: int, last: int, rule: RefineRule) -> str:
    """Whether frame `middle` mixes the frames `first` and `last` or is put together from parts of them."""
    a, b = x[first], x[last]
    differ = np.abs(a - b) > 30
    if not differ.any():
        return "dissolve"
    part = (x[middle] - a)[differ] / (b - a)[differ]
    return "wipe" if np.mean((part > 0.2) & (part < 0.8)) <= rule.between else "dissolve"


def _mixture(x: np.ndarray, times: np.ndarray, around: float, rule: RefineRule) -> Turn | None:
    """A dissolve or wipe: x (k, P), times (k,)."""
    first, last, line = 0, len(x) - 1, None
    fine = x
    if x.shape[1] == SIZE[0] * SIZE[1] * 3:
        x = _coarse(x)
    for _ in range(3):
        place = _places(x, first, last)  # (k,)
        drawn = _line(place, times, first, last, around, rule.fit)
        if drawn is None:
            break
        line = drawn
        edges = np.searchsorted(times, (line[0] - 0.02, line[1] + 0.02))
        narrower = max(0, int(edges[0]) - 1), min(len(x) - 1, int(edges[1]))
        if narrower == (first, last) or narrower[1] - narrower[0] < 3:
            break
        first, last, around = *narrower, (line[0] + line[1]) / 2
    if line is None:
        return None
    middle = int(np.argmin(np.abs(times - (line[0] + line[1]) / 2)))
    if not (np.abs(fine[first] - fine[last]) > 30).any():
        return None
    return Turn(*line, _kind(fine, first, middle, last, rule), (line[0] + line[1]) / 2, _dip(fine, first, middle, last))


def _coarse(x: np.ndarray) -> np.ndarray:
    """x (k, P) -> the means of COARSE pixels: what a pan or a zoom hardly changes, and a dissolve does. (k, P / 90)"""
    (high, wide), (down, across) = SIZE, COARSE
    rows = x.reshape(len(x) * (high // down), down, wide * 3).mean(1)  # (k * 5, 240); both ways at once takes ten times as long
    return np.einsum("qac->qc", rows.reshape(-1, across, 3)).reshape(len(x), -1) / across


def explained(frames: np.ndarray, first: int, last: int) -> tuple[float, np.ndarray, float]:
    """How well the frames `first` and `last` explain those between, all made coarse: the median share R^2 of these, their places u
    (last - first - 1,) on the way, and the correlation of both ends. frames (k, H, W, 3) in SIZE."""
    x = _coarse(_rows(frames[first : last + 1]))
    x = x - x.mean(1, keepdims=True)
    ends, between = x[[0, -1]], x[1:-1]
    weights = np.linalg.lstsq(ends.T, between.T, rcond=None)[0]  # (2, last - first - 1)
    left = ((between - weights.T @ ends) ** 2).sum(1) / np.maximum((between**2).sum(1), 1e-6)
    a, b, both = float(ends[0] @ ends[0]), float(ends[1] @ ends[1]), float(ends[0] @ ends[1])
    return 1 - float(np.median(left)), weights[1] / np.maximum(weights.sum(0), 1e-6), both / max(1e-6, (a * b) ** 0.5)


def _dip(x: np.ndarray, first: int, middle: int, last: int) -> float:
    """By how much the detail of frame `middle` is weaker than that of frames `first` and `last`: half in a dissolve, whose
    pictures share the screen; nothing in what moves, however it moves. Each block of DETAIL pixels weighs by its own strength."""
    (high, wide), side = SIZE, DETAIL
    y = x[[first, middle, last]].reshape(3, high // side, side, wide // side, side, 3)
    power = ((y - y.mean((2, 4), keepdims=True)) ** 2).mean((2, 4)).sum(-1)  # (3, rows, columns)
    a, m, b = ((part / (power.sum(0) + 60)).sum() for part in power)
    return float(1 - 2 * m / max(a + b, 1e-6))


def _places(x: np.ndarray, first: int, last: int) -> np.ndarray:
    """u (k,): 0 where a frame is all of frame `first`, 1 where it is all of `last`. x (k, P) with means removed."""
    a, b = x[first], x[last]
    aa, bb, ab = float(a @ a), float(b @ b), float(a @ b)
    free = aa * bb - ab * ab
    if free <= 1e-3 * aa * bb:
        return np.full(len(x), np.nan)
    fa, fb = x @ a, x @ b  # (k,)
    wa, wb = np.maximum((fa * bb - fb * ab) / free, 0), np.maximum((fb * aa - fa * ab) / free, 0)
    return np.where(wa + wb > 0.1, wb / np.maximum(wa + wb, 1e-6), np.nan)


def _line(place, times, first: int, last: int, around: float, fit: tuple[float, float]) -> tuple[float, float] | None:
    """(time of u = 0, time of u = 1) by the line through the places around the crossing of one half nearest `around`."""
    known = ~np.isnan(place)
    known[:first] = known[last + 1 :] = False
    index = np.flatnonzero(known)
    u, t = place[index], times[index]
    crossings = np.flatnonzero((u[:-1] < 0.5) & (u[1:] >= 0.5))
    if not len(crossings):
        return None
    at = int(crossings[np.argmin(np.abs(t[crossings] - around))])
    low, high = at, at + 1
    while low > 0 and u[low - 1] > fit[0]:
        low -= 1
    while high < len(u) - 1 and u[high + 1] < fit[1]:
        high += 1
    if high - low < 2:
        low, high = max(0, low - 1), min(len(u) - 1, high + 1)
    slope, offset = np.polyfit(t[low : high + 1], u[low : high + 1], 1)
    if slope <= 1e-3:
        return None
    return float(-offset / slope), float((1 - offset) / slope)
