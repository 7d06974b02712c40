"""A second look at a video where its scenes may change: candidates at the sampling rate -> exact frames."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np

from mambamia_cli.pipeline.glimpses import with_cuts, with_melts
from mambamia_cli.records import Candidate
from mambamia_cli.scenes.bars import without_bars
from mambamia_cli.scenes.evidence import Evidence, EvidenceRule
from mambamia_cli.scenes.motion import only_moves
from mambamia_cli.scenes.refine import FLASH, MOTION, SIZE, RefineRule, Turn, find_cut, find_gradual

_RULE = RefineRule()

APART = 2e-3
"""Seconds before a cut at which a window ends that is not to reach it: more than times are rounded by, less than a frame."""

Window = tuple[float, float]
Find = Callable[[dict[int, Window], Collection[int]], dict[int, Turn | None]]
"""(seconds that every frame is looked at in, by candidate; those of them that are taken for cuts) -> what is there. Candidates
that cannot be looked at are left out."""


class Seen(Protocol):
    """What was kept an eye on during the look itself (closeup.CloseUp)."""

    def find(self, windows: dict[int, Window], sharp: Collection[int], times: np.ndarray) -> dict[int, Turn | None]: ...


def refine(
    path: Path, times: np.ndarray, score: np.ndarray, at: Sequence[int], evidence: Evidence | None, *,
    threshold: float = 1.0,
    cuts: Sequence[float] = (), melts: Sequence[Turn] = (), stream: int | None = None, rule: RefineRule = _RULE, seen: Seen | None = None,
) -> list[Candidate]:  # fmt: skip
    """Where the change is that the sampled frames `at` stand for.

    What the evidence takes for a cut is looked for between two sampled frames first, and farther around only if it is not
    there. times, score (m,); at: increasing indices. A candidate of which nothing is found keeps its sampled frame's time.
    The file is read only around what was not `seen` while it was looked at.

    cuts: seconds at which they are seen frame by frame (scenes.cuts), melts: dissolves and fades seen so (scenes.melts). Both are candidates
    whatever the sampled frames say, and cuts part the windows of what is gradual.

    What is found also speaks: the score of a cut seen between two frames rises by `rule.confirmed` * (1 - stays^2) thresholds,
    and that of a candidate at which no transition is seen falls by `rule.unfound`. A dissolve's rises as its detail sinks.
    """

    def find(windows: dict[int, Window], sharp: Collection[int]) -> dict[int, Turn | None]:
        turns = {} if seen is None else seen.find(windows, sharp, times)
        for i, (frames, moments) in _look(path, {i: w for i, w in windows.items() if i not in turns}, stream):
            turns[i] = turn_at(frames, moments, times, i, i in sharp, rule)
        return turns

    turns = {i: _of_slides(turn, i, evidence, rule) for i, turn in _whole(search(times, at, evidence, find, rule, cuts), rule).items()}
    found = [_candidate(float(times[i]), score[i] + threshold * _told(turn, i, evidence, rule), turn) for i, turn in sorted(turns.items())]

    def glimpsed(turn: Turn) -> Candidate:
        """Its score is that of the sampled frame it shows in, or a sure one's."""
        i = min(int(np.searchsorted(times, turn.time - 1e-6)), len(times) - 1)
        return _candidate(float(times[i]), max(score[i], rule.seen * threshold) + threshold * _told(turn, i, evidence, rule), turn)

    found = with_cuts(found, [glimpsed(Turn(t, t, "cut", t)) for t in cuts])
    return with_melts(found, [glimpsed(turn) for turn in melts])


def search(
    times: np.ndarray, at: Sequence[int], evidence: Evidence | None, find: Find, rule: RefineRule = _RULE, cuts: Sequence[float] = ()
) -> dict[int, Turn | None]:  # fmt: skip
    """What stands behind the sampled frames `at`. What is found for one depends on its neighbours and the `cuts` within
    `rule.far` seconds only."""
    sharp = _sharp(at, evidence)
    windows = between(times, sharp, rule)
    windows |= _far(times, at, [i for i in at if i not in sharp], rule, cuts)
    turns = find(windows, sharp)
    missed = [i for i in at if i in sharp and i in turns and turns[i] is None]
    return turns | find(_far(times, at, missed, rule, cuts), ())


def between(times: np.ndarray, which: Collection[int], rule: RefineRule = _RULE) -> dict[int, Window]:
    """The windows that a cut is looked for in: from the sampled frame before to the one it shows in, and a little on each side."""
    return {i: (times[max(i - 1, 0)] - rule.near, times[i] + rule.near) for i in which}


def placed(path: Path, cuts: Sequence[float], jumps: Mapping[float, float], stream: int | None = None, rule: RefineRule = _RULE) -> list[float]:
    """The cuts, in seconds; those after a gap (CloseUp.jumps) stand where the file shows them."""
    unsure = {k: (jumps[cut] - rule.near, cut + rule.near) for k, cut in enumerate(cuts) if cut in jumps}
    exact = {k: find_cut(*seen, jumps[cuts[k]], cuts[k], rule) for k, seen in _look(path, unsure, stream)} if unsure else {}
    return [cut if (turn := exact.get(k)) is None else turn.time for k, cut in enumerate(cuts)]


