"""How well markers agree with known boundaries."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Agreement:
    """Markers found, boundaries wanted, and pairs of the two."""

    hits: int
    found: int
    wanted: int

    @property
    def precision(self) -> float:
        return self.hits / self.found if self.found else float(self.wanted == 0)

    @property
    def recall(self) -> float:
        return self.hits / self.wanted if self.wanted else 1.0

    @property
    def f1(self) -> float:
        return 2 * self.hits / (self.found + self.wanted) if self.found + self.wanted else 1.0


def agree(markers: Sequence[float], boundaries: Sequence[tuple[float, float]], reach: float) -> Agreement:
    """Pair each boundary with at most one marker within `reach` seconds of its middle, as many as can be paired.

    Both lists are sorted; pairing the earliest of both that reach each other is then the largest matching.
    """
    middles = [(a + b) / 2 for a, b in boundaries]
    return Agreement(len(shared(markers, middles, reach)), len(markers), len(middles))


def shared(some: Sequence[float], others: Sequence[float], reach: float) -> list[float]:
    """Those of `some` that have one of `others` within `reach` seconds, each of which counts once."""
    times, middles = sorted(some), sorted(others)
    i, j, found = 0, 0, []
    while i < len(times) and j < len(middles):
        if abs(times[i] - middles[j]) <= reach + 1e-9:
            found.append(times[i])
            i, j = i + 1, j + 1
        elif times[i] < middles[j]:
            i += 1
        else:
            j += 1
    return found
