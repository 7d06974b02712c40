"""Sample a few frames of many without decoding the rest: the same frames, for less work.

Decoding is what sampling a long file costs. The packets' presentation times say which frame each tick will get before
any is decoded, so here whole groups of pictures that no tick falls into are passed over, decoding of a group ends at
its last wanted frame, and pictures that no other one refers to (most B-frames) are left out unless wanted. None of the
three changes a wanted frame: what it refers to, and what that refers to, lies in its own group, before it in decoding
order; only pictures shown before their group's keyframe (open groups) also need the group before, which is then decoded.

That holds for undamaged streams of codecs and containers that keep presentation times with their packets. Whatever
does not look so (a missing time, a wanted frame that does not come out or comes out damaged) raises GiveUp, and
the caller reads on from there in the ordinary way.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

from .container import LIBAV_ERRORS, open_container, prepare, seek
from .reader import SEEK_BACK
from .sample import Grid

_CONTAINERS = ("mov", "matroska")
_CODECS = frozenset({"h264", "hevc", "vp9", "libvpx-vp9", "av1", "libdav1d"})
_FEWEST = 3  # frames between ticks from which on it pays
_SHORT_TAIL = 6  # packets after a group's last wanted frame that cost less than emptying the decoder and starting again
_MOST_PACKETS, _MOST_BYTES = 4000, 64 << 20  # of a group held in memory, undecoded


class GiveUp(Exception):
    """The stream is not one of which frames may be left out."""


@dataclass
class _Group:
    """A keyframe's packet and those up to the next keyframe's, in decoding order."""

    packets: list = field(default_factory=list)
    size: int = 0

    def add(self, packet) -> None:
        if packet.pts is None or packet.is_corrupt:
            raise GiveUp
        self.packets.append(packet)
        self.size += packet.size
        if len(self.packets) > _MOST_PACKETS or self.size > _MOST_BYTES:
            raise GiveUp

    @property
    def begin(self) -> int:
        return self.packets[0].pts

    def shown(self, leading: bool) -> list:
        """The packets shown before the keyframe (leading), or from it on. Edit lists hide some altogether."""
        return [p for p in self.packets if (p.pts < self.begin) is leading and not p.is_discard]


def keeps_times(info) -> bool:
    """Whether this video's packets (VideoInfo) tell, before they are decoded, which frame is shown when."""
    return info.clock == "pts" and info.codec in _CODECS and info.container.startswith(_CONTAINERS)


def pays(info, step: Fraction | None) -> bool:
    """Whether sampling every `step` seconds of this video (VideoInfo) can leave frames undecoded."""
    return keeps_times(info) and bool(step and info.fps and step * info.fps >= _FEWEST)


