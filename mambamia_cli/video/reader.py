"""Every frame of a stream with its time, in presentation order. Damaged packets are skipped and counted."""

from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext
from fractions import Fraction
from typing import TYPE_CHECKING

from .container import LIBAV_ERRORS, PLAIN, Decoder, open_container, prepare, seek

if TYPE_CHECKING:
    from .thinning import Thinning

_MAX_READ_ERRORS = 16  # demuxer errors in a row after which the rest of the file is given up
_JUMP = Fraction(1)  # s; times that fall back by more are a new time line (joined broadcasts), by less a damaged frame
_UNKNOWN_RATE = Fraction(25)
# How far before a time to seek, tried in turn until the first frame that comes out is not after it. A seek goes by
# decoding times and may land on a keyframe that is shown a little later than asked; None is the start of the file.
SEEK_BACK = (Fraction(0), Fraction(2), Fraction(15), None)


class FrameReader:
    """Iterate (frame, seconds) over a stream from where its container stands.

    seconds are exact, strictly increasing, and counted from `origin` (the container's time of the first frame).
    `decoded` and `corrupt` count frames that came out and packets (or frames) that were damaged.
    """

    def __init__(self, container, stream, clock: str, origin: Fraction, *, kind: str = "AUTO", decoder: Decoder = PLAIN, thinning: "Thinning | None" = None):
        self.container, self.stream, self.clock, self.origin = container, stream, clock, origin
        self.base = Fraction(stream.time_base)
        rate = stream.average_rate or stream.guessed_rate or _UNKNOWN_RATE
        self.frame_length = 1 / Fraction(rate)
        self.decoded = self.corrupt = 0
        self._sent: deque[int] = deque()  # decoding times of packets whose frame has not come out yet
        self._last: Fraction | None = None
        self._shift = Fraction(0)
        self._thinning = thinning
        if not stream.codec_context.is_open:  # one that was read from before keeps its decoder
            prepare(stream, kind, decoder)

    def __iter__(self) -> Iterator[tuple["object", Fraction]]:
        packets = self._packets() if self._thinning is None else self._thinning.choose(self._packets(), self.stream.codec_context)
        for packet in packets:
            for frame in self._decode(packet):
                self.decoded += 1
                moment = self._moment(frame)
                if frame.is_corrupt:
                    self.corrupt += 1
                elif moment is not None:
                    yield frame, moment

    def length(self, frame) -> Fraction:
        """Seconds a frame stays on screen by its own account: for the last one, which no other ends."""
        ticks = getattr(frame, "duration", 0) or 0
        return ticks * self.base if ticks > 0 and self.clock == "pts" else self.frame_length

    def _packets(self):
        """The stream's packets, then None once, which drains the decoder. A read error is skipped where libav can."""
        errors = 0
        while errors < _MAX_READ_ERRORS:
            try:
                for packet in self.container.demux(self.stream):
                    if packet.size == 0 and packet.dts is None:  # PyAV's end-of-file mark
                        break
                    errors = 0
                    if packet.size:  # an empty one (a repeated picture in AVI) would put the decoder at its end
                        yield packet
                break
            except LIBAV_ERRORS:
                errors += 1
                self.corrupt += 1
        yield None

    def _decode(self, packet) -> list:
        if packet is not None:
            if packet.is_corrupt:
                self.corrupt += 1
                return []
            if self.clock == "dts":
                self._sent.append(packet.dts)
        try:
            return self.stream.codec_context.decode(packet)
        except LIBAV_ERRORS:
            self.corrupt += 1
            if self._sent and packet is not None:
                self._sent.pop()
            return []

    def _moment(self, frame) -> Fraction | None:
        """Seconds from the origin, or None for a frame whose time does not follow the one before."""
        stamp = None
        if self.clock == "pts":
            stamp = frame.pts
        elif self.clock == "dts" and self._sent:
            stamp = self._sent.popleft()
        if stamp is None:  # no time in the container: the frame follows the last one at the coded rate
            moment = Fraction(0) if self._last is None else self._last + self.frame_length
        else:
            moment = stamp * self.base - self.origin + self._shift
        if self._last is not None and moment <= self._last:
            if moment > self._last - _JUMP:
                self.corrupt += 1
                return None
            self._shift += self._last + self.frame_length - moment
            moment = self._last + self.frame_length
        self._last = moment
        return moment


def frames_from(
    info, start: Fraction, counts=None, decoder: Decoder = PLAIN, *, container=None, thinning: "Thinning | None" = None
) -> Iterator[tuple["object", Fraction, Fraction]]:  # fmt: skip
    """(frame, seconds, seconds it lasts by its own account) from the frame on screen at `start` on.

    info: VideoInfo. counts: anything with `decoded` and `corrupt_packets`, kept up to date. Where the container cannot
    seek, or keeps no presentation times, everything before `start` is decoded too and comes out first. container: the file
    already open, wherever it stands, for one that is read from at many times: opening a long film takes longer than a seek.
    thinning: chooses what is decoded; it tells what is left out.
    """
    wasted = 0  # frames decoded after seeks that landed too late
    for back in SEEK_BACK:
        target = None if back is None or info.clock != "pts" else start - back
        shared = nullcontext(container) if container is not None and target is not None else open_container(info.path)
        with shared as source:
            stream = source.streams[info.stream]
            if target is not None and (target <= 0 or not seek(source, stream, target + info.start_time)):
                continue
            if back is not None and target is None:
                continue
            reader = FrameReader(source, stream, info.clock, info.start_time, decoder=decoder, thinning=thinning)
            for i, (frame, shown) in enumerate(reader):
                if i == 0 and shown > start and target is not None:
                    wasted += reader.decoded
                    break
                if counts is not None:
                    counts.decoded, counts.corrupt_packets = wasted + reader.decoded, reader.corrupt
                yield frame, shown, reader.length(frame)
            else:
                if counts is not None:
                    counts.decoded, counts.corrupt_packets = wasted + reader.decoded, reader.corrupt
                if reader.decoded or target is None:
                    return
