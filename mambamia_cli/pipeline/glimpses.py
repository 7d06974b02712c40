"""What is seen frame by frame joins what the sampled frames stand for: every change once, with the higher of its scores."""

from bisect import bisect_left, bisect_right
from dataclasses import replace

from mambamia_cli.records import Candidate

SAME = 0.1
"""Seconds around a cut within which a cut is the same change."""


def with_cuts(found: list[Candidate], cuts: list[Candidate]) -> list[Candidate]:
    """`found` and `cuts`, in order of time each. What was found of one of the cuts goes, as does what was not found though the cut
    shows in its sampled frame."""
    moments, kept, scores = [cut.time for cut in cuts], [], [cut.score for cut in cuts]
    for one in found:
        first, last = bisect_left(moments, one.time - SAME), bisect_right(moments, one.time + SAME)
        if one.transition == "cut" and first < last:
            nearest = min(range(first, last), key=lambda k: abs(moments[k] - one.time))
            scores[nearest] = max(scores[nearest], one.score)
        elif one.transition is not None or not any(cut.look == one.look for cut in cuts[max(0, first - 4) : last]):
            kept.append(one)
    return kept + [replace(cut, score=score) for cut, score in zip(cuts, scores, strict=True)]


def with_melts(found: list[Candidate], melts: list[Candidate]) -> list[Candidate]:
    """`found` and those of `melts` that are not among it; of those that are, the reading that was found stays, and the higher score."""
    gradual = sorted((one for one in found if one.transition_start is not None and one.transition_end is not None), key=lambda one: one.time)
    times = [one.time for one in gradual]
    raised: dict[Candidate, float] = {}
    new = []
    for melt in melts:
        near = gradual[bisect_left(times, melt.transition_start) : bisect_right(times, melt.transition_end)]  # type: ignore[type-var]
        same = [one for one in near if _overlap(one, melt) > 0.5]
        raised |= {one: max(raised.get(one, one.score), melt.score) for one in same}
        if not same:
            new.append(melt)
    return [replace(one, score=raised.get(one, one.score)) for one in found] + new


def _overlap(one: Candidate, other: Candidate) -> float:
    """The part of the shorter transition that the longer one covers."""
    assert one.transition_start is not None and one.transition_end is not None
    assert other.transition_start is not None and other.transition_end is not None
    common = min(one.transition_end, other.transition_end) - max(one.transition_start, other.transition_start)
    return common / max(1e-6, min(one.transition_end - one.transition_start, other.transition_end - other.transition_start))
