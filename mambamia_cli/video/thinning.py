"""Leave frames undecoded that the ones beside them tell: where every frame is looked at in small and the picture goes on smoothly.

Half of all frames of a usual H.264 or HEVC file are such that no other is made from: B-frames, whose place in the order of
decoding comes after a frame that is shown later. `Thinning` has these left out, each of them a mixture of its neighbours to
the one who asks (every.Every), but for

- those that are sampled: what the encoder sees is decoded,
- all where the picture does not go on smoothly, as the frames that were decoded before show,
- those before a frame whose packet is far larger than is usual, as that of a new picture is: a cut is told to the frame.

Packets come in groups: an anchor, a frame shown later than all before it, and the frames that are shown between the anchor
before and this one. Anchors are always decoded. That holds for streams of the kinds that sparse.py reads; where times
are missing or out of order, or a packet is damaged, nothing is left out from there on.
"""

from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from math import lcm
from statistics import median

from .sample import Grid
from .sparse import keeps_times

LARGE, BYTE = 2.5, 1 / 400
"""How many times what is usual the packet of an anchor has at least after a cut; bytes a pixel that what is usual is never below."""

USUAL, FEW = 24, 8
"""Anchors that the usual is the median of, and how many of them tell nothing yet."""

LONGEST = 32
"""Packets of a group, at most: more than a codec's B-frames between two others."""


def pays(info, step: Fraction | None) -> bool:
    """Whether of this video (VideoInfo), sampled every `step` seconds, frames can be left out."""
    return keeps_times(info) and bool(step and info.fps and step * info.fps >= 2)


class Thinning:
    """`choose` hands a stream's packets on to the decoder, `left_out` tells what did not come out of it.

    info: VideoInfo; grid: the ticks of the sampling, as they stand before the first frame; is_smooth: whether the picture goes on
    smoothly where frames came out last.
    """

    def __init__(self, info, grid: Grid, is_smooth: Callable[[], bool]):
        self._info, self._ticks, self._is_smooth = info, grid, is_smooth
        known = (info.time_base, info.start_time, grid.start, grid.end or 0, grid.step, grid.tolerance)
        self._unit = lcm(*(Fraction(t).denominator for t in known))  # of a second: all times are whole numbers of it
        self._beat, self._origin = int(info.time_base * self._unit), int(info.start_time * self._unit)
        self._begin()

    def _begin(self) -> None:
        self._grid = self._ticks.counted(self._unit)
        self._sizes: deque[int] = deque(maxlen=USUAL)  # bytes of the last anchors
        self._sent: deque[int] = deque()  # times of frames whose packets the decoder was given, in presentation order
        self._anchor: int | None = None  # time of the last one
        self._lost = False  # whether frames came out at other times than their packets said

    def choose(self, packets: Iterator, decoder) -> Iterator:
        """The packets, all of them, in order; the decoder is told of each whether a frame that no other is made from may be skipped.
        A second call begins anew, with the packets from elsewhere in the stream."""
        self._begin()
        group: list = []
        for packet in packets:
            if packet is not None and (self._lost or packet.pts is None or packet.is_corrupt or len(group) == LONGEST):
                break
            if group and (packet is None or packet.pts > group[0].pts):
                if not self._is_in_order(group):
                    break
                yield from self._thinned(group, decoder)
                group = []
            if packet is None:
                break
            group.append(packet)
        decoder.skip_frame = "DEFAULT"  # at the end, or where it is not known any more what is shown when
        yield from group
        yield packet
        yield from packets

    def left_out(self, shown: Fraction) -> list[Fraction]:
        """Times of the frames that were left out before the one that came out and is presented at `shown`."""
        now, passed = shown * self._unit, []
        while self._sent and self._sent[0] <= now:
            passed.append(self._sent.popleft())
        if not passed or passed[-1] != now:  # no packet promised it
            self._lost = True
            self._sent.clear()
            return []
        return [Fraction(t, self._unit) for t in passed[:-1]]

    def _is_in_order(self, group: list) -> bool:
        """Whether all frames of a group are shown after the last anchor, each at a time of its own."""
        times = sorted(p.pts for p in group)
        return all(a < b for a, b in pairwise(times)) and (self._anchor is None or self._time(times[0]) > self._anchor)

    def _thinned(self, group: list, decoder) -> Iterator:
        order = sorted((p for p in group if not p.is_discard), key=lambda p: p.pts)  # edit lists hide some
        sampled = self._sampled(order)
        whole = not self._is_smooth() or self._is_large(group[0])
        self._sent.extend(self._time(p.pts) for p in order)
        for packet in group:
            decoder.skip_frame = "DEFAULT" if whole or packet.pts in sampled else "NONREF"
            yield packet

    def _sampled(self, order: list) -> set[int]:
        """The presentation times of a group, in units of the container, that the grid takes; the anchor's is always among them, so that its
        own ticks are of no account."""
        times = [self._time(p.pts) for p in order]
        taken = {p.pts for p, shown, until in zip(order, times, times[1:], strict=False) if self._grid.take(shown, until)}
        self._anchor = times[-1] if times else self._anchor
        return taken | {p.pts for p in order[-1:]}

    def _is_large(self, anchor) -> bool:
        usual = median(self._sizes) if len(self._sizes) >= FEW else 0
        least = BYTE * self._info.width * self._info.height
        if not anchor.is_keyframe:
            self._sizes.append(anchor.size)
        return not usual or anchor.size > LARGE * (usual + least)

    def _time(self, stamp: int) -> int:
        return stamp * self._beat - self._origin