def turn_at(frames: np.ndarray, moments: Sequence[float], times: np.ndarray, i: int, sharp: bool, rule: RefineRule = _RULE) -> Turn | None:
    """The transition that the sampled frame i stands for among `frames` (k, H, W, 3), presented at `moments` (k,)."""
    if sharp:
        return find_cut(frames, moments, times[max(i - 1, 0)], times[i], rule)
    low, high = times[max(i - 2, 0)], times[min(i + 1, len(times) - 1)]
    turn = find_cut(frames, moments, low, high, rule) or find_gradual(frames, moments, float(times[i]), rule)
    return replace(turn, kind=MOTION) if turn is not None and only_moves(turn, frames, moments) else turn


def _of_slides(turn: Turn | None, i: int, evidence: Evidence | None, rule: RefineRule) -> Turn | None:
    """The turn of candidate i; what was taken for movement is a soft change of slide where the sampled frames show that words were swapped
    and something of all slides stayed."""
    if turn is None or evidence is None or turn.kind != MOTION or turn.start == turn.end:
        return turn
    if evidence.swapped[i] <= EvidenceRule().swap or float(np.nan_to_num(evidence.stays[i])) < rule.template:
        return turn
    return replace(turn, kind="dissolve")


def _told(turn: Turn | None, i: int, evidence: Evidence | None, rule: RefineRule) -> float:
    """What the frames add to the score of a candidate, in thresholds."""
    if evidence is None:
        return 0.0
    if turn is None:
        return -rule.unfound
    if turn.kind in (FLASH, MOTION):
        return -rule.flashed
    stays = float(np.nan_to_num(evidence.stays[i], nan=1.0))
    if evidence.scrolled[i] and stays > rule.frame:
        return -rule.flashed
    if turn.kind == "dissolve" and turn.dip is not None:
        sinks = float(np.clip((turn.dip - rule.sinks[0]) / rule.sinks[1], -1, 1))
        return rule.melted[0] * sinks * (1 - stays * stays) if sinks > 0 else rule.melted[1] * sinks
    return rule.confirmed * (1 - stays * stays) if turn.kind == "cut" else 0.0


def _whole(turns: dict[int, Turn | None], rule: RefineRule) -> dict[int, Turn | None]:
    """Of two readings of one dissolve, found from different frames, the wider holds for both."""
    sure = {i: t for i, t in turns.items() if t is not None and t.kind == "dissolve" and (t.dip or 0) >= sum(rule.sinks)}
    order = sorted(sure.values(), key=lambda t: t.start)
    starts = [t.start for t in order]

    def widest(turn: Turn) -> Turn:
        """Among those that cover most of it."""
        beside = order[bisect_left(starts, turn.start - rule.longest) : bisect_right(starts, turn.end)]
        covers = [t for t in beside if min(t.end, turn.end) - max(t.start, turn.start) > (turn.end - turn.start) / 2]
        return max([turn, *covers], key=lambda t: t.end - t.start)

    return {**turns, **{i: widest(t) for i, t in sure.items()}}


def _sharp(at: Sequence[int], evidence: Evidence | None) -> set[int]:
    """Those that the evidence takes for cuts."""
    if evidence is None:
        return set()
    seen = EvidenceRule()
    return {i for i in at if (evidence.gone[i] >= seen.cut or evidence.swapped[i] > seen.swap) and evidence.mixed[i] < seen.dissolve and evidence.faded[i] < seen.fade}


def _far(times: np.ndarray, at: Sequence[int], which: Collection[int], rule: RefineRule, cuts: Sequence[float]) -> dict[int, Window]:
    """Wide windows around the candidates `which`, each ending before the frames that the others of `at`, or those a second
    away, stand for: neighbours nearer than that may be the same gradual transition. None reaches over a cut that the candidate does not
    stand for."""
    windows = {}
    for i in which:
        ends = [times[j] for j in at if j < i and (j not in which or times[i] - times[j] > 1)]
        begins = [times[max(j - 1, i)] for j in at if j > i and (j not in which or times[j] - times[i] > 1)]
        low, high = max([times[i] - rule.far, *ends[-1:]]), min([times[i] + rule.far, *begins[:1]])
        before, after = times[max(i - 2, 0)], times[min(i + 1, len(times) - 1)]
        low, high = min(low, before - rule.near), max(high, after + rule.near)
        windows[i] = within(before, after, low, high, cuts)
    return windows


def within(before: float, after: float, low: float, high: float, cuts: Sequence[float]) -> Window:
    """The window [low, high] without what lies beyond a cut up to `before` or later than `after`."""
    past, to_come = bisect_right(cuts, before), bisect_right(cuts, after)
    return max([low, *cuts[:past][-1:]]), min([high, *(cut - APART for cut in cuts[to_come : to_come + 1])])


def _look(path: Path, windows: dict[int, Window], stream: int | None) -> Iterator[tuple[int, tuple[np.ndarray, list[float]]]]:
    """(candidate, (frames, times)) of every window, from one pass over the file."""
    from mambamia_cli.video.windows import open_windows

    order = sorted(windows, key=lambda i: windows[i])
    spans = [(max(Fraction(windows[i][0]), Fraction(0)), Fraction(max(windows[i][1], 0))) for i in order]
    for i, stretch in zip(order, open_windows(path, spans, SIZE, stream=stream), strict=True):
        yield i, (without_bars(stretch.frames), [float(t) for t in stretch.times])


def _candidate(look: float, score: float, turn: Turn | None) -> Candidate:
    score = max(0.0, float(score))
    if turn is None or turn.kind in (FLASH, MOTION):
        return Candidate(look, look, round(score, 4))
    if turn.kind == "cut":
        return Candidate(turn.time, look, round(score, 4), "cut")
    return Candidate(turn.time, look, round(score, 4), turn.kind, turn.start, turn.end)
