"""Stretches of edited video with known boundaries, sampled at the rate that scene markers are found at.

Films: shots with cuts, dissolves, fades through black and white, wipes and pushes. Lectures and screen recordings: see
slides.py. What is no boundary happens in both: pans, zooms, shakes, flashes, subtitles, logos, moving speakers.
"""

from dataclasses import dataclass

import numpy as np

from mambamia_cli.training import slides
from mambamia_cli.training.compose import Footage, Part, blend_pictures
from mambamia_cli.training.needles import Haystack

RATE = 4.0  # frames a second
FILM_SIZE = (225, 400)
TRANSITIONS = ("cut", "dissolve", "fade", "white", "wipe", "push")


@dataclass(frozen=True)
class Boundary:
    """A change of scene during [start, end] seconds; start = end for a cut."""

    start: float
    end: float
    kind: str

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2


@dataclass(frozen=True)
class Disturbances:
    """What must not be taken for a boundary. Times in seconds; `shake` in fractions of the frame."""

    flashes: tuple[tuple[float, float, float], ...] = ()  # (start, seconds, strength)
    shake: float = 0.0
    subtitles: tuple[tuple[float, float, np.ndarray], ...] = ()  # (start, end, (h, W, 3) uint8 text on black)
    logo: np.ndarray | None = None
    drift: float = 0.0  # exposure swings by this part
    seed: int = 0

    def apply(self, frame: np.ndarray, t: float) -> np.ndarray:
        import cv2

        high, wide = frame.shape[:2]
        if self.shake:
            rng = np.random.default_rng((self.seed, int(t * 1000)))
            dx, dy = rng.normal(0, self.shake, 2) * (wide, high)
            frame = cv2.warpAffine(frame, np.float32([[1, 0, dx], [0, 1, dy]]), (wide, high), borderMode=cv2.BORDER_REFLECT_101)
        if self.drift:
            frame = cv2.convertScaleAbs(frame, alpha=1 + self.drift * np.sin(0.9 * t + self.seed % 7))
        for start, seconds, strength in self.flashes:
            if start <= t < start + seconds:
                frame = cv2.addWeighted(frame, 1 - strength, np.full_like(frame, 255), strength, 0)
        for start, end, text in self.subtitles:
            if start <= t < end:
                part = np.s_[high - text.shape[0] - high // 20 : high - high // 20]
                frame = frame.copy()
                frame[part] = np.maximum(frame[part] // (1 + (text.max(-1, keepdims=True) > 0)), text)
        if self.logo is not None:
            size = self.logo.shape[0]
            frame = frame.copy()
            frame[8 : 8 + size, -8 - size : -8] = self.logo
        return frame


@dataclass(frozen=True)
class Reel:
    """`frame(t)` -> (H, W, 3) uint8 RGB, and its boundaries in order."""

    picture: object  # Footage or Lecture: has frame(t)
    boundaries: tuple[Boundary, ...]
    disturbances: Disturbances
    kind: str

    def frame(self, t: float) -> np.ndarray:
        return np.ascontiguousarray(self.disturbances.apply(self.picture.frame(t), t))

    def truth(self, times) -> tuple[np.ndarray, np.ndarray]:
        """-> boundary (m,) bool: the first sampled frame at or after a transition's middle; blend (m,) bool: inside one."""
        times = np.asarray(times)
        boundary, blend = np.zeros(len(times), bool), np.zeros(len(times), bool)
        for edge in self.boundaries:
            at = int(np.searchsorted(times, edge.middle - 1e-9))
            if at < len(times):
                boundary[at] = at > 0
            blend |= (times > edge.start) & (times < edge.end)
        return boundary, blend


def film(stack: Haystack, rng, seconds: float, *, kinds=None, shot=(0.7, 9.0), size=FILM_SIZE, disturb: bool = True) -> Reel:
    """Shots with transitions of `kinds` {kind: weight}; a shot lasts `shot` seconds beside its transitions."""
    kinds = kinds or {"cut": 0.5, "dissolve": 0.24, "fade": 0.1, "white": 0.04, "wipe": 0.07, "push": 0.05}
    names, weights = list(kinds), np.array(list(kinds.values()), float)
    parts, edges, at = [Part(stack.background(rng, seconds), 0.0)], [], 0.0
    while True:
        kind = str(rng.choice(names, p=weights / weights.sum()))
        blend = 0.0 if kind == "cut" else float(rng.uniform(0.2, 2.0) if kind in ("dissolve", "fade", "white") else rng.uniform(0.2, 1.2))
        at += float(np.exp(rng.uniform(*np.log(shot))))
        if at + blend >= seconds:
            break
        parts.append(Part(stack.background(rng, float(rng.uniform(3, 15))), at, blend, kind))
        edges.append(Boundary(at, at + blend, kind))
        at += blend
    footage = Footage(
        tuple(parts), gain=float(rng.uniform(0.5, 1.2)) if rng.random() < 0.2 else 1.0,
        noise=float(rng.uniform(2, 12)) if rng.random() < 0.2 else 0.0, seed=int(rng.integers(1 << 30)), size=size,
    )  # fmt: skip
    return Reel(footage, tuple(edges), _film_disturbances(rng, seconds, size) if disturb else Disturbances(), "film")


def _film_disturbances(rng, seconds: float, size) -> Disturbances:
    flashes = tuple((float(rng.uniform(0, seconds)), float(rng.uniform(0.03, 0.5)), float(rng.uniform(0.4, 1)))
                    for _ in range(int(rng.choice([0, 0, 1, 3]))))  # fmt: skip
    texts, at = [], 0.0
    if rng.random() < 0.25:
        while at < seconds:
            at += float(rng.uniform(0.3, 2))
            texts.append((at, at + float(rng.uniform(0.8, 3)), _subtitle(rng, size)))
            at = texts[-1][1]
    logo = rng.integers(0, 256, (22, 22, 3)).astype(np.uint8) // 64 * 64 if rng.random() < 0.1 else None
    return Disturbances(flashes, float(rng.uniform(0.002, 0.02)) if rng.random() < 0.2 else 0.0, tuple(texts), logo,
                        float(rng.uniform(0.1, 0.35)) if rng.random() < 0.15 else 0.0, int(rng.integers(1 << 20)))  # fmt: skip


def _subtitle(rng, size) -> np.ndarray:
    import cv2

    text = np.zeros((size[0] // 9, size[1], 3), np.uint8)
    words = "".join(chr(97 + int(c)) if c < 26 else " " for c in rng.integers(0, 31, int(rng.integers(12, 40))))
    scale = size[0] / 500
    width = cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0]
    cv2.putText(text, words, (max(2, (size[1] - width) // 2), size[0] // 14), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return text


@dataclass(frozen=True)
class Lecture:
    """Pictures shown from given times on, with a transition into some; a speaker and a pointer over them."""

    pictures: tuple[tuple[float, float, str, np.ndarray], ...]  # (start, blend seconds, kind, (*slides.SIZE, 3))
    head: slides.Head | None = None
    pointer: tuple[float, float, float] | None = None
    scroll: float = 0.0  # pixels a second

    def frame(self, t: float) -> np.ndarray:
        at = max(i for i, (start, *_) in enumerate(self.pictures) if start <= t or i == 0)
        start, blend, kind, picture = self.pictures[at]
        if at and blend and t - start < blend:
            picture = blend_pictures(kind, self.pictures[at - 1][3], picture, (t - start) / blend)
        if self.scroll:
            picture = np.roll(picture, -int(self.scroll * (t - start)), 0)
        frame = picture.copy()
        if self.head is not None:
            self.head.paste(frame, t)
        if self.pointer is not None:
            a, b, speed = self.pointer
            x, y = int(320 + 280 * np.sin(speed * t + a)), int(180 + 150 * np.sin(1.7 * speed * t + b))
            frame[y : y + 9, x : x + 6] = (250, 250, 250)
            frame[y + 1 : y + 8, x + 1 : x + 5] = (10, 10, 10)
        return frame


def lecture(fonts: slides.Fonts, photos, clips, rng, seconds: float, *, hold=(1.5, 10.0), head: float = 0.65,
            screens: float = 0.15) -> Reel:  # fmt: skip
    """Slides of one deck, each held for `hold` seconds with its bullets appearing meanwhile. `head` and `screens` are the
    chances of a speaker and of a screen recording: windows of different decks, scrolling."""
    deck = slides.Deck(fonts, photos, rng)
    screen = rng.random() < screens
    shown, edges, at = [], [], 0.0
    while at < seconds:
        if screen and shown:
            deck = slides.Deck(fonts, photos, rng)
        length = float(np.exp(rng.uniform(*np.log(hold))))
        builds = deck.slide(rng)
        kind, blend = ("cut", 0.0) if rng.random() < 0.75 else (str(rng.choice(["dissolve", "push", "wipe"])), float(rng.uniform(0.15, 0.8)))
        if shown:
            edges.append(Boundary(at, at + blend, kind))
            shown.append((at, blend, kind, builds[0]))
        else:
            shown.append((at, 0.0, "cut", builds[0]))
        moments = np.sort(rng.uniform(at + blend + 0.2, at + max(length, blend + 0.6), len(builds) - 1))
        soft = rng.random() < 0.3
        shown += [(float(m), 0.3 if soft else 0.0, "dissolve", b) for m, b in zip(moments, builds[1:], strict=True)]
        at += max(length, blend + 0.6)
    picture = Lecture(
        tuple(shown), slides.random_head(rng, clips) if rng.random() < head else None,
        tuple(float(v) for v in rng.uniform(0, 2, 3)) if rng.random() < 0.3 else None,
        float(rng.uniform(5, 40)) if screen and rng.random() < 0.5 else 0.0,
    )  # fmt: skip
    quiet = Disturbances(drift=float(rng.uniform(0.02, 0.08)) if rng.random() < 0.1 else 0.0, seed=int(rng.integers(1 << 20)))
    return Reel(picture, tuple(edges), quiet, "screen" if screen else "lecture")


def random_reel(stack: Haystack, fonts: slides.Fonts, rng, seconds: float) -> Reel:
    """A film (60 %) or a lecture."""
    if rng.random() < 0.6:
        return film(stack, rng, seconds)
    return lecture(fonts, stack.photos, stack.clips, rng, seconds)
