"""How fast a file is decoded: frames of video a second, sampled and scaled as the encoder would have them."""

import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ..video.decode import open_frames
from ..video.sample import SampleSpec


@dataclass(frozen=True)
class DecodeSpeed:
    """video_seconds of video were gone through in `seconds`; `decoded` frames came out of libav, `sampled` were kept."""

    seconds: float
    video_seconds: float
    sampled: int
    decoded: int
    frames_per_second: float
    """Frames of the video gone through a second, the ones that could be left undecoded included."""


def decode_speed(
    path: str | Path,
    *,
    fps: Fraction | float | None = 1,
    size: tuple[int, int] = (224, 224),
    seconds: float | None = None,
) -> DecodeSpeed:
    """Time reading `path` sampled at `fps` (None: every frame), scaled to `size` (height, width), up to `seconds` of it.

    Opening and probing the file is part of the time. Raises what `open_frames` raises.
    """
    began = time.perf_counter()
    end = None if seconds is None else Fraction(seconds)
    spec = SampleSpec(fps=None if fps is None else Fraction(fps), end=end, size=size)
    with open_frames(path, spec) as stream:
        for _ in stream:
            pass
    took = time.perf_counter() - began
    stats, rate = stream.stats, stream.info.fps or Fraction(25)
    covered = min(t for t in (stats.duration, end) if t is not None)
    frames = float(covered * rate) if stream.info.fps else stats.decoded
    return DecodeSpeed(took, float(covered), stats.sampled, stats.decoded, frames / took)
