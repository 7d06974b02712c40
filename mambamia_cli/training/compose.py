"""Frames of synthetic footage with known truth: photographs with pans, real clips, and drawings that move over them.

All geometry is in fractions of the frame, all times in seconds, so that one description renders at any size and rate.
"""

from dataclasses import dataclass, field

import numpy as np

SIZE = (360, 640)  # height, width


@dataclass(frozen=True)
class Pan:
    """A photograph (H, W, 3) uint8 seen through a window that moves and zooms linearly over `seconds`.

    A window is (centre x, centre y, width) in fractions of the photograph; its height follows the frame's aspect.
    """

    photo: np.ndarray
    begin: tuple[float, float, float]
    end: tuple[float, float, float]
    seconds: float
    mirror: bool = False

    def frame(self, t: float, size: tuple[int, int]) -> np.ndarray:
        """-> (*size, 3) uint8 at `t` seconds."""
        import cv2

        tall, broad = size
        u = min(max(t / self.seconds, 0.0), 1.0)
        cx, cy, width = ((1 - u) * b + u * e for b, e in zip(self.begin, self.end, strict=True))
        high, wide = self.photo.shape[:2]
        scale = width * wide / broad
        sign = -1.0 if self.mirror else 1.0
        matrix = np.array([[sign * scale, 0, cx * wide - sign * scale * broad / 2], [0, scale, cy * high - scale * tall / 2]])
        flags = (cv2.INTER_AREA if scale > 1.5 else cv2.INTER_LINEAR) | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(self.photo, matrix, (broad, tall), flags=flags, borderMode=cv2.BORDER_REFLECT_101)


@dataclass(frozen=True)
class Clip:
    """A stretch of a real clip (m, H, W, 3) uint8 sampled at `fps`, from frame `first`, played to and fro."""

    frames: np.ndarray
    first: int
    fps: float
    mirror: bool = False

    def frame(self, t: float, size: tuple[int, int]) -> np.ndarray:
        """-> (*size, 3) uint8 at `t` seconds, cropped to the frame's aspect."""
        import cv2

        tall, broad = size
        count = len(self.frames)
        i = (self.first + int(t * self.fps)) % (2 * count - 2 or 1)
        picture = self.frames[i if i < count else 2 * count - 2 - i]
        high, wide = picture.shape[:2]
        keep = min(high, wide * tall // broad)
        picture = picture[(high - keep) // 2 : (high - keep) // 2 + keep]
        picture = cv2.resize(picture, (broad, tall), interpolation=cv2.INTER_LINEAR)
        return picture[:, ::-1] if self.mirror else picture


@dataclass(frozen=True)
class Track:
    """A drawing (S, S, 4) uint8 on screen during [start, end), moving linearly. `height` is its part of the frame's."""

    name: str
    picture: np.ndarray
    start: float
    end: float
    height: float
    begin: tuple[float, float]
    finish: tuple[float, float]
    angle: float = 0.0
    spin: float = 0.0

    def paste(self, frame: np.ndarray, t: float) -> bool:
        """Draw onto `frame` in place at `t` seconds; False when it is off at that time."""
        import cv2

        if not self.start <= t < self.end:
            return False
        tall, broad = frame.shape[:2]
        u = (t - self.start) / (self.end - self.start)
        cx, cy = ((1 - u) * b + u * f for b, f in zip(self.begin, self.finish, strict=True))
        size = self.picture.shape[0]
        scale = self.height * tall / size
        matrix = cv2.getRotationMatrix2D((size / 2, size / 2), self.angle + self.spin * (t - self.start), scale)
        matrix[:, 2] += np.array([cx * broad, cy * tall]) - size / 2
        flags = cv2.INTER_AREA if scale < 0.6 else cv2.INTER_LINEAR
        warped = cv2.warpAffine(self.picture, matrix, (broad, tall), flags=flags)  # alpha already multiplied in
        box = cv2.boundingRect(warped[..., 3])
        part = np.s_[box[1] : box[1] + box[3], box[0] : box[0] + box[2]]
        alpha = warped[part][..., 3:].astype(np.uint16)
        frame[part] = warped[part][..., :3] + (frame[part] * (255 - alpha) // 255).astype(np.uint8)
        return True


@dataclass(frozen=True)
class Part:
    """One shot of an edited video: `background` from `start` on; `blend` seconds of dissolve, or a fade, into it."""

    background: Pan | Clip
    start: float
    blend: float = 0.0
    kind: str = "cut"  # cut | dissolve | fade | white | wipe | push


@dataclass(frozen=True)
class Footage:
    """Shots in order, drawings over them, and what a camera and an encoder do to the picture."""

    parts: tuple[Part, ...]
    tracks: tuple[Track, ...] = ()
    gain: float = 1.0
    noise: float = 0.0
    blur: float = 0.0
    seed: int = field(default=0)
    size: tuple[int, int] = SIZE

    def frame(self, t: float) -> np.ndarray:
        """-> (*size, 3) uint8 RGB at `t` seconds."""
        import cv2

        at = max(i for i, part in enumerate(self.parts) if part.start <= t or i == 0)
        part = self.parts[at]
        picture = part.background.frame(t - part.start, self.size).copy()
        u = (t - part.start) / part.blend if part.blend else 1.0
        if at and u < 1:
            before = self.parts[at - 1]
            picture = blend_pictures(part.kind, before.background.frame(t - before.start, self.size), picture, u)
        for track in self.tracks:
            track.paste(picture, t)
        if self.blur:
            picture = cv2.GaussianBlur(picture, (0, 0), self.blur)
        if self.noise or self.gain != 1:
            rng = np.random.default_rng((self.seed, int(t * 1000)))
            grain = rng.normal(0, self.noise, (*self.size, 1)) if self.noise else 0.0
            picture = np.clip(picture * self.gain + grain, 0, 255).astype(np.uint8)
        return np.ascontiguousarray(picture)


def blend_pictures(kind: str, before: np.ndarray, after: np.ndarray, u: float) -> np.ndarray:
    """Mix two pictures at part `u` in [0, 1) of a transition: dissolve, fade (through black), white, wipe or push."""
    import cv2

    edge = int(u * before.shape[1])
    if kind == "wipe":
        return np.concatenate([after[:, :edge], before[:, edge:]], axis=1)
    if kind == "push":
        return np.concatenate([before[:, edge:], after[:, :edge]], axis=1)
    if kind in ("fade", "white"):  # down in the first half, up in the second
        picture, part = (before, 1 - 2 * u) if u < 0.5 else (after, 2 * u - 1)
        return cv2.addWeighted(picture, part, np.full_like(picture, 255 if kind == "white" else 0), 1 - part, 0)
    return cv2.addWeighted(before, 1 - u, after, u, 0)


def premultiply(picture: np.ndarray) -> np.ndarray:
    """RGBA uint8 with colour multiplied by alpha, as Track.paste wants it."""
    out = picture.copy()
    out[..., :3] = (picture[..., :3].astype(np.uint16) * picture[..., 3:] // 255).astype(np.uint8)
    return out
