"""Shots -> scenes -> chapters: neighbours that look alike are merged. Imports no torch.

Every looked-at frame has a signature: the mean of its patch features, projected onto `WIDTH` fixed random directions
(which keeps angles nearly as they are). A shot's is the mean of its frames'. Two shots differ by d, the angle between
their signatures after the video's mean is taken off, as 1 - cosine, in [0, 2].

scene    Overlapping links (Hanjalic, Lagendijk, Biemond 1999): a shot is linked to the most similar of the shots that begin within
         `LINK_SECONDS` after it, if they differ by less than `LINK`; all shots between two linked ones are of one scene, and so
         are links that overlap. A dialogue cut to and fro is one scene, and so is what returns to a place.
chapter  Scenes are merged with the more similar neighbour, the most similar pair of the video first, as long as one of the two is
         shorter than the least length of a chapter: a twentieth of the video, at least 20 s and at most 5 min.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from mambamia_cli.records import Candidate

WIDTH = 48
LINK, LINK_SECONDS = 0.5, 45.0
CHAPTER_PART, CHAPTER_LEAST, CHAPTER_MOST = 0.05, 20.0, 300.0


class SignatureStream:
    """Patch grids in, chunk by chunk; keeps WIDTH float16 numbers a frame."""

    def __init__(self) -> None:
        self._rows: list[np.ndarray] = []
        self._directions: np.ndarray | None = None

    def push(self, features: np.ndarray) -> None:
        """features (m, d): the mean patch of each frame."""
        if self._directions is None:
            rng = np.random.default_rng(1999)  # any fixed one: signatures of two runs must be comparable
            self._directions = (rng.integers(0, 2, (features.shape[1], WIDTH)) * 2 - 1).astype(np.float32) / np.sqrt(features.shape[1])
        self._rows.append(np.clip(features @ self._directions, -6e4, 6e4).astype(np.float16))  # (m, WIDTH)

    def finish(self) -> np.ndarray:
        return np.concatenate(self._rows) if self._rows else np.empty((0, WIDTH), np.float16)


def stretches(signatures: np.ndarray, times: np.ndarray, opens: Sequence[float]) -> list[tuple[int, ...]]:
    """Mean signature, less the video's mean, of the frames from each of `opens` (seconds, increasing) to the next.

    signatures (m, WIDTH), times (m,). Integers in [-127, 127] on one scale for the video.
    """
    if not len(signatures):
        return [(0,) * WIDTH for _ in opens]
    rows = signatures.astype(np.float64)
    rows -= rows.mean(0)
    bounds = [*np.searchsorted(times, np.asarray(opens) - 1e-9), len(times)]
    means = []
    for a, b in pairwise(bounds):
        a = min(int(a), len(rows) - 1)
        # The frames beside a transition may be mixtures: they are left out where others are left.
        inner = rows[a + 1 : b - 1] if b - a > 4 else rows[a : max(int(b), a + 1)]
        means.append(inner.mean(0))
    scale = 127 / max(1e-9, float(np.abs(means).max()))
    return [tuple(int(v) for v in np.rint(mean * scale)) for mean in means]


def merge(candidates: Sequence[Candidate], opens: Sequence[Candidate], *, start: float, end: float, level: str) -> list[Candidate]:
    """Of the markers `opens` of the shots those that remain at `level`. `candidates` as in ScenesRecord."""
    times = [start, *(one.time for one in opens)]
    looks = _shots(candidates, times, end)  # (shots, WIDTH)
    first = _linked(looks, times)  # index of the first shot of each scene
    if level == "chapter":
        first = _chapters(looks, [*times, end], first)
    return [opens[i - 1] for i in first if i > 0]


def _shots(candidates: Sequence[Candidate], times: Sequence[float], end: float) -> np.ndarray:
    """Signature of each shot: that of the candidates' stretches in it, by their lengths. -> (shots, WIDTH), of norm 1."""
    begins = np.array([c.time for c in candidates])
    order = np.argsort(begins, kind="stable")
    begins = begins[order]
    lengths = np.diff([*begins, max(end, begins[-1])])  # (c,)
    width = max((len(c.signature or ()) for c in candidates), default=0) or 1
    rows = np.array([candidates[i].signature or (0,) * width for i in order], np.float64)  # (c, WIDTH)
    owner = np.clip(np.searchsorted(times, begins + 1e-9) - 1, 0, len(times) - 1)  # (c,)
    total = np.zeros((len(times), width))
    np.add.at(total, owner, rows * np.maximum(lengths, 1e-3)[:, None])
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-9)


def _linked(looks: np.ndarray, times: Sequence[float]) -> list[int]:
    """Indices of the shots that open a scene. looks (s, WIDTH) of norm 1."""
    first, reach = [0], 0
    for i in range(len(times)):
        if i > reach:
            first.append(i)
            reach = i
        ahead = bisect_right(times, times[i] + LINK_SECONDS)
        near = np.flatnonzero(1 - looks[i + 1 : ahead] @ looks[i] < LINK)
        reach = max(reach, i + 1 + int(near[-1]) if len(near) else 0)
    return first


def _chapters(looks: np.ndarray, times: Sequence[float], first: Sequence[int]) -> list[int]:
    """Merge neighbouring scenes until none is shorter than a chapter. times (s + 1,): the shots' beginnings and the end."""
    least = float(np.clip((times[-1] - times[0]) * CHAPTER_PART, CHAPTER_LEAST, CHAPTER_MOST))
    first, bounds = list(first), np.asarray(times)
    sums = list(np.add.reduceat(looks * np.diff(bounds)[:, None], first))  # p rows (WIDTH,), one a part
    alike = np.array([_cosine(a, b) for a, b in pairwise(sums)])  # (p - 1,): how much each part is like the next
    while len(first) > 1:
        short = np.diff(bounds[[*first, -1]]) < least  # (p,)
        pairs = np.flatnonzero(short[:-1] | short[1:])
        if not len(pairs):
            break
        k = int(pairs[np.argmax(alike[pairs])])
        sums[k] = sums[k] + sums.pop(k + 1)
        del first[k + 1]
        alike = np.delete(alike, k)
        for at in (k - 1, k):
            if 0 <= at < len(alike):
                alike[at] = _cosine(sums[at], sums[at + 1])
    return first


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b) / (float(np.linalg.norm(a) * np.linalg.norm(b)) + 1e-9)
