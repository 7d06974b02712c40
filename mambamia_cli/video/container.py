"""The one place where a container is opened, and where a stream of it is chosen."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av

from ..errors import InputError

# Demuxers that make "video" of any bytes at all (text shown as a terminal would): never what is meant here.
_NOT_VIDEO = frozenset({"tty", "bin", "xbin", "adf", "idf", "data"})
# Containers that keep no presentation times: the order of decoding times stands in for them (AVI), or nothing does.
_DTS_ONLY = frozenset({"avi"})
_MAX_PIXELS = 1 << 27  # a damaged header must not make libav reserve gigabytes: 16 times 4K
LIBAV_ERRORS = (av.FFmpegError, OSError, ValueError, IndexError)
"""What libav's refusals come as. Most, but not all, FFmpegErrors are also an OSError or a ValueError; IndexError is
PyAV's answer to a packet of a stream that was not there when the file was opened (damaged MPEG-TS)."""
_ATTACHED_PIC = av.stream.Disposition.attached_pic
_DEFAULT = av.stream.Disposition.default


@contextmanager
def open_container(path: str | Path) -> Iterator["av.container.InputContainer"]:
    """Open a local regular file with libav, network protocols off. Raises InputError with the remedy."""
    path = Path(path)
    try:
        facts = path.stat()
    except (OSError, ValueError) as err:  # ValueError: a name with a null character
        reason = getattr(err, "strerror", None) or err
        raise InputError(f"{path} cannot be read ({reason})", "check the path") from None
    if not stat.S_ISREG(facts.st_mode):
        what = "a folder" if stat.S_ISDIR(facts.st_mode) else "not a regular file"
        raise InputError(f"{path} is {what}", "name a video file")
    if facts.st_size == 0:
        raise InputError(f"{path} is empty", "copy or download it again")
    try:
        # "file:" keeps names with a colon from being read as a protocol; the whitelist keeps playlists and
        # reference movies from reaching for the network
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except LIBAV_ERRORS as err:
        if isinstance(err, PermissionError):
            raise InputError(f"{path} may not be read", "check its permissions") from None
        raise InputError(f"{path} is not a video that libav can read", "check that it plays, or convert it") from None
    with container:
        if container.format.name in _NOT_VIDEO:
            raise InputError(f"{path} is not a video", "name a video file")
        yield container


def pick_stream(container, index: int | None = None) -> "av.video.stream.VideoStream":
    """The video stream with a container index, or the main one: default-marked first, then the largest picture.

    Cover art is not video. Raises InputError when there is no video, or none with this index, or no decoder for it.
    """
    path = container.name.removeprefix("file:")
    videos = [s for s in container.streams.video if not s.disposition & _ATTACHED_PIC]
    if not videos:
        kind = "sound but no video" if container.streams.audio else "no video"
        raise InputError(f"{path} holds {kind}", "name a file with a video stream")
    if index is not None:
        known = ", ".join(str(s.index) for s in videos)
        videos = [s for s in videos if s.index == index]
        if not videos:
            raise InputError(f"{path} has no video stream {index}", f"its video streams are: {known}")
    videos = [s for s in videos if s.codec_context is not None]
    if not videos:
        raise InputError(f"{path} is coded in a way libav cannot decode", "convert it to H.264")
    return max(videos, key=lambda s: (bool(s.disposition & _DEFAULT), (s.width or 0) * (s.height or 0), -s.index))


@dataclass(frozen=True)
class Decoder:
    """How libav decodes. threads: 0 lets it choose, which is fastest where nothing else has work to do; frame by frame in one
    thread costs a fifth less in all than in three that share two cores. smooth: False leaves the edges of blocks as they
    are in those frames that no other is made from, and so changes no other frame; of H.264 in all B frames, for a
    sixth less work: little of that is handed on (in pictures of 80 x 45, of 720p, it comes to 0.04 grey values on the mean).
    whole: False leaves out frames that others tell (thinning.py), where every frame is wanted in small."""

    threads: int = 0
    smooth: bool = True
    whole: bool = True


PLAIN = Decoder()


def prepare(stream, kind: str = "AUTO", decoder: Decoder = PLAIN) -> None:
    """Set the decoder up before its first packet: libav's kind of threads, and a limit on the size of a picture."""
    stream.thread_type = kind
    stream.codec_context.thread_count = decoder.threads
    options = {"max_pixels": str(_MAX_PIXELS)}
    if not decoder.smooth:
        options["skip_loop_filter"] = "bidir" if stream.codec_context.name == "h264" else "noref"
    stream.codec_context.options = options


def clock_of(container, stream) -> str:
    """Where times come from: "pts", "dts" or "rate" (see VideoInfo.clock)."""
    if container.format.name in _DTS_ONLY:
        return "dts"
    return "rate" if stream.start_time is None and stream.duration is None and not container.duration else "pts"


def seek(container, stream, moment) -> bool:
    """Go to a keyframe at or before a container time in seconds. False when the container cannot."""
    try:
        container.seek(int(moment // stream.time_base), stream=stream, backward=True)
    except LIBAV_ERRORS:
        return False
    return True
