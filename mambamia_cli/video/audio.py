"""The sound of a video as 16 kHz mono windows, streamed: memory does not depend on the length.

Times are those of the picture: second 0 is the first frame. Sound that begins later is preceded by silence, sound that
begins earlier is cut, and where packets are missing silence stands in, so that sound and frames stay together.
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from .container import LIBAV_ERRORS, open_container, seek
from .probe import VideoInfo, probe

RATE = 16_000  # samples a second
WINDOW = 30 * RATE  # samples: what the audio encoders of the Whisper family take at once
_SLACK = RATE // 10  # samples; time stamps that differ by less from the samples counted are rounding
_READ_ERRORS = 16  # demuxer errors in a row after which the rest of the file is given up
_BEFORE = Fraction(1)  # s before a start that are decoded too: codecs need what came before to settle


def has_sound(path: str | Path) -> bool:
    """Whether a file holds sound that can be decoded. Raises InputError when it cannot be opened."""
    with open_container(path) as container:
        return _pick(container) is not None


def open_sound(path: str | Path, start: Fraction | float = 0, end: Fraction | float | None = None, *,
               info: VideoInfo | None = None) -> Iterator[np.ndarray]:  # fmt: skip
    """Windows (n,) float32 in [-1, 1]: each WINDOW samples, the last one what is left. Nothing comes where there is no sound.

    start, end: seconds from the first frame; end None = to the end of the sound. Damaged packets are left out.
    Raises InputError as `probe` does.
    """
    info = info or probe(path)
    begin = Fraction(start)
    length = None if end is None else max(0, round((Fraction(end) - begin) * RATE))
    buffer = _Windows(length)
    with open_container(path) as container:
        stream = _pick(container)
        if stream is None:
            return
        origin = info.start_time if info.clock == "pts" else Fraction(stream.start_time or 0) * stream.time_base
        if begin > _BEFORE:
            seek(container, stream, begin + origin - _BEFORE)
        for samples, moment in _resampled(container, stream):
            if moment is not None:
                buffer.place(round((moment - origin - begin) * RATE))
            yield from buffer.push(samples)
            if buffer.full:
                break
    yield from buffer.rest()


def _pick(container):
    """The sound stream that players choose: default-marked, else the first; None when none can be decoded."""
    streams = [s for s in container.streams.audio if s.codec_context is not None]
    default = av.stream.Disposition.default
    return max(streams, key=lambda s: (bool(s.disposition & default), -s.index), default=None)


def _resampled(container, stream) -> Iterator[tuple[np.ndarray, Fraction | None]]:
    """(samples (n,) float32 mono at RATE, container time of the first one where it is known), in order."""
    resampler = _resampler()
    for frame in _frames(container, stream):
        try:
            pieces = resampler.resample(frame)
        except LIBAV_ERRORS:  # the format changed within the stream: what the old resampler still held is a few samples
            resampler = _resampler()
            pieces = resampler.resample(frame)
        for piece in pieces:
            known = piece.pts is not None and piece.time_base is not None
            yield piece.to_ndarray().reshape(-1) / np.float32(1 << 15), piece.pts * Fraction(piece.time_base) if known else None


def _resampler() -> "av.AudioResampler":
    # To 16-bit numbers channels are mixed so that none can overflow: two become their mean. To floats they would be summed.
    return av.AudioResampler(format="s16", layout="mono", rate=RATE)


def _frames(container, stream) -> Iterator["av.AudioFrame | None"]:
    """Decoded frames, then None, which drains the resampler."""
    errors = 0
    while errors < _READ_ERRORS:
        try:
            for packet in container.demux(stream):
                errors = 0
                try:
                    yield from packet.decode()
                except LIBAV_ERRORS:
                    continue
            break
        except LIBAV_ERRORS:
            errors += 1
    yield None


class _Windows:
    """Samples in, whole windows out. `place` says where the next samples belong; a gap becomes silence, an overlap is cut."""

    def __init__(self, length: int | None):
        self._length, self._written, self._skip = length, 0, 0
        self._window, self._filled = np.zeros(WINDOW, np.float32), 0
        self._silence = 0

    @property
    def full(self) -> bool:
        return self._length is not None and self._written >= self._length

    def place(self, at: int) -> None:
        """The next samples begin at sample `at` of the range; before 0 they are not wanted."""
        off = at - self._written
        if abs(off) > _SLACK or (self._written == 0 and off):
            self._silence, self._skip = max(0, off), max(0, -off)

    def push(self, samples: np.ndarray) -> Iterator[np.ndarray]:
        while self._silence and not self.full:  # by the window, so that a long gap needs no long array
            some = min(self._silence, WINDOW)
            self._silence -= some
            yield from self._write(np.zeros(some, np.float32))
        cut = min(self._skip, len(samples))
        self._skip -= cut
        yield from self._write(samples[cut:])

    def rest(self) -> Iterator[np.ndarray]:
        if self._filled:
            yield self._window[: self._filled].copy()
            self._filled = 0

    def _write(self, samples: np.ndarray) -> Iterator[np.ndarray]:
        if self._length is not None:
            samples = samples[: self._length - self._written]
        self._written += len(samples)
        while len(samples):
            some = min(len(samples), WINDOW - self._filled)
            self._window[self._filled : self._filled + some] = samples[:some]
            self._filled, samples = self._filled + some, samples[some:]
            if self._filled == WINDOW:
                whole, self._window, self._filled = self._window, np.zeros(WINDOW, np.float32), 0
                yield whole
