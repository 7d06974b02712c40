"""What a video file holds: its headers, its first packets' times, and its first frame."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np

from ..errors import InputError
from .container import LIBAV_ERRORS, clock_of, open_container, pick_stream
from .reader import FrameReader

_COUNTED_PACKETS = 240  # how many packets are looked at to tell a variable frame rate


@dataclass(frozen=True)
class VideoInfo:
    """One video stream of a file. Sizes in pixels, upright and with square pixels; times in seconds."""

    path: Path
    container: str
    codec: str
    width: int
    height: int
    duration: Fraction | None
    start_time: Fraction
    """Presentation time of the first frame as the container has it. It is removed from every time given out."""
    fps: Fraction | None
    time_base: Fraction
    rotation: int
    """Degrees the stored picture is turned clockwise to be upright: 0, 90, 180 or 270."""
    vfr: bool | None
    frames: int | None
    has_audio: bool
    stream: int
    pix_fmt: str
    interlaced: bool
    clock: str
    """Where times come from: "pts" (presentation times), "dts" (decoding times put in order: AVI) or "rate" (the
    container holds no times at all, as raw H.264: frames are counted at the coded frame rate)."""
    orientation: tuple[bool, bool, bool]
    """(transpose, flip left-right, flip top-bottom), in this order, that make the stored picture upright."""
    offset: Fraction = Fraction(0)
    """Seconds by which the file, and with it a player's clock, begins before the first frame: sound that starts earlier."""


def probe(path: str | Path, *, stream: int | None = None) -> VideoInfo:
    """Read what `path` holds: headers, the first packets' times, and its first frame, which must decode.

    stream: container index of the video stream; None for the main one.
    Raises InputError when the file is missing, is no video, holds no video stream, or no frame of it decodes.
    """
    with open_container(path) as container:
        chosen = pick_stream(container, stream)
        index, clock = chosen.index, clock_of(container, chosen)
        has_audio = bool(container.streams.audio)
        reader = FrameReader(container, chosen, clock, Fraction(0), kind="SLICE")
        first = next(iter(reader), None)
        if first is None:
            raise InputError(f"no frame of {path} can be decoded", "check that it plays, or convert it")
        frame, start_time = first
        turned = orientation(frame)
        height, width = display_size(frame, chosen.codec_context.sample_aspect_ratio, turned)
        fps = chosen.average_rate or chosen.guessed_rate or None
        facts = {
            "container": container.format.name,
            "codec": chosen.codec_context.name,
            "fps": Fraction(fps) if fps else None,
            "time_base": Fraction(chosen.time_base),
            "frames": chosen.frames or None,
            "pix_fmt": frame.format.name,
            "duration": _duration(container, chosen, start_time, clock),
            "offset": _offset(container, start_time, clock),
        }
        field_order = getattr(chosen.codec_context, "field_order", 0)  # 0 unknown, 1 progressive, 2.. interlaced
        interlaced = bool(frame.interlaced_frame or field_order > 1)
    with open_container(path) as container:  # a fresh start for the packets: seeking back is not exact everywhere
        vfr = None if clock == "rate" else _is_vfr(container, container.streams[index], clock)
    return VideoInfo(
        path=Path(path), width=width, height=height, start_time=start_time, rotation=_degrees(turned), vfr=vfr,
        has_audio=has_audio, stream=index, interlaced=interlaced, clock=clock, orientation=turned, **facts,
    )  # fmt: skip


def orientation(frame) -> tuple[bool, bool, bool]:
    """(transpose, flip left-right, flip top-bottom) from a frame's display matrix, to the nearest right angle.

    The matrix maps a stored point to a shown one, x' = a x + c y, y' = b x + d y (ISO/IEC 14496-12, 6.2.2).
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return False, False, False
    a, b, _, c, d = (int(v) for v in np.frombuffer(data, np.int32, 5))
    if abs(b) + abs(c) > abs(a) + abs(d):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


def _degrees(turned: tuple[bool, bool, bool]) -> int:
    transpose, flip_x, flip_y = turned
    if transpose:
        return 90 if flip_x else 270
    return 180 if flip_x and flip_y else 0


def display_size(frame, aspect: Fraction | None, turned: tuple[bool, bool, bool]) -> tuple[int, int]:
    """(height, width) a player shows: pixels made square by widening or narrowing the picture, then turned."""
    width = max(1, round(frame.width * aspect)) if aspect and aspect > 0 else frame.width
    return (width, frame.height) if turned[0] else (frame.height, width)


def _duration(container, stream, start_time: Fraction, clock: str) -> Fraction | None:
    """Seconds from the first frame to the end of the picture, as the headers say; None when they do not."""
    if stream.duration:
        begin = stream.start_time if stream.start_time is not None and clock == "pts" else None
        offset = start_time - begin * stream.time_base if begin is not None else 0
        length = stream.duration * stream.time_base - max(offset, 0)
    elif container.duration:
        length = Fraction(container.duration, 1_000_000)
        if container.start_time is not None and clock == "pts":
            length -= start_time - Fraction(container.start_time, 1_000_000)
    else:
        return None
    return Fraction(length) if length > 0 else None


def _offset(container, start_time: Fraction, clock: str) -> Fraction:
    """VideoInfo.offset; what is less than a millisecond is rounding."""
    if container.start_time is None or clock != "pts":
        return Fraction(0)
    early = start_time - Fraction(container.start_time, 1_000_000)
    return early if early >= Fraction(1, 1000) else Fraction(0)


def _is_vfr(container, stream, clock: str) -> bool | None:
    """Whether the first packets' times are unevenly spaced by more than the container's rounding of them."""
    times = []
    try:
        for packet in islice(container.demux(stream), _COUNTED_PACKETS):
            moment = packet.pts if clock == "pts" else packet.dts
            if moment is not None and packet.size:
                times.append(moment)
    except LIBAV_ERRORS:
        pass  # damaged further on: what was read so far is judged
    # the newest few may still be out of order: their neighbours in time have not been read yet
    times = sorted(times)[: len(times) if len(times) < _COUNTED_PACKETS - 1 else -16]
    steps = np.diff(times)
    if len(steps) < 2:
        return None
    return bool(steps.max() - steps.min() > max(2, Fraction(1, 500) / Fraction(stream.time_base)))
