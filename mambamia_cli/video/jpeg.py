"""RGB pictures to JPEG files, by libav: no imaging library is needed."""

from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation

QUANTIZERS = (3, 5, 8, 12, 18, 26)
"""libav's scale of a JPEG's quality, from hardly any loss to visible blocks."""


def fit(size: tuple[int, int], box: tuple[int, int]) -> tuple[int, int]:
    """The largest (height, width) within `box`, of the proportions of `size` and no larger than it; even, at least 2."""
    scale = min(box[0] / size[0], box[1] / size[1], 1.0)
    return max(2, round(size[0] * scale / 2) * 2), max(2, round(size[1] * scale / 2) * 2)


def encode(picture: np.ndarray, size: tuple[int, int] | None = None, *, most: int | None = None) -> bytes:
    """A picture (H, W, 3) uint8 RGB as the bytes of a JPEG file, scaled to `size` (height, width) where one is given.

    most: bytes it should not exceed: its quality is lowered for that, as far as the worst of `QUANTIZERS`.
    """
    height, width = size or picture.shape[:2]
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24").reformat(
        width=width, height=height, format="yuvj420p", interpolation=Interpolation.BILINEAR,
        dst_colorspace=Colorspace.ITU601, dst_color_range=ColorRange.JPEG,  # what JFIF says a JPEG holds
    )  # fmt: skip
    for quantizer in QUANTIZERS:
        data = _encode(frame, quantizer)
        if most is None or len(data) <= most:
            break
    return data


def _encode(frame, quantizer: int) -> bytes:
    codec = av.CodecContext.create("mjpeg", "w")
    codec.width, codec.height, codec.pix_fmt = frame.width, frame.height, "yuvj420p"
    codec.time_base, frame.time_base, frame.pts = Fraction(1, 25), Fraction(1, 25), 0
    codec.options = {"qmin": str(quantizer), "qmax": str(quantizer)}
    return b"".join(bytes(packet) for packet in (*codec.encode(frame), *codec.encode(None)))
