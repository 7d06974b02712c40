"""What was looked at -> the places where scenes may open, each with what is seen from there on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from mambamia_cli.pipeline import boundaries
from mambamia_cli.pipeline.index import Index
from mambamia_cli.records import Candidate
from mambamia_cli.scenes import evidence, levels, marking, peaks
from mambamia_cli.scenes.peaks import PeakRule


def candidates_of(
    index: Index, path: Path, rule: PeakRule, threshold: float, *, refine: bool, stream: int | None = None
) -> tuple[tuple[Candidate, ...], float]:
    """Candidates as ScenesRecord keeps them, and the lowest score among them.

    refine: frames around each are looked at again, in the file at `path` where they were not kept; else candidates stand at
    sampled frames, by delta alone.
    """
    times = index.seconds  # (m,)
    score = peaks.scores(index.delta, times, rule)  # (m,)
    lowest = marking.LOWEST * min(threshold, rule.threshold)
    known = index.evidence if refine and evidence.fits(times) else None
    if known is not None:
        score = evidence.combine(score, rule.threshold, known)
    at = marking.candidates_of(score, times, lowest)
    if refine:
        every: dict[str, Any] = {}
        if index.closeup is not None:
            every = {"cuts": boundaries.placed(path, index.closeup.cuts, index.closeup.jumps, stream), "melts": index.closeup.melts}
        found = boundaries.refine(path, times, score, at, known, threshold=rule.threshold, stream=stream, seen=index.closeup, **every)
    else:
        found = [Candidate(float(times[i]), float(times[i]), float(score[i])) for i in at]
    first = float(times[0])
    inside = [one for one in found if first < one.time < index.range[1] and not (index.closeup and index.closeup.is_of_blank(one))]
    ordered = [Candidate(first, first, 0.0), *sorted(inside, key=lambda c: c.time)]
    seen = levels.stretches(index.signatures, times, [one.time for one in ordered])
    return tuple(replace(one, signature=row) for one, row in zip(ordered, seen, strict=True)), lowest