class SparseReader:
    """Iterate (frame, seconds) of the frames a Grid takes. `done_to`: the state to read on from after GiveUp,
    (time of the last frame given, the grid's next tick then). `decoded` counts frames; `duration` is known at the end.
    """

    def __init__(self, info, grid: Grid):
        self.info, self.grid = info, grid
        self.done_to: tuple[Fraction, Fraction] = (grid.start, grid.tick)
        self.decoded, self.duration = 0, None
        self._awaited: deque = deque()  # (pts, grid's next tick after it), in presentation order
        self._due = 0  # wanted frames whose packet the decoder has been given
        self._joined = False  # the decoder stands right before the next group, its references in place

    def __iter__(self) -> Iterator[tuple["object", Fraction]]:
        for back in SEEK_BACK:
            if back is not None and self.grid.start - back <= 0:
                continue
            with open_container(self.info.path) as container:
                stream = container.streams[self.info.stream]
                if back is not None and not seek(container, stream, self.grid.start - back + self.info.start_time):
                    continue
                prepare(stream)
                groups = self._groups(container, stream)
                first = next(groups, None)
                if first is None or not first.shown(leading=False):
                    raise GiveUp
                if back is None and min(p.pts for p in first.packets if not p.is_discard) != self._stamp(Fraction(0)):
                    raise GiveUp  # the file begins inside a group: what comes out of it first is the decoder's choice
                if back is not None and self._seconds(first.begin) > self.grid.start:
                    continue
                yield from self._read(stream.codec_context, first, groups)
                return

    def _read(self, decoder, group: _Group, groups: Iterator[_Group]):
        early: set[int] = set()  # wanted frames among the group's leading ones
        while group is not None:
            following = next(groups, None)
            lead = following.shown(leading=True) if following else []
            wanted = self._choose(group.shown(leading=False) + lead, following)
            late = wanted & {p.pts for p in lead}
            yield from self._decode(decoder, group, early, wanted - late, whole=bool(late))
            if following is not None and self.grid.over(self._seconds(following.begin)) and not late:
                break
            group, early = following, late
        yield from self._empty(decoder)

    def _choose(self, packets: list, following: _Group | None) -> set[int]:
        """The presentation times the grid takes among these packets, which end where the next group's keyframe begins."""
        packets = sorted(packets, key=lambda p: p.pts)
        times = [self._seconds(p.pts) for p in packets]
        if not times or any(a >= b for a, b in pairwise(times)):
            raise GiveUp
        if following is None:
            length = packets[-1].duration or 0
            until = times[-1] + (length * self.info.time_base if length > 0 else 1 / self.info.fps)
            self.duration = until
        else:
            until = self._seconds(following.begin)
            if until <= times[-1]:
                raise GiveUp
        wanted = set()
        for packet, shown, end in zip(packets, times, [*times[1:], until], strict=True):
            if self.grid.take(shown, end):
                wanted.add(packet.pts)
                self._awaited.append((packet.pts, self.grid.tick))
        return wanted

    def _decode(self, decoder, group: _Group, early: set[int], wanted: set[int], whole: bool):
        """Feed what of a group is needed. whole: the next group's leading frames need all of this one."""
        if not (early or wanted or whole):
            yield from self._empty(decoder)
            return
        packets = group.packets
        if not self._joined:
            yield from self._empty(decoder)  # nothing is left of what came before, so its leading frames cannot decode
            packets = [p for p in packets if p.pts >= group.begin]
        last = max((i for i, p in enumerate(packets) if p.pts in wanted or p.pts in early), default=0)
        self._joined = whole or len(packets) - last <= _SHORT_TAIL
        if not self._joined:
            packets = packets[: last + 1]
        for packet in packets:
            needed = packet.pts in wanted or packet.pts in early
            self._due += needed
            decoder.skip_frame = "DEFAULT" if needed else "NONREF"
            yield from self._came_out(decoder, packet)
        if not self._joined:
            yield from self._empty(decoder)

    def _empty(self, decoder):
        """Take what the decoder still holds and set it back to where any keyframe may follow."""
        if decoder.is_open:
            yield from self._came_out(decoder, None)
            decoder.flush_buffers()
        if self._due:
            raise GiveUp
        self._joined = False

    def _came_out(self, decoder, packet):
        try:
            frames = decoder.decode(packet)
        except LIBAV_ERRORS:
            raise GiveUp from None
        for frame in frames:
            self.decoded += 1
            if frame.is_corrupt:
                raise GiveUp
            if self._awaited and frame.pts is not None and frame.pts >= self._awaited[0][0]:
                stamp, tick = self._awaited.popleft()
                self._due -= 1
                if frame.pts != stamp:
                    raise GiveUp
                shown = self._seconds(stamp)
                self.done_to = (shown, tick)
                yield frame, shown

    def _groups(self, container, stream) -> Iterator[_Group]:
        group = None
        try:
            for packet in container.demux(stream):
                if packet.size == 0:
                    continue
                if packet.is_keyframe:
                    if group is not None:
                        yield group
                    group = _Group()
                if group is None:
                    raise GiveUp
                group.add(packet)
        except LIBAV_ERRORS:
            raise GiveUp from None
        if group is not None:
            yield group

    def _seconds(self, stamp: int) -> Fraction:
        return stamp * self.info.time_base - self.info.start_time

    def _stamp(self, seconds: Fraction) -> Fraction:
        return (seconds + self.info.start_time) / self.info.time_base
