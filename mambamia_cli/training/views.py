"""Views as a second look takes them (pipeline/relook.py): square windows of a frame, enlarged, a drawing near or cut by their edge.

Most windows of a frame hold nothing, so many of these do: photographs, drawings of other things, edges of drawings of which
too little is seen to name them.
"""

import dataclasses
from pathlib import Path

import numpy as np

from mambamia_cli.training import shards
from mambamia_cli.training.compose import Clip, Footage, Pan, Part, Track
from mambamia_cli.training.needles import Haystack
from mambamia_cli.training.shards import STILLS_A_SHARD, through_x264

SIDE = 224
FAVOURED = {"noto": 0.12, "noto-lines-300": 0.05, "noto-lines-600": 0.05, "symbola": 0.06}
"""Styles, and how many drawings are surely of each: the one most often met in footage made for tests, and flat
colours behind dark lines, of whose shapes each set has but one or two."""

NAMED, FRAGMENT = 0.62, 0.2  # of a drawing at least so much is seen, at most so much: between them it is left out


def random_view(stack: Haystack, rng) -> Footage:
    """One window with no, one or two drawings; a drawing without a name is one of something else, or a mere edge."""
    count = int(rng.choice([0, 1, 2], p=[0.26, 0.64, 0.1]))
    names = [str(n) for n in rng.choice(stack.names, count, replace=False)] if count else []
    tracks = [_track(stack, rng, name, i, count) for i, name in enumerate(names)]
    roll = rng.random()
    if roll < (0.35 if not count else 0.05) and stack.distractors:
        tracks.append(_placed(stack.track(rng, "", 0.0, 1.0, height=(0.25, 1.1)), rng, least=0.3))
    elif not count and roll < 0.5:
        whole = _track(stack, rng, str(rng.choice(stack.names)), 0, 1)
        tracks.append(dataclasses.replace(_placed(whole, rng, most=FRAGMENT), name=""))
    return Footage(
        (Part(_background(stack, rng), 0.0),), tuple(tracks),
        gain=float(rng.uniform(0.6, 1.3)) if rng.random() < 0.3 else 1.0,
        noise=float(rng.uniform(2, 10)) if rng.random() < 0.15 else 0.0,
        blur=float(rng.uniform(0.4, 1.3)) if rng.random() < 0.25 else 0.0,
        seed=int(rng.integers(1 << 30)), size=(SIDE, SIDE),
    )  # fmt: skip


def _track(stack: Haystack, rng, name: str, i: int, count: int) -> Track:
    """A drawing in a view: alone anywhere, two side by side."""
    at = int(np.searchsorted(np.cumsum(list(FAVOURED.values())), rng.random(), side="right"))
    style = [*FAVOURED, None][at]
    height = ((0.35, 1.15) if rng.random() < 0.75 else (0.2, 1.3)) if count == 1 else (0.25, 0.6)
    track = stack.track(rng, name, 0.0, 1.0, height=height, still=1.0, plain=rng.random() < 0.35, style=style)
    if count == 1:
        return _placed(track, rng, least=NAMED)
    spot = ((i + 0.5) / count, float(rng.uniform(0.3, 0.7)))
    return dataclasses.replace(track, begin=spot, finish=spot)


def _placed(track: Track, rng, *, least: float = 0.0, most: float = 1.0) -> Track:
    """Anywhere where between `least` and `most` of the drawing's square is seen, of what can be seen at its size."""
    room = min(1.0, 1 / track.height**2)
    for _ in range(200):
        spot = tuple(float(v) for v in rng.uniform(-0.35 * track.height, 1 + 0.35 * track.height, 2))
        if least * room <= seen_part(spot, track.height) <= max(most * room, 0.02):
            break
    return dataclasses.replace(track, begin=spot, finish=spot)


def seen_part(centre: tuple[float, float], height: float) -> float:
    """How much of a square of `height` around a point is inside of the view."""
    inside = [max(0.0, min(1.0, c + height / 2) - max(0.0, c - height / 2)) for c in centre]
    return inside[0] * inside[1] / height**2


def _background(stack: Haystack, rng) -> Pan | Clip:
    """What a window of a frame shows of its background, the frame being enlarged 1 to 1.6 times."""
    whole, close = stack.background(rng, 1.0), float(rng.choice([1.0, 1.25, 1.5, 1.6]))
    if isinstance(whole, Clip):
        picture = whole.frames[whole.first]
        side = int(min(picture.shape[:2]) / close)
        top, left = (int(rng.integers(0, length - side + 1)) for length in picture.shape[:2])
        return Clip(picture[None, top : top + side, left : left + side], 0, whole.fps, whole.mirror)
    cx, cy, width = whole.begin
    high, wide = whole.photo.shape[:2]
    part = width * 9 / 16 / close
    x, y = cx + float(rng.uniform(-0.5, 0.5)) * (width - part), cy + float(rng.uniform(-0.5, 0.5)) * (1 - 1 / close) * width * wide * 9 / 16 / high
    return dataclasses.replace(whole, begin=(x, y, part), end=(x, y, part))


def box(track: Track) -> list[float]:
    """A drawing's square in fractions of the view, rotation left aside."""
    half, (x, y) = track.height / 2, track.begin
    return [x - half, y - half, x + half, y + half]


def write_shard(number: int, stack: Haystack, encoder, vocabulary: dict[str, int], seed: int, folder: Path) -> None:
    """One shard in the form of features.load_stills."""
    rng = np.random.default_rng((seed, 17, number))
    patches, truth = [], []
    for _ in range(STILLS_A_SHARD // 16):
        films = [random_view(stack, rng) for _ in range(16)]
        frames = [film.frame(0.5) for film in films]
        if rng.random() < 0.5:
            frames = through_x264(frames, int(rng.integers(16, 32)))
        grids, facts = shards.encoded(films, np.stack(frames), encoder, vocabulary, box)
        patches.append(grids)
        truth += facts
    shards.write_shard(folder, number, np.concatenate(patches), truth)
