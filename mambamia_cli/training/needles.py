"""Needles in a video haystack: random footage with named drawings, seeded, and the questions one can ask of it."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from mambamia_cli.training import styles
from mambamia_cli.training.compose import Clip, Footage, Pan, Part, Track, premultiply


class Haystack:
    """Photographs, clips and drawings to draw footage from. `held_out` drawings only (or none of them)."""

    def __init__(self, photos, clips, drawings, pictures, *, only_styles=None, exclude_styles=styles.HELD_OUT):
        self.photos, self.clips, self.pictures = list(photos.values()), list(clips.values()), pictures
        bare = [d.style.removesuffix("+outline") for d in drawings]
        chosen = [
            d for d, style in zip(drawings, bare, strict=True)
            if (style in only_styles if only_styles else style not in exclude_styles)
        ]
        self.distractors = [d for d in chosen if not d.name]
        self.by_name: dict[str, list] = {}
        for d in chosen:
            if d.name:
                self.by_name.setdefault(d.name, []).append(d)
        self.names = sorted(self.by_name)

    def background(self, rng, seconds: float):
        """A photograph with a pan or a zoom, or, one time in four, a stretch of a real clip."""
        if self.clips and rng.random() < 0.25:
            clip = self.clips[rng.integers(len(self.clips))]
            return Clip(clip, int(rng.integers(len(clip))), 4.0, bool(rng.random() < 0.5))
        photo = self.photos[rng.integers(len(self.photos))]
        high, wide = photo.shape[:2]
        width = rng.uniform(0.35, 1.0) * min(1.0, high * 16 / 9 / wide)
        zoom = rng.uniform(0.85, 1.15) if rng.random() < 0.6 else 1.0
        half, tall = width / 2, width * wide * 9 / 16 / high / 2

        def centre(near=None):
            x, y = rng.uniform(half, max(half, 1 - half)), rng.uniform(tall, max(tall, 1 - tall))
            return (x, y) if near is None else (near[0] + 0.25 * (x - near[0]), near[1] + 0.25 * (y - near[1]))

        begin = centre()
        end = centre(begin) if rng.random() < 0.8 else begin
        return Pan(photo, (*begin, width), (*end, min(1.0, width * zoom)), seconds, bool(rng.random() < 0.5))

    def track(self, rng, name: str, start: float, end: float, *, height=(0.25, 1.0), still=0.25, plain=False, style=None) -> Track:
        """A drawing of `name` ("" is a distractor) in a random style, or in `style` where there is one; moving slowly; recoloured
        unless `plain`."""
        choices = self.by_name[name] if name else self.distractors
        choices = [d for d in choices if d.style == style] or choices
        drawing = choices[rng.integers(len(choices))]
        picture = np.asarray(self.pictures[drawing.row])
        picture = premultiply(picture if plain else recolour(picture, rng, drawing.mono))
        if not plain and rng.random() < 0.5:
            picture = picture[:, ::-1]
        begin = (rng.uniform(0.2, 0.8), rng.uniform(0.3, 0.7))
        finish = begin if rng.random() < still else (begin[0] + rng.uniform(-0.2, 0.2), begin[1] + rng.uniform(-0.12, 0.12))
        angle = rng.normal(0, 8) if rng.random() < 0.8 else rng.uniform(-40, 40)
        spin = rng.normal(0, 6) if rng.random() < 0.3 else 0.0
        return Track(name, np.ascontiguousarray(picture), start, end, rng.uniform(*height), begin, finish, angle, spin)


def recolour(picture: np.ndarray, rng, mono: bool) -> np.ndarray:
    """Colour shifts that keep what a drawing shows: hue, grey, brightness, tint; one-colour drawings get any colour."""
    import cv2

    out = picture.copy()
    if mono:
        ink = rng.integers(0, 256, 3) if rng.random() < 0.6 else np.full(3, rng.choice([10, 245]))
        shade = 1 - out[..., :3].astype(np.float32).mean(-1, keepdims=True) / 255
        out[..., :3] = (ink * shade + (255 - ink) * (1 - shade)).astype(np.uint8)
        return _backed(out, rng, 0.5)
    roll = rng.random()
    if roll < 0.25:  # hue and saturation
        hsv = cv2.cvtColor(np.ascontiguousarray(out[..., :3]), cv2.COLOR_RGB2HSV).astype(np.int16)
        hsv[..., 0] = (hsv[..., 0] + rng.integers(-15, 16)) % 180
        hsv[..., 1:] = np.clip(hsv[..., 1:] * rng.uniform([0.4, 0.75], [1.3, 1.2]), 0, 255)
        out[..., :3] = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)
    elif roll < 0.32:  # grey
        out[..., :3] = out[..., :3].mean(-1, keepdims=True).astype(np.uint8)
    elif roll < 0.42:  # flat: few levels
        step = int(rng.integers(32, 86))
        out[..., :3] = np.minimum(out[..., :3].astype(np.int16) // step * step + step // 2, 255).astype(np.uint8)
    elif roll < 0.5:  # tint
        tint = rng.uniform(0.6, 1.0, 3)
        out[..., :3] = (out[..., :3] * tint).astype(np.uint8)
    elif roll < 0.6:  # paler, as pastel sets are
        out[..., :3] = (255 - (255 - out[..., :3]) * rng.uniform(0.45, 0.8)).astype(np.uint8)
    if rng.random() < 0.12:
        out = _rim(out, rng)
    return _backed(out, rng, 0.04)


def _rim(picture: np.ndarray, rng) -> np.ndarray:
    """A dark or white line around the drawing's silhouette."""
    import cv2

    alpha = picture[..., 3]
    wide = cv2.dilate(alpha, np.ones((int(rng.integers(3, 9)),) * 2, np.uint8))
    out = picture.copy()
    colour = 20 if rng.random() < 0.7 else 250
    rim = alpha < 128
    out[rim, :3] = colour
    out[..., 3] = np.maximum(wide, alpha)
    return out


