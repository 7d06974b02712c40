"""A decoded frame to an upright RGB picture of a given size, by libswscale."""

from fractions import Fraction

import av.filter
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

# AVCOL_SPC_* of a frame (ISO/IEC 23091-2, matrix coefficients) to libswscale's matrices
_MATRIX = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
MANY = 16
_HD_LINES = 720  # from here on, a picture that does not say has BT.709 colours, below it BT.601


class Scaler:
    """`into(frame, out)` writes a frame, upright, into `out` (H, W, 3) uint8 RGB of the size given at the start.

    An interlaced frame is shown by one of its fields, so that movement leaves no comb.
    coarse: for a picture far smaller than the frame, in half the time and less: plain means, and of a frame of at least
    `MANY` lines for each of the picture's every second line alone.
    """

    def __init__(self, size: tuple[int, int], orientation: tuple[bool, bool, bool], *, coarse: bool = False):
        self.orientation, self._coarse = orientation, coarse
        # Bilinear is a tent of twice the width: better for pictures that are looked at, and dearer.
        self._interpolation = Interpolation.AREA if coarse else Interpolation.BILINEAR
        height, width = size
        self.stored = (width, height) if orientation[0] else (height, width)  # before it is turned
        self._reformatter = VideoReformatter()
        self._field: tuple | None = None  # (what the graph was made for, graph)

    def into(self, frame, out: np.ndarray) -> None:
        height, width = self.stored
        matrix = _MATRIX.get(frame.colorspace)
        if matrix is None:
            matrix = Colorspace.ITU709 if frame.height >= _HD_LINES else Colorspace.ITU601
        if frame.interlaced_frame or (self._coarse and frame.height >= MANY * height):
            frame = self._one_field(frame)
        full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
        rgb = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            interpolation=self._interpolation,  # libswscale widens it when it shrinks a picture: no aliasing
            src_colorspace=matrix,
            dst_colorspace=matrix,  # the matrix of RGB is none: naming the same one keeps libswscale from converting
            src_color_range=ColorRange.JPEG if full or frame.format.is_rgb else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            threads=1,  # pictures this small are not worth sharing out: waking the others costs a fifth more in all
        )
        plane = rgb.planes[0]  # its lines are padded
        picture = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : width * 3]
        picture = picture.reshape(height, width, 3)
        transpose, flip_x, flip_y = self.orientation
        if transpose:
            picture = picture.transpose(1, 0, 2)
        out[:] = picture[:: -1 if flip_y else 1, :: -1 if flip_x else 1]

    def _one_field(self, frame):
        """The top field of a frame: half its lines, taken without copying them."""
        kind = (frame.width, frame.height, frame.format.name)
        if self._field is None or self._field[0] != kind:
            graph = av.filter.Graph()
            source = graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1000)  # of no account, but must be one
            )
            field, sink = graph.add("field", "top"), graph.add("buffersink")
            source.link_to(field)
            field.link_to(sink)
            graph.configure()
            self._field = (kind, graph)
        graph = self._field[1]
        graph.push(frame)
        return graph.pull()
