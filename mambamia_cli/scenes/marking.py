"""Scores and refined candidates -> scenes. The one place where markers are chosen, from a video and from its record alike."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mambamia_cli.errors import InputError
from mambamia_cli.records import Candidate, Scene, ScenesRecord
from mambamia_cli.scenes import levels, peaks

MIN_SCENE_LEN = 0.6
"""Seconds; no scene is shorter, where nothing else is asked for."""

LOWEST = 0.6
"""Candidates are looked at down to this part of the threshold, so that a lower one can be tried on the record."""

SURE = 1.5
"""Times the threshold: cuts from there on are equally sure."""

ROUNDING = 1e-3
"""Seconds that a scene may lack: times are floating-point numbers, and fifteen frames of 1/25 s are 0.6 s long."""

BESIDE = 0.1
"""Seconds around a gradual transition within which no second marker stands."""


def candidates_of(score: np.ndarray, times: np.ndarray, lowest: float) -> list[int]:
    """Indices of the local maxima of the score (m,) that reach `lowest`, the first frame left out."""
    return peaks.markers(score, times, lowest, 0.0, end=float("inf"))


def choose(candidates: Sequence[Candidate], threshold: float, min_scene_len: float, start: float, end: float) -> list[Candidate]:
    """The candidates that open a scene, in order of time. Strongest first, each silences those closer than
    `min_scene_len` seconds to it and those within its transition, or seen in it; no scene at the start or the end
    is shorter either. Of sure cuts in quick succession the earliest comes first: that keeps the most of them."""
    chosen: list[Candidate] = []  # in order of time
    shortest, reach = max(min_scene_len - ROUNDING, 1e-6), _reach(candidates, min_scene_len)
    ranks = _ranks(candidates, SURE * threshold, min_scene_len)
    for _, one in sorted(zip(ranks, candidates, strict=True), key=lambda pair: (-pair[0], pair[1].time)):
        if one.score < max(threshold, 1e-9) or one.time - start < shortest or end - one.time < shortest:
            continue
        near = slice(bisect_left(chosen, one.time - reach, key=_time), bisect_right(chosen, one.time + reach, key=_time))
        if not any(abs(one.time - other.time) < shortest or _inside(one, other) or _seen_in(one, other) for other in chosen[near]):
            insort(chosen, one, key=_time)
    return chosen


def _time(candidate: Candidate) -> float:
    return candidate.time


def _reach(candidates: Sequence[Candidate], min_scene_len: float) -> float:
    """Seconds beyond which no candidate silences another: a film of hours has thousands, not all pairs of which are looked at."""
    spans = [max(c.transition_end - c.time, c.time - c.transition_start) for c in candidates if c.transition_start is not None]
    looks = [abs(c.look - c.time) for c in candidates]
    return max(min_scene_len, max(spans, default=0.0) + max(looks, default=0.0) + 2 * BESIDE)


def _ranks(candidates: Sequence[Candidate], sure: float, min_scene_len: float) -> list[float]:
    """The candidates' scores; of cuts that reach `sure` and follow one another within `min_scene_len` seconds, the chain's highest."""
    ranks = [one.score for one in candidates]
    chain: list[int] = []
    for i in sorted((i for i, c in enumerate(candidates) if c.transition == "cut" and c.score >= sure), key=lambda i: candidates[i].time):
        if chain and candidates[i].time - candidates[chain[-1]].time >= min_scene_len:
            chain = []
        chain.append(i)
        for j in chain:
            ranks[j] = max(ranks[j], ranks[i], ranks[chain[0]])
    return ranks


def _inside(one: Candidate, other: Candidate) -> bool:
    """Does one of the two stand in the other's transition?"""
    return any(a.transition_start is not None and a.transition_start - BESIDE < b.time < a.transition_end + BESIDE
               for a, b in ((one, other), (other, one)))  # fmt: skip


def _seen_in(one: Candidate, other: Candidate) -> bool:
    """Was the gradual `one` noticed on a frame of the other's transition? Then it was that, whatever was read beside it."""
    if one.transition in (None, "cut") or other.transition_start is None:
        return False
    return other.transition_start <= one.look <= other.transition_end


def scenes_of(
    candidates: Sequence[Candidate], *, threshold: float, min_scene_len: float, start: float, end: float, level: str = "shot"
) -> tuple[Scene, ...]:  # fmt: skip
    """The scenes of a video: [start, end) in seconds, without gaps. `candidates` as in ScenesRecord, the first of score 0."""
    opens = choose(candidates[1:], threshold, min_scene_len, start, end)
    if level != "shot":
        opens = levels.merge(candidates, opens, start=start, end=end, level=level)
    found = [Scene(1, start, end, 0.0)]
    for n, one in enumerate(opens, 2):
        found[-1] = replace(found[-1], end=one.time)
        found.append(Scene(n, one.time, end, round(one.score, 3), transition=one.transition,
                           transition_start=one.transition_start, transition_end=one.transition_end))  # fmt: skip
    return tuple(found)


def remark(
    record: ScenesRecord, *, threshold: float | None = None, min_scene_len: float | None = None, level: str | None = None
) -> ScenesRecord:  # fmt: skip
    """Mark the scenes of a record anew, without its video. What is None stays as the record was marked with.

    Raises:
        InputError: the record has no frames, or a level is asked that needs what it did not keep.
    """
    if not record.delta:
        raise InputError("the record has no delta curve", "make it again with 'mambamia scenes VIDEO --json'")
    times, delta = np.array([t for t, _ in record.delta]), np.array([d for _, d in record.delta])
    _, end = record.range or (record.scenes[0].start, record.scenes[-1].end)
    level = level or record.level or "shot"
    shortest = record.min_scene_len if min_scene_len is None else min_scene_len
    shortest = MIN_SCENE_LEN if shortest is None else shortest
    wanted = record.threshold if threshold is None else threshold
    wanted = peaks.PeakRule().threshold if wanted is None else wanted
    if record.candidates is None:
        if level != "shot":
            raise InputError(f"the record has nothing to tell a {level} by", "make it again with 'mambamia scenes VIDEO --json'")
        scenes = peaks.mark(delta, times, end=end, threshold=wanted, min_scene_len=shortest)
    else:
        start = record.candidates[0].time
        scenes = scenes_of(record.candidates, threshold=wanted, min_scene_len=shortest, start=start, end=end, level=level)
    return replace(record, scenes=scenes, threshold=wanted, level=None if level == "shot" else level, min_scene_len=shortest)
