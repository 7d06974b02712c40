"""Cut a video into pieces at given frames. A piece is copied where that gives exactly its frames, else encoded again.

Copying is exact when the piece's first frame is a keyframe and all packets from there to its last frame, in decoding order,
show frames of the piece: no frame before it leans on what comes after the cut, and none of its own on what lies outside.
Sound and subtitles are copied either way, by the time their packets begin, so that pieces side by side hold each packet once.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import InputError
from .container import open_container, seek
from .containers import PIECES
from .encode import Encoder, last_as_long
from .probe import VideoInfo, probe
from .reader import frames_from
from .remux import begin, copied_streams, move, muxer, opened_to_copy, packets_of
from .sample import LONGEST_TOLERANCE

_BEFORE = Fraction(10)
"""Seconds before a piece from which packets are read: sound may lie farther back in the file than the picture, and a subtitle
that is still on screen began earlier."""

_AFTER = Fraction(12)
"""Seconds past a piece after which no stream's packets of it are waited for."""

_TEXT = frozenset({"srt", "subrip", "ass", "ssa", "mov_text", "webvtt", "text"})
"""Subtitles that may begin in one piece and last into the next."""


@dataclass(frozen=True)
class Piece:
    """[start, end) in seconds from the first frame, exact; end None: to the end of the file. `packets` is the number of the
    picture's packets where it is copied, None where it is encoded again; `why` says then what forbids the copy."""

    n: int
    start: Fraction
    end: Fraction | None
    packets: int | None
    why: str = ""

    @property
    def copied(self) -> bool:
        return self.packets is not None


def ending_for(source: Path) -> str:
    """The container of the pieces, as a file ending."""
    suffix = source.suffix.lower()
    return suffix if suffix in PIECES else ".mkv"


def plan_pieces(source: Path, starts: Sequence[Fraction], end: Fraction | None, *, stream: int | None = None) -> tuple[VideoInfo, list[Piece]]:
    """The pieces that begin at the frames presented at or first after `starts` (increasing, seconds from the first frame) and
    how each can be made. `end`: where the last one ends, None for the file's end. A piece without a frame is left out.

    Reads every packet of the picture once and decodes none. Raises InputError as `probe` does.
    """
    info = probe(source, stream=stream)
    if info.clock != "pts":
        why = "the file keeps no presentation times"
        bounds = [*starts, end]
        return info, [Piece(n, a, b, None, why) for n, (a, b) in enumerate(pairwise(bounds), 1)]
    pts, key = _packets(info)  # (p,) int64 in units of the time base, (p,) bool, in decoding order
    shown = np.unique(pts)
    shown = shown[shown * info.time_base >= info.start_time - min(info.time_base / 2, LONGEST_TOLERANCE)] if len(shown) else shown
    at = sorted({i for t in starts if (i := _frame_from(shown, t, info)) < len(shown)})
    stop = len(shown) if end is None else _frame_from(shown, end, info)
    bounds = [*[i for i in at if i < stop], stop]
    pieces = []
    for n, (a, b) in enumerate(pairwise(bounds), 1):
        last = int(shown[b]) if b < len(shown) else None
        packets, why = _copyable(pts, key, int(shown[a]), last)
        pieces.append(Piece(n, _time(shown[a], info), None if last is None else _time(last, info), packets, why))
    return info, pieces


def _packets(info: VideoInfo) -> tuple[np.ndarray, np.ndarray]:
    pts, key = [], []
    with open_container(info.path) as container:
        for packet in packets_of(container, info.path, container.streams[info.stream]):
            if packet.pts is not None:
                pts.append(packet.pts)
                key.append(packet.is_keyframe)
    return np.array(pts, np.int64), np.array(key, bool)