def _backed(picture: np.ndarray, rng, chance: float) -> np.ndarray:
    """Sometimes a plain disc or card behind the drawing, as icons have it."""
    import cv2

    if rng.random() >= chance:
        return picture
    size = picture.shape[0]
    backing = np.zeros_like(picture)
    colour = [int(c) for c in rng.integers(0, 256, 3)] + [255]
    if rng.random() < 0.5:
        cv2.circle(backing, (size // 2, size // 2), size // 2 - 1, colour, -1, cv2.LINE_AA)
    else:
        cv2.rectangle(backing, (2, 2), (size - 3, size - 3), colour, -1)
    inner = cv2.resize(picture, (int(size * 0.7),) * 2, interpolation=cv2.INTER_AREA)
    at = (size - inner.shape[0]) // 2
    window = backing[at : at + inner.shape[0], at : at + inner.shape[1]]
    alpha = inner[..., 3:].astype(np.float32) / 255
    window[..., :3] = inner[..., :3] * alpha + window[..., :3] * (1 - alpha)
    window[..., 3] = np.maximum(window[..., 3], inner[..., 3])
    return backing


@dataclass(frozen=True)
class Shot:
    """Footage of a few sampled frames with the truth about each: what the align stage learns from.

    names[i]: drawings on screen in frame i, tallest first; boundary[i]: a new shot begins at frame i (frame 0 does not
    count); entry[i]: a drawing appears at frame i.
    """

    footage: Footage
    times: tuple[float, ...]
    names: tuple[tuple[str, ...], ...]
    boundary: tuple[bool, ...]
    entry: tuple[bool, ...]


def random_shot(stack: Haystack, rng, frames: int) -> Shot:
    """One shot, or two with a cut, dissolve, fade or wipe between them, with no, one or two drawings."""
    gap = float(rng.choice([1.0, 1.0, 0.5, 0.25]))  # seconds between sampled frames: 1, 2 and 4 a second
    length = frames * gap
    parts = [Part(stack.background(rng, length), 0.0)]
    if rng.random() < 0.2:
        kind = str(rng.choice(["cut", "cut", "dissolve", "dissolve", "fade", "wipe"]))
        blend = 0.0 if kind == "cut" else float(rng.uniform(0.2, min(2.0, length / 3)))
        parts.append(Part(stack.background(rng, length), float(rng.uniform(0.3, 0.6)) * length, blend, kind))
    tracks = _random_tracks(stack, rng, length, gap)
    footage = Footage(
        tuple(parts),
        tuple(tracks),
        gain=float(rng.uniform(0.6, 1.3)) if rng.random() < 0.3 else 1.0,
        noise=float(rng.uniform(2, 14)) if rng.random() < 0.25 else 0.0,
        blur=float(rng.uniform(0.5, 1.6)) if rng.random() < 0.15 else 0.0,
        seed=int(rng.integers(1 << 30)),
    )
    times = tuple(i * gap + 1e-6 for i in range(frames))
    return Shot(footage, times, *_truth(footage, times))


STILL_SIZE = (225, 400)  # the encoder looks at 224 rows: no more are worth drawing


def random_still(stack: Haystack, rng) -> Footage:
    """One frame with no, one or two drawings: cheap variety, where a shot shows the same drawing in every frame."""
    count = int(rng.choice([0, 1, 2], p=[0.12, 0.74, 0.14]))
    names = [str(n) for n in rng.choice(stack.names, count, replace=False)] if count else []
    if rng.random() < (0.4 if not count else 0.05) and stack.distractors:
        names.append("")
    tracks = []
    for i, name in enumerate(names):
        height = (0.4, 0.8) if rng.random() < 0.65 else (0.25, 1.0)
        track = stack.track(rng, name, 0.0, 1.0, height=height if len(names) == 1 else (0.25, 0.6))
        if len(names) > 1:
            x = (i + 0.5) / len(names)
            track = dataclasses.replace(track, begin=(x, track.begin[1]), finish=(x, track.finish[1]))
        tracks.append(track)
    return Footage(
        (Part(stack.background(rng, 1.0), 0.0),), tuple(tracks),
        gain=float(rng.uniform(0.6, 1.3)) if rng.random() < 0.3 else 1.0,
        noise=float(rng.uniform(2, 12)) if rng.random() < 0.15 else 0.0,
        blur=float(rng.uniform(0.4, 1.0)) if rng.random() < 0.15 else 0.0,
        seed=int(rng.integers(1 << 30)), size=STILL_SIZE,
    )  # fmt: skip


def _random_tracks(stack: Haystack, rng, length: float, gap: float) -> list[Track]:
    count = int(rng.choice([0, 1, 2, 3], p=[0.2, 0.56, 0.2, 0.04]))
    names = list(rng.choice(stack.names, count, replace=False)) if count else []
    if rng.random() < (0.25 if not count else 0.1) and stack.distractors:
        names.append("")
    tracks = []
    for i, name in enumerate(names):
        start = 0.0 if rng.random() < 0.5 else float(rng.uniform(0, length * 0.6))
        end = length if rng.random() < 0.5 else min(length, start + float(rng.uniform(max(gap, 0.3 * length), length)))
        height = (0.4, 0.8) if rng.random() < 0.6 else (0.25, 1.0)
        track = stack.track(rng, str(name), start, end, height=height if len(names) == 1 else (0.25, 0.5))
        if len(names) > 1:  # side by side, so that none hides another
            x = (i + 0.5) / len(names)
            track = dataclasses.replace(track, begin=(x, track.begin[1]), finish=(x, track.finish[1]))
        tracks.append(track)
    return tracks


def _truth(footage: Footage, times: tuple[float, ...]):
    """(names, boundary, entry) a frame. A gradual transition counts at its middle."""
    names, boundary, entry = [], [], []
    for i, t in enumerate(times):
        on = sorted((k for k in footage.tracks if k.start <= t < k.end and k.name), key=lambda k: -k.height)
        names.append(tuple(k.name for k in on))
        before = times[i - 1] if i else t
        middles = [p.start + p.blend / 2 for p in footage.parts[1:]]
        boundary.append(any(before < m <= t for m in middles))
        entry.append(i > 0 and any(not k.start <= before < k.end for k in on))
    return tuple(names), tuple(boundary), tuple(entry)
