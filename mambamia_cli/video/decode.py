"""Stream the sampled frames of a video, in chunks, from a background thread. Memory does not depend on the length."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..errors import InputError, UsageError
from .arrays import apart
from .channel import Channel
from .container import LIBAV_ERRORS, PLAIN, Decoder, open_container
from .every import Every, Stretch
from .probe import VideoInfo, probe
from .reader import frames_from
from .sample import Grid, SampleSpec
from .scale import Scaler
from .sparse import GiveUp, SparseReader, pays
from .thinning import Thinning
from .thinning import pays as thinning_pays

HANDED = 4
"""Sampled frames that wait to be scaled, where that is the work of another thread."""


@dataclass(frozen=True)
class FrameChunk:
    """Consecutive sampled frames. start: index of the first one among all sampled; frames (m, H, W, 3) uint8 RGB,
    C-contiguous, owned by whoever receives it; times: seconds from the video's first frame, exact, increasing.

    every: all frames that were decoded since the last chunk, sampled or not, in small; None unless asked for."""

    start: int
    frames: np.ndarray
    times: tuple[Fraction, ...]
    every: Stretch | None = None


@dataclass
class DecodeStats:
    """What was read; complete when the stream has been read to its end."""

    sampled: int = 0
    decoded: int = 0
    corrupt_packets: int = 0
    effective_fps: float | None = None
    """Sampled frames over the seconds of the range that the video really covers."""
    max_gap: float | None = None
    """The most seconds between two sampled frames that follow each other."""
    capped: bool = False
    """`max_frames` left out frames that the sampling rate alone would have taken."""
    truncated: bool = False
    """The frames stop well before the end that the headers promise (and the range asks for)."""
    first_time: Fraction | None = None
    last_time: Fraction | None = None
    duration: Fraction | None = None
    """Seconds to the end of the last frame if the video was read to its end, else what its headers say."""


def open_frames(
    path: str | Path,
    spec: SampleSpec,
    *,
    chunk_frames: int = 32,
    queue_chunks: int = 2,
    every: tuple[int, int] | None = None,
    decoder: Decoder = PLAIN,
) -> "FrameStream":
    """Open a video for streaming: iterate the result for FrameChunks of at most `chunk_frames` frames.

    The same frames and times come out whatever `chunk_frames` and `queue_chunks` (chunks decoded ahead). With `every`, a
    (height, width), chunks hold all frames in that size beside the sampled ones; none is then left undecoded, unless
    `decoder` says so (Decoder.whole).
    Raises InputError here for a file that cannot be decoded, UsageError for a range outside the video.
    Errors met while decoding are raised by the iteration.
    """
    if chunk_frames < 1:
        raise UsageError("a chunk holds at least one frame", "ask for a chunk size above zero")
    info = probe(path, stream=spec.stream)
    if info.duration is not None and spec.begin >= info.duration:
        raise UsageError(
            f"the range starts at {float(spec.begin):g} s and {path} ends at {float(info.duration):g} s",
            "give --start an earlier time",
        )
    return FrameStream(info, spec, chunk_frames, queue_chunks, every, decoder)


class FrameStream:
    """An iterator of FrameChunk and a context manager. `info`: what was probed; `stats`: what was read so far.

    Close it, or use it in a `with`, or read it to its end: each joins the decoding thread.
    """

    def __init__(
        self, info: VideoInfo, spec: SampleSpec, chunk_frames: int, queue_chunks: int, every: tuple[int, int] | None, decoder: Decoder
    ):  # fmt: skip
        self.info, self.spec, self.stats = info, spec, DecodeStats(duration=info.duration)
        self.size = spec.size or (info.height, info.width)
        self._chunk_frames, self._queue_chunks, self._decoder = chunk_frames, queue_chunks, decoder
        self._every = None if every is None else Every(every, info)
        self.rest: Stretch | None = None
        """With `every`, at the end: the frames that came after the last chunk."""
        self.ended = False
        """Whether the last frame read was the video's last."""
        self.read = False
        """Whether decoding is done; chunks may wait still."""
        self._channel: Channel | None = None
        self._done = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> FrameChunk:
        if self._done:
            raise StopIteration
        self.start()
        try:
            return next(self._channel)
        except BaseException:
            self._done = True
            raise

    def start(self) -> None:
        """Begin to decode, before the first chunk is asked for."""
        if self._channel is None:
            self._channel = Channel(self._produce, self._queue_chunks, "mambamia-decode" if self._every is None else "mambamia-scale")

    def close(self) -> None:
        """Stop decoding and join the thread. What was read so far stays in `stats`."""
        self._done = True
        if self._channel is not None:
            self._channel.close()

    # Below, everything runs in the decoding thread, or where every frame is wanted in two: one decodes and makes the small
    # pictures, which is more than all else that is done to a frame, the other scales the sampled ones.

    def _produce(self, put: Callable[[FrameChunk], None]) -> None:
        step, self.stats.capped = self.spec.step(self._range_end())
        grid = Grid(self.spec.begin, self.spec.end, step, self.info.time_base)
        chunk = _ChunkBuilder(self._chunk_frames, self.size)
        scaler = Scaler(self.size, self.info.orientation)
        with closing(self._taken(grid) if self._every is None else Channel(lambda hand: self._hand_over(grid, hand), HANDED, "mambamia-decode")) as frames:
            for frame, moment, full, stretch in frames:
                scaler.into(frame, chunk.room())
                chunk.times.append(moment)
                self._count(moment)
                if full:
                    put(chunk.cut(stretch))
        if chunk.times:
            put(chunk.cut(self._small()))
        self.rest = self._small()
        if self.spec.fps is None and self.spec.max_frames is not None:
            self.stats.capped = grid.passed > 0
        self._finish()
        self.read = True

    def _hand_over(self, grid: Grid, hand: Callable[[Any], None]) -> None:
        with closing(self._taken(grid)) as frames:
            for taken in frames:
                hand(taken)

    def _taken(self, grid: Grid) -> Iterator[tuple["object", Fraction, bool, "Stretch | None"]]:
        """(frame, time) of the frames the grid takes, whether a chunk is full with it, and if so all frames since the last one, in small."""
        with closing(self._sampled(grid)) as frames:
            for count, (frame, shown) in enumerate(frames, 1):
                full = count % self._chunk_frames == 0
                yield frame, grid.time(shown), full, self._small() if full else None

    def _small(self) -> "Stretch | None":
        """All frames since the last call, in small, where they are wanted."""
        return None if self._every is None else self._every.cut()

    def _sampled(self, grid: Grid) -> Iterator[tuple["object", Fraction]]:
        """(frame, time) of the frames the grid takes, in the cheapest way that gives exactly these."""
        begin, given = grid.start, None
        if self._every is None and pays(self.info, grid.step):
            reader = SparseReader(self.info, grid)
            try:
                for item in reader:
                    yield item
                    given = item[1]
                    self.stats.decoded = reader.decoded
                self.stats.decoded = reader.decoded
                self.stats.duration = reader.duration or self.stats.duration
                return
            except GiveUp:
                begin, grid.tick = reader.done_to
        for item in self._dense(grid, begin):
            # the last frame given may be on screen for further ticks where those after it turn out to be damaged
            if given is None or item[1] > given:
                yield item

    def _dense(self, grid: Grid, begin: Fraction) -> Iterator[tuple["object", Fraction]]:
        """The frames the grid takes, by decoding every one from the one on screen at `begin` on."""
        previous = None  # (frame, time, seconds it lasts by its own account)
        thinning = self._thinning(grid)
        with closing(frames_from(self.info, begin, self.stats, self._decoder, thinning=thinning)) as frames:
            for frame, shown, length in frames:
                if self._every is not None:
                    self._every.add(frame, shown, thinning.left_out(shown) if thinning else ())
                if previous is not None and grid.take(previous[1], shown):
                    yield previous[:2]
                previous = frame, shown, length
                if grid.over(shown):
                    return
        self.ended = True
        if previous is not None:
            frame, shown, length = previous
            self.stats.duration = shown + length
            if grid.take(shown, shown + length):
                yield frame, shown

    def _thinning(self, grid: Grid) -> Thinning | None:
        every = self._every
        if every is None or self._decoder.whole or not thinning_pays(self.info, grid.step):
            return None
        return Thinning(self.info, grid, every.is_smooth)

    def _count(self, moment: Fraction) -> None:
        stats = self.stats
        if stats.last_time is not None:
            stats.max_gap = max(stats.max_gap or 0.0, float(moment - stats.last_time))
        stats.first_time = moment if stats.first_time is None else stats.first_time
        stats.last_time = moment
        stats.sampled += 1

    def _finish(self) -> None:
        stats, spec = self.stats, self.spec
        if not stats.sampled:
            end = f"{float(stats.duration):g} s" if stats.duration else "its end"
            raise InputError(
                f"{self.info.path} has no frame to decode from {float(spec.begin):g} s to {end}",
                "choose another range, or check that the file plays there",
            )
        end = min(spec.end, stats.duration) if spec.end and stats.duration else stats.duration
        if end and end > spec.begin:
            stats.effective_fps = float(stats.sampled / (end - spec.begin))
        promised = self.info.duration
        if promised is not None and stats.duration is not None:
            wanted = min(promised, spec.end or promised)
            # sound may outlast the picture a little, and a container may know no other duration
            stats.truncated = stats.duration < wanted - max(Fraction(1, 2), promised / 20)

    def _range_end(self) -> Fraction | None:
        """Where the range ends, when that has to be known before the first frame (to spread `max_frames`)."""
        ends = [t for t in (self.spec.end, self.info.duration) if t is not None]
        if self.spec.max_frames is not None and self.info.duration is None:
            ends.append(measure_duration(self.info))
        return min(ends, default=None)