def _frame_from(shown: np.ndarray, moment: Fraction, info: VideoInfo) -> int:
    """Index of the first frame presented at a time or after it."""
    tolerance = min(info.time_base / 2, LONGEST_TOLERANCE)
    ticks = (moment + info.start_time - tolerance) / info.time_base
    return int(np.searchsorted(shown, -(-ticks.numerator // ticks.denominator)))


def _time(ticks: int, info: VideoInfo) -> Fraction:
    return int(ticks) * info.time_base - info.start_time


def _copyable(pts: np.ndarray, key: np.ndarray, first: int, stop: int | None) -> tuple[int | None, str]:
    """(packets, "") or (None, what forbids it) of the piece of the frames with first <= pts < stop."""
    inside = np.flatnonzero((pts >= first) & (pts < (stop if stop is not None else pts.max() + 1)))
    if not key[inside[0]] or pts[inside[0]] != first:
        return None, "its first frame is no keyframe"
    if len(inside) != inside[-1] - inside[0] + 1:
        return None, "frames on both sides of its cuts refer to each other"
    return len(inside), ""


def write_piece(info: VideoInfo, piece: Piece, file: BinaryIO, ending: str) -> None:
    """Write one piece into `file`. Its first frame is shown at 0, or, of the first piece, when the video's own is.

    A file that seeks beyond where it was asked to is read again from its beginning. Raises InputError for a damaged file,
    UsageError where the container cannot hold a stream.
    """
    for back in (_BEFORE, None):
        file.seek(0)
        file.truncate()
        if _write(info, piece, file, ending, back) == piece.packets:
            return
    raise InputError(f"{info.path} gives other packets each time it is read", "convert it first")


def _write(info: VideoInfo, piece: Piece, file: BinaryIO, ending: str, back: Fraction | None) -> int | None:
    """Try it, reading from so long before the piece on (None: from the file's beginning). -> packets of the picture, if copied."""
    with ExitStack() as stack:
        container = stack.enter_context(opened_to_copy(info.path, info.clock))
        out = stack.enter_context(muxer(file, ending))
        out.metadata.update(container.metadata)
        picture = container.streams[info.stream]
        made: list[Encoder] = []
        anew = None if piece.copied else lambda: made.append(Encoder(out, picture, info))
        targets, _ = copied_streams(container, out, ending, info.path, picture=info.stream, anew=anew)
        begin(out, info.path, ending)
        begin_at = piece.start + info.start_time
        if back is not None and piece.start > 0 and begin_at - back > 0 and info.clock == "pts":
            seek(container, picture, begin_at - back)
        cut = _Cut(piece, info, container)
        packets = cut.packets(container, targets)
        if not made:
            for packet in packets:
                out.mux(packet)
            return cut.pictures
        with closing(_frames(info, piece)) as frames:
            made[0].run(frames, packets, piece.end)
        return None


class _Cut:
    """Which packets are a piece's, moved to where they are in it."""

    def __init__(self, piece: Piece, info: VideoInfo, container):
        self._info, self._count, self.pictures, self._delay = info, piece.packets, 0, 0
        self._from = piece.start + info.start_time
        self._to = None if piece.end is None else piece.end + info.start_time
        self.zero = self._from
        if piece.start == 0:  # what the file has before its first frame belongs to the first piece
            early = Fraction(container.start_time or 0, 1_000_000)
            self.zero = min(self._from, early if self._from - early > Fraction(1, 1000) else self._from)
            self._from = None

    def packets(self, container, targets) -> Iterator["object"]:
        """The piece's packets of all copied streams, in the file's order."""
        waiting = {index for index, target in targets.items() if target.type in ("video", "audio")}
        for packet in packets_of(container, self._info.path):
            index, stamp = packet.stream.index, packet.dts if packet.dts is not None else packet.pts
            moment = stamp * packet.time_base
            if self._to is not None:
                if moment >= self._to:
                    waiting.discard(index)
                if not waiting or moment >= self._to + _AFTER:
                    return
            if index in targets and self._take(packet):
                move(packet, -round(self.zero / packet.time_base))
                if index == self._info.stream:
                    self._time_last(packet)
                packet.stream = targets[index]
                yield packet

    def _time_last(self, packet) -> None:
        """The packets of the picture in turn: the last of them is told how long it lasts."""
        if self.pictures == 1:
            self._delay = packet.pts - (packet.pts if packet.dts is None else packet.dts)
        if self.pictures == self._count and self._to is not None:
            last_as_long(packet, self._delay, round((self._to - self.zero) / packet.time_base))

    def _take(self, packet) -> bool:
        """Whether a packet is of the piece; a subtitle on screen at one of its ends is shortened to fit."""
        base = packet.time_base
        shown = (packet.pts if packet.pts is not None else packet.dts) * base
        late = self._to is not None and shown >= self._to
        if packet.stream.codec_context is not None and packet.stream.codec_context.name in _TEXT and packet.duration:
            stop = shown + packet.duration * base
            start = shown if self._from is None else max(shown, self._from)
            stop = stop if self._to is None else min(stop, self._to)
            if late or stop <= start:
                return False
            packet.pts = packet.dts = round(start / base)
            packet.duration = max(1, round((stop - start) / base))
            return True
        early = self._from is not None and shown < self._from
        if early or late:
            return False
        self.pictures += packet.stream.index == self._info.stream
        return True


def _frames(info: VideoInfo, piece: Piece) -> Iterator[tuple["object", Fraction, Fraction]]:
    """(frame, seconds from the video's first, seconds it lasts by its own account) of the piece."""
    tolerance = min(info.time_base / 2, LONGEST_TOLERANCE)
    with closing(frames_from(info, piece.start)) as frames:
        for frame, shown, length in frames:
            if piece.end is not None and shown >= piece.end - tolerance:
                return
            if shown >= piece.start - tolerance:
                yield frame, shown, length
