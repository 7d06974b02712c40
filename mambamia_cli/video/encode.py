"""Encode frames again, as near to how they were coded as can be: codec, pixel format, colours, shape, rotation, times."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import av

from ..errors import InputError
from .probe import VideoInfo


@dataclass(frozen=True)
class _Coder:
    """An encoder and the options that lose next to nothing with it."""

    name: str
    options: dict[str, str]


_H264 = _Coder("libx264", {"crf": "16", "preset": "medium"})
_CODERS = {
    "h264": _H264,
    "hevc": _Coder("libx265", {"crf": "18", "preset": "medium", "x265-params": "log-level=error"}),
    "vp8": _Coder("libvpx", {"crf": "8", "b": "8M", "deadline": "good", "cpu-used": "2"}),
    "vp9": _Coder("libvpx-vp9", {"crf": "20", "b": "0", "deadline": "good", "cpu-used": "3"}),
    "av1": _Coder("libsvtav1", {"crf": "22", "preset": "8"}),
}
"""By the codec of the video; any other is encoded as H.264."""

_FINE = Fraction(1, 90_000)
"""Time base where the container keeps no times of its own."""

_LOSSLESS_ENOUGH = ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le")


class Encoder:
    """A stream of `out` that frames are encoded into."""

    def __init__(self, out, picture: "av.video.stream.VideoStream", info: VideoInfo):
        self._out, self._info = out, info
        self._held: av.Packet | None = None  # the last one must be told how long it lasts
        self._delay = 0
        self._base = info.time_base if info.clock == "pts" else _FINE
        coder = _CODERS.get(info.codec, _H264)
        try:
            self._stream = out.add_stream(coder.name, rate=info.fps or 25, options=dict(coder.options))
        except (av.FFmpegError, ValueError) as error:
            raise InputError(f"{info.path} has to be encoded again and {coder.name} is not there to do it", "install a PyAV that has it") from error
        self._format = _pixel_format(coder.name, info.pix_fmt)
        self._shape(picture)

    def _shape(self, picture) -> None:
        """What a player must know of the picture."""
        stream, coded, context = self._stream, picture.codec_context, self._stream.codec_context
        stream.width, stream.height, stream.pix_fmt = coded.width, coded.height, self._format
        stream.time_base = context.time_base = self._base
        if coded.sample_aspect_ratio:
            context.sample_aspect_ratio = coded.sample_aspect_ratio
        for name in ("color_range", "color_primaries", "color_trc", "colorspace"):
            setattr(context, name, getattr(coded, name))
        stream.metadata.update(picture.metadata)
        stream.disposition = picture.disposition
        transpose, flip_x, flip_y = self._info.orientation
        mirrored = (flip_x == flip_y) if transpose else (flip_x != flip_y)
        if self._info.rotation or mirrored:
            turn = self._info.rotation if mirrored else -self._info.rotation  # a flip turns the sense of the angle round
            stream.set_display_rotation(turn, hflip=mirrored)

    def run(self, frames: Iterable[tuple["av.VideoFrame", Fraction, Fraction]], beside: Iterator["av.packet.Packet"], end: Fraction | None) -> None:
        """Encode (frame, seconds, seconds it lasts) and put the packets `beside`, which are in the order of time, between them.
        The first frame is shown at 0. `end`: when the last one leaves the screen, None for as long as it lasts by itself."""
        origin, last, stop, ends = None, None, 0, {}  # ends: when a frame that is in the encoder leaves the screen
        self._beside, self._waiting = beside, next(beside, None)
        for frame, shown, length in frames:
            if origin is None:
                # The first piece keeps its distance from sound that begins before it.
                origin = shown - (self._info.offset if shown == 0 else 0)
            tick = round((shown - origin) / self._base)
            if last in ends:
                ends[last] = tick
            ends[tick] = stop = tick + max(1, round(((end - shown) if end is not None else length) / self._base))
            last = tick
            frame = frame if frame.format.name == self._format else frame.reformat(format=self._format)
            frame.pts, frame.time_base = tick, self._base
            frame.pict_type = av.video.frame.PictureType.NONE  # else the encoder would put keyframes where the old ones were
            self._take(self._stream.encode(frame), ends)
        if last is None:
            raise InputError(f"{self._info.path} has no frame to decode there", "check that the file plays there")
        self._take(self._stream.encode(None), ends)
        if self._held is not None:
            last_as_long(self._held, self._delay, stop)
            self._write(self._held)
        while self._waiting is not None:
            self._out.mux(self._waiting)
            self._waiting = next(beside, None)

    def _take(self, packets, ends: dict[int, int]) -> None:
        """Write packets of the picture, all but the last that there is so far."""
        for packet in packets:
            if packet.pts in ends:
                packet.duration = ends.pop(packet.pts) - packet.pts
            if self._held is None:
                self._delay = packet.pts - packet.dts
            else:
                self._write(self._held)
            self._held = packet

    def _write(self, packet) -> None:
        """A packet of the picture, before it those beside it that are due."""
        while self._waiting is not None and _stamp(self._waiting) <= _stamp(packet):
            self._out.mux(self._waiting)
            self._waiting = next(self._beside, None)
        self._out.mux(packet)


def last_as_long(packet, delay: int, stop: int) -> None:
    """Let the last packet in decoding order last until all frames have had their time. `delay`: from the first packet's decoding
    to its presentation, `stop`: when the last frame leaves the screen, both in the packet's time base. (An mp4's length is the
    sum of its packets' lengths in decoding order, where the last one need not be of the last frame.)"""
    if packet.dts is not None:
        packet.duration = max(1, stop - delay - packet.dts)


def _stamp(packet) -> Fraction:
    return (packet.dts if packet.dts is not None else packet.pts) * packet.time_base


def _pixel_format(coder: str, wanted: str) -> str:
    """The video's own where the encoder takes it, else one with as many bits and colours, as far as there is one."""
    taken = [one.name for one in av.codec.Codec(coder, "w").video_formats or ()]
    wanted = wanted.replace("yuvj", "yuv")
    deep = "10" in wanted or "12" in wanted or "16" in wanted
    like = [one for one in _LOSSLESS_ENOUGH if ("10" in one) == deep and one[3:6] == (wanted[3:6] if wanted.startswith("yuv") else "444")]
    return next((one for one in (wanted, *like, *(one for one in _LOSSLESS_ENOUGH if ("10" in one) == deep)) if one in taken), taken[0] if taken else "yuv420p")
