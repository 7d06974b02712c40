"""Decoding that begins before there is anything to look with. Imports no torch.

Importing torch and loading weights take two seconds, all of it in one thread; a decoder can use the other cores meanwhile.
What it has read is handed over if the look turns out to read just that (`Ahead.take`); else the file is opened anew.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from mambamia_cli.plan.watching import QUEUE

if TYPE_CHECKING:
    from mambamia_cli.video import FrameStream, SampleSpec, VideoInfo
    from mambamia_cli.video.container import Decoder

SHARERS = 2
"""In a close look: the decoder, and the encoder with the compressor. Each is held to its part of the threads, but for a decoder with much to do."""

PIXEL, BIT = 0.65e-9, 10e-9
"""Seconds of one thread for a pixel and for a bit of H.264, measured on two cores of a server."""

HEAVY = 0.03
"""Seconds of decoding a second of video, from which on the decoder has all threads: encoder and compressor would wait for it. Of
720p at 25 frames a second that is from 1.5 Mbit/s on: at 2, 5 and 11 a whole `scenes` then takes a tenth, a fifth and a third less; at 0.7 a twentieth more."""


@dataclass(frozen=True)
class Reading:
    """What is read of a video and how. every: the (height, width) that all frames are wanted in beside the sampled ones."""

    path: Path
    spec: "SampleSpec"
    chunk: int
    every: tuple[int, int] | None
    decoder: "Decoder"

    def open(self) -> "FrameStream":
        """Raises InputError, UsageError as video.open_frames does."""
        from mambamia_cli.video import open_frames

        return open_frames(self.path, self.spec, chunk_frames=self.chunk, queue_chunks=QUEUE - 2, every=self.every, decoder=self.decoder)


def reading(path: Path, spec: "SampleSpec", chunk: int, *, closely: bool, threads: int | None) -> Reading:
    """How a look reads. closely: every frame is wanted in small, too. threads: that the process shares between decoder and
    encoder; None where an encoder computes in threads of torch's or on a card, and the decoder takes what it likes."""
    from mambamia_cli.scenes.refine import SIZE
    from mambamia_cli.video.container import PLAIN, Decoder
    from mambamia_cli.video.probe import probe

    decoder = PLAIN
    if closely and threads is not None:
        heavy = decoding_work(probe(path, stream=spec.stream)) >= HEAVY
        decoder = Decoder(threads if heavy else max(1, threads // SHARERS), smooth=False, whole=False)
    return Reading(path, spec, chunk, SIZE if closely else None, decoder)


def decoding_work(info: "VideoInfo") -> float:
    """About how long one thread decodes a second of a video, in seconds, by its pixels and its bits (sound is counted as picture)."""
    pixels = info.width * info.height * float(info.fps or 25)
    bits = 8 * info.path.stat().st_size / float(info.duration) if info.duration else 0.0
    return PIXEL * pixels + BIT * bits


class Ahead:
    """A reading that has begun. Close it, or use it in a `with`: what nobody took is thrown away."""

    def __init__(self, wanted: Reading):
        self._wanted, self._stream = wanted, wanted.open()
        self._stream.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self, wanted: Reading) -> "FrameStream | None":
        """The stream, if it reads what is wanted; it is the taker's then. Once."""
        if wanted != self._wanted or self._stream is None:
            return None
        stream, self._stream = self._stream, None
        return stream

    def close(self) -> None:
        """Stop what nobody took."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def cores() -> int:
    """Threads that torch will take if it is not told otherwise."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