class _ChunkBuilder:
    """Room for the frames of the chunk in the making."""

    def __init__(self, capacity: int, size: tuple[int, int]):
        self._shape = (capacity, *size, 3)
        self._frames: np.ndarray | None = None
        self._start = 0
        self.times: list[Fraction] = []

    def room(self) -> np.ndarray:
        if self._frames is None:
            self._frames = apart(self._shape)
        return self._frames[len(self.times)]

    def cut(self, every: Stretch | None) -> FrameChunk:
        count = len(self.times)
        chunk = FrameChunk(self._start, self._frames[:count], tuple(self.times), every)
        self._start, self._frames, self.times = self._start + count, None, []
        return chunk


def measure_duration(info: VideoInfo) -> Fraction | None:
    """Seconds from the first frame to the end of the last, by reading every packet and decoding none."""
    count, last = 0, None
    with open_container(info.path) as container:
        stream = container.streams[info.stream]
        try:
            for packet in container.demux(stream):
                count += bool(packet.size)
                stamp = packet.pts if packet.pts is not None else packet.dts
                last = stamp if last is None or (stamp is not None and stamp > last) else last
        except LIBAV_ERRORS:
            pass  # damaged further on: so far is what can be decoded
        length = 1 / (info.fps or Fraction(25))
        if info.clock == "rate" or last is None:
            return count * length or None
        return last * Fraction(stream.time_base) - info.start_time + length
