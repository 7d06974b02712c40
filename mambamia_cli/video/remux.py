"""A copy of a video with chapters. Packets are copied as they are: nothing is decoded or encoded."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

import av

from ..errors import InputError, UsageError
from .container import LIBAV_ERRORS
from .containers import WITH_CHAPTERS
from .probe import probe

_LOOKED_AT = 2000
"""Packets within which every stream of sound and picture has begun."""

_CHPL_MOST = 255
"""Chapters that an mp4 file can number."""


class Chapter(NamedTuple):
    """[start, end) in seconds from the first frame."""

    start: Fraction
    end: Fraction
    title: str


def copy_with_chapters(
    source: Path, file: BinaryIO, ending: str, chapters: Sequence[Chapter], *, stream: int | None = None
) -> list[str]:  # fmt: skip
    """Write the video into `file` as the container that `ending` names, with these chapters in place of its own. All
    streams, their languages, dispositions and metadata are kept. (In an mp4 the first chapter reaches back to the beginning.)

    Returns: sentences on what could not be kept. Raises InputError where the video cannot be read, UsageError where the
    container cannot hold one of its streams.
    """
    info = probe(source, stream=stream)
    with opened_to_copy(source, info.clock) as container:
        late = _lateness(container, ending)
    with ExitStack() as stack:
        container = stack.enter_context(opened_to_copy(source, info.clock))
        out = stack.enter_context(muxer(file, ending))
        out.metadata.update(container.metadata)
        targets, doubts = copied_streams(container, out, ending, source)
        if ending in (".mp4", ".m4v", ".mov") and len(chapters) > _CHPL_MOST:
            doubts.append(f"{ending[1:]} lists {_CHPL_MOST} chapters for old players and these are {len(chapters)}; .mkv lists any number")
        out.set_chapters([_chapter(n, one, info.start_time + late) for n, one in enumerate(chapters, 1)])
        begin(out, source, ending)
        for packet in packets_of(container, source):
            target = targets.get(packet.stream.index)
            if target is not None:
                base = packet.time_base
                move(packet, round(late / base))
                packet.stream = target
                out.mux(packet)
    return doubts


def _chapter(n: int, one: Chapter, late: Fraction) -> dict:
    """A chapter as PyAV takes it, in nanoseconds, as Matroska keeps them."""
    base = Fraction(1, 1_000_000_000)
    return {"id": n, "start": round((one.start + late) / base), "end": round((one.end + late) / base), "time_base": base,
            "metadata": {"title": one.title}}  # fmt: skip


def _lateness(container, ending: str) -> Fraction:
    """Seconds by which everything must be put off, so that no time is below zero where the container has none: libav would
    do it to the packets but leave the chapters behind."""
    if WITH_CHAPTERS[ending] not in ("matroska", "webm"):
        return Fraction(0)
    first = Fraction(0)
    try:
        for packet in islice(container.demux(), _LOOKED_AT):
            if packet.pts is not None:
                first = min(first, packet.pts * packet.time_base)
    except LIBAV_ERRORS:
        pass  # damaged further on: what was read so far is what there is to copy
    return -first


@contextmanager
def opened_to_copy(source: Path, clock: str) -> Iterator["av.container.InputContainer"]:
    """A container whose packets have times, guessed from decoding times where it keeps no others (AVI)."""
    options = {"protocol_whitelist": "file"} | ({} if clock == "pts" else {"fflags": "+genpts"})
    try:
        container = av.open(f"file:{source}", options=options, metadata_errors="replace")
    except LIBAV_ERRORS as error:
        raise InputError(f"{source} is not a video that libav can read", "check that it plays, or convert it") from error
    with container:
        yield container


@contextmanager
def muxer(file: BinaryIO, ending: str) -> Iterator["av.container.OutputContainer"]:
    """A container that is written into `file`. What is wrong with the file itself is for whoever gave it to find out."""
    from .containers import PIECES

    # A title may hold what is not UTF-8; it is written as what it was read as.
    with av.open(file, "w", format=PIECES[ending], metadata_errors="surrogateescape") as out:
        yield out


def begin(out, source: Path, ending: str) -> None:
    """Write the header, which is where libav finds out what a container cannot hold."""
    try:
        out.start_encoding()
    except LIBAV_ERRORS as error:
        if isinstance(error, OSError) and not isinstance(error, av.FFmpegError):
            raise  # the file's own error
        raise _unfit(source, ending) from error


def _unfit(source: Path, ending: str) -> UsageError:
    return UsageError(f"a file {ending} cannot hold the streams of {source} as they are", "use .mkv, or the ending that the video has")


def copied_streams(container, out, ending: str, source: Path, *, picture: int | None = None,
                   anew: Callable[[], object] | None = None) -> tuple[dict[int, "av.stream.Stream"], list[str]]:  # fmt: skip
    """A stream in `out` for each of `container`, by the index there, and what is lost. `picture`: the one stream
    of video that is wanted, None for all; `anew` is called in its place where it is not to be copied."""
    targets, doubts = {}, []
    for stream in container.streams:
        if stream.type == "video" and picture not in (None, stream.index):
            continue
        if stream.index == picture and anew is not None:
            anew()
            continue
        if stream.type == "data" or (stream.codec_context is None and stream.type != "attachment"):
            if not _is_made_anew(stream):
                doubts.append(f"stream {stream.index} ({stream.type}) of {os.path.basename(source)} is of no kind that can be copied and is left out")
            continue
        try:
            target = out.add_stream_from_template(stream)
        except LIBAV_ERRORS as error:
            raise _unfit(source, ending) from error
        target.metadata.update(stream.metadata)
        target.disposition = stream.disposition
        if stream.type != "attachment":
            target.time_base = stream.time_base
        targets[stream.index] = target
    return targets, doubts


def _is_made_anew(stream) -> bool:
    """Whether a stream of data is one that the muxer makes again: of a timecode, which is in the metadata too, or of chapters."""
    of_chapters = bool(stream.container.chapters()) and stream.container.format.name.startswith("mov")
    return stream.type == "data" and (of_chapters or "timecode" in stream.metadata)


def packets_of(container, source: Path, stream=None) -> Iterator["av.packet.Packet"]:
    """Packets that hold something, as far as the file can be read."""
    try:
        for packet in container.demux(*(() if stream is None else (stream,))):
            if packet.size and (packet.pts is not None or packet.dts is not None):
                yield packet
    except LIBAV_ERRORS as error:
        if isinstance(error, OSError) and not isinstance(error, av.FFmpegError):
            raise
        raise InputError(f"{source} is damaged and cannot be copied", "convert it first") from error


def move(packet, ticks: int) -> None:
    """Put a packet off by so many units of its time base."""
    if ticks:
        packet.pts = None if packet.pts is None else packet.pts + ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks
