"""Which candidates open a scene, beside the rule as it reads: every pair looked at."""

import numpy as np
import pytest

from mambamia_cli.records import Candidate
from mambamia_cli.scenes import marking


def drawn(rng, count, seconds):
    """Candidates of all kinds, crowded enough to silence one another."""
    found = []
    for t in np.sort(rng.uniform(0, seconds, count)):
        kind = rng.choice(["none", "cut", "dissolve"])
        before, after = rng.uniform(0.1, 1.6, 2)
        span = (float(t - before), float(t + after)) if kind == "dissolve" else ()
        found.append(Candidate(float(t), float(t + rng.normal(0, 0.4)), float(rng.uniform(0.6, 3)), None if kind == "none" else str(kind), *span))
    return found


def every_pair(candidates, threshold, shortest, start, end):
    chosen, ranks = [], marking._ranks(candidates, marking.SURE * threshold, shortest)
    shortest -= marking.ROUNDING
    for _, one in sorted(zip(ranks, candidates, strict=True), key=lambda pair: (-pair[0], pair[1].time)):
        if one.score < threshold or min(one.time - start, end - one.time) < shortest:
            continue
        if not any(abs(one.time - c.time) < shortest or marking._inside(one, c) or marking._seen_in(one, c) for c in chosen):
            chosen.append(one)
    return sorted(chosen, key=lambda c: c.time)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("shortest", [0.1, 0.6, 4.0])
def test_only_neighbours_are_looked_at_and_nothing_changes(seed, shortest):
    candidates = drawn(np.random.default_rng(seed), 60, 60)
    chosen = marking.choose(candidates, 1.0, shortest, 0.0, 60.0)
    assert 5 < len(chosen) < 50 and chosen == every_pair(candidates, 1.0, shortest, 0.0, 60.0)
