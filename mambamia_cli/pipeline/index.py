"""One look at a video: frames -> patch grids -> anchors and delta, chunk by chunk.

Working memory is a few chunks of frames and one window of the compressor, whatever the length of the video. What grows
with the length is the delta curve (8 bytes a frame), the frames' times, and the anchors in float16; those (2.7 kB a frame
for mambamia-tiny) go to a temporary file once they pass `MEMORY_ANCHORS`.

Where the host waits for a card, and why (tests/gpu/test_fake_cuda.py holds a run to this list):

- once a chunk, its pixels go there, 8 frames at a time: decoding is the host's work;
- once a chunk, the mean patch of each frame comes back, for the signatures: a few hundred numbers a frame. It is fetched before
  the compressor's work is queued, which therefore goes on beside the host's (comparing pictures, fetching the next chunk). So
  "encode" counts what of the compressor's work is not done by then, and "compress" what it takes to queue it;
- once a window, its delta and anchors come back. Nothing between, and nothing inside of the compressor, waits;
- with the window in host memory (`offload`), every chunk of every layer goes there and back: the price of that setting.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mambamia_cli.errors import InputError, UsageError
from mambamia_cli.pipeline.ahead import Ahead, cores, reading
from mambamia_cli.pipeline.backoff import Backoff
from mambamia_cli.pipeline.closeup import CloseUp
from mambamia_cli.pipeline.engine import Models, Progress
from mambamia_cli.pipeline.sharing import shared, stand_back
from mambamia_cli.pipeline.sparing import SparingEncoder
from mambamia_cli.scenes.evidence import Evidence, EvidenceStream
from mambamia_cli.scenes.levels import SignatureStream

if TYPE_CHECKING:
    from torch import Tensor

    from mambamia_cli.video import DecodeStats, FrameStream, SampleSpec, VideoInfo
    from mambamia_cli.video.every import Stretch

MEMORY_ANCHORS = 16 << 20  # bytes

ENCODED = 6
"""Chunks of frames that wait for the compressor, encoded, where it works beside the encoder."""


class AnchorStore:
    """Anchors of all frames looked at, appended in order and read back by frame. float16, bounded memory."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=MEMORY_ANCHORS, prefix="mambamia-")  # noqa: SIM115
        self._shape: tuple[int, ...] = ()
        self.frames = 0

    def append(self, anchors: "Tensor") -> None:
        """anchors (m, g, d), the frames that follow those already here."""
        import torch

        # float16 holds 65504 at most; an anchor beyond it is nonsense, but must not become an infinity.
        rows = anchors.clamp(-65504, 65504).to("cpu", torch.float16).contiguous().numpy()  # (m, g, d)
        self._shape = rows.shape[1:]
        self._file.write(rows.tobytes())
        self.frames += len(rows)

    def read(self, indices: list[int]) -> "Tensor":
        """-> (k, g, d) float32, the anchors of these frames."""
        import torch

        size = int(np.prod(self._shape)) * 2  # bytes a frame
        rows = np.empty((len(indices), *self._shape), np.float16)
        for at, index in enumerate(indices):
            self._file.seek(index * size)
            rows[at] = np.frombuffer(self._file.read(size), np.float16).reshape(self._shape)
        return torch.from_numpy(rows).float()


@dataclass(frozen=True)
class Index:
    """What a look at a video leaves: of every frame its presentation time (seconds, rational), delta (m,) and anchors.

    `anchors` is None when only the curve was wanted. `timing_s`: seconds waited for decoding, spent encoding, compressing:
    side by side, so that they may come to more than the look `took`. `sampler` is "uniform" for a glance: times alone, no delta.
    `closeup` is there when every frame was kept an eye on.
    """

    info: "VideoInfo"
    stats: "DecodeStats"
    times: tuple[Fraction, ...]
    delta: np.ndarray
    anchors: AnchorStore | None
    range: tuple[float, float]
    evidence: Evidence | None
    signatures: np.ndarray  # (m, levels.WIDTH) float16
    timing_s: dict[str, float] = field(default_factory=dict)
    sampler: str | None = None
    took: float = 0.0
    closeup: CloseUp | None = None

    @property
    def seconds(self) -> np.ndarray:
        """(m,) the frames' times as floats."""
        return np.array([float(moment) for moment in self.times])


def watch(
    path: Path, spec: "SampleSpec", models: Models, *, keep_anchors: bool = True, closely: bool = False, ahead: Ahead | None = None,
    progress: Progress,
) -> Index:  # fmt: skip
    """Look at a video once, in chunks and windows as `models.settings` says; where memory runs out all the same, in smaller ones.

    closely: keep an eye on every frame, so that `boundaries.refine` need not read the file again. ahead: a reading that has
    begun already, and is gone on with if it is of just this. A close look that keeps no anchors is for scenes alone: its frames
    are encoded in 8-bit integers and compressed with projections in bfloat16, each where this CPU has the instructions: delta moves by a few hundredths.

    Raises:
        InputError: nothing in it can be decoded.
        OutOfMemoryError: not even one frame at a time fits.
    """
    import torch

    from mambamia_cli.compressor.stream import StreamingCompressor

    chosen, clock, began = models.settings, _Clock(), time.perf_counter()
    models.enter("watch")
    encoder, compressor = models.lookers(keep_anchors=keep_anchors, closely=closely)
    stream = StreamingCompressor(compressor, window=chosen.window, overlap=models.overlap, chunk_frames=chosen.chunk, offload=chosen.offload)
    backoff = Backoff(encoder, stream, chosen.chunk)
    anchors, delta, times = AnchorStore() if keep_anchors else None, [], []
    evidence, signatures = EvidenceStream(), SignatureStream()

    def take(outputs: list[Any]) -> None:
        for output in outputs:
            delta.append(output.delta.double().cpu().numpy())  # (m',)
            if anchors is not None:
                anchors.append(output.anchors)

    def foresee() -> None:
        known = np.concatenate(delta)  # (m',)
        closeup.foresee(np.array([float(t) for t in times[: len(known)]]), known, evidence.so_far())

    apart = getattr(encoder, "apart", False)
    wanted = reading(path, spec, chosen.chunk, closely=closely, threads=(models.threads or cores()) if apart else None)
    with (ahead and ahead.take(wanted)) or wanted.open() as frames, torch.inference_mode():
        closeup, end = CloseUp(frames.info, models.rule) if closely else None, _end(frames.info.duration, spec.end)
        with shared(encoder, alone=lambda: frames.read) if apart else nullcontext(_at_once) as run:
            for seen in _encoded(frames, SparingEncoder(backoff, close=closely), evidence, clock, ahead=ENCODED if apart else 0):
                signatures.push(seen.mean)
                times += seen.times
                outputs = clock.time("compress", lambda: run(backoff.push, seen.patches))  # noqa: B023
                take(outputs)
                if closeup is not None:
                    closeup.add(seen.every)
                    if outputs:
                        clock.time("refine", foresee)
                begin = spec.start or Fraction(0)
                progress("watching", float(times[-1] - begin), float(end - begin) if end is not None else None)
        stats = frames.stats
        if not times:
            raise InputError(f"{path} has no frame that can be decoded", "check that it plays, or convert it")
        take(clock.time("compress", lambda: backoff.finish(stream.finish)))
        if closeup is not None:
            closeup.add(frames.rest, last=frames.ended)
    end = _end(stats.duration, spec.end)
    span = (float(spec.start or times[0]), float(max(end, times[-1]) if end is not None else times[-1]))
    return Index(frames.info, stats, tuple(times), np.concatenate(delta), anchors, span, evidence.finish(), signatures.finish(), clock.seconds,
                 took=time.perf_counter() - began, closeup=closeup)  # fmt: skip


@dataclass(frozen=True)
class _Seen:
    """What is left of a chunk of frames once it is encoded."""

    times: tuple[Fraction, ...]
    patches: "Tensor"  # (m, n, d_vision)
    mean: np.ndarray  # (m, d_vision), of each frame's patches
    every: "Stretch | None"


def _encoded(frames: "FrameStream", encoder: SparingEncoder, evidence: EvidenceStream, clock: "_Clock", *, ahead: int) -> Iterator[_Seen]:
    """The chunks in order, their pixels measured and encoded.

    ahead: so many chunks are encoded in a thread of its own while the caller compresses; 0: none, each when it is asked for.
    """
    import torch

    from mambamia_cli.video.channel import Channel

    def chunks() -> Iterator[_Seen]:
        pixels = iter(frames)
        while (chunk := clock.time("decode", lambda: next(pixels, None))) is not None:
            clock.time("compare", lambda: evidence.push(chunk.frames))
            patches, mean = clock.time("encode", lambda: _with_mean(encoder.encode(chunk.frames)))
            yield _Seen(chunk.times, patches, mean, chunk.every)

    def produce(put: Callable[[Any], None]) -> None:
        stand_back()
        with torch.inference_mode():
            for seen in chunks():
                put(seen)

    if not ahead:
        yield from chunks()
        return
    channel = Channel(produce, ahead, "mambamia-encode")  # a window is compressed at one go: of the next one a part is encoded meanwhile
    try:
        yield from channel
    finally:
        channel.close()


def _at_once(work: Callable[..., Any], *arguments: Any) -> Any:
    return work(*arguments)


def glance(info: "VideoInfo", spec: "SampleSpec", *, rate: Fraction, most: int) -> Index:
    """Which frames to look at, spread evenly over the range: times begin + i / m * length, of m = min(ceil(length * rate),
    most) frames. Nothing is decoded, unless the container does not say how long it is.

    Raises:
        UsageError: the range begins after the end. InputError: nothing can be decoded.
    """
    from mambamia_cli.video import DecodeStats

    duration = info.duration or _measured(info)
    begin, end = spec.begin, min(duration, spec.end or duration)
    if begin >= end:
        raise UsageError(f"the range starts at {float(begin):g} s and {info.path} ends at {float(duration):g} s", "give --start an earlier time")
    length = end - begin
    m = min(ceil(length * rate), most)
    times = tuple(begin + length * i / m for i in range(m))
    stats = DecodeStats(sampled=m, effective_fps=float(m / length), max_gap=float(length / m), first_time=times[0], last_time=times[-1],
                        duration=duration)  # fmt: skip
    nothing = np.zeros(0)
    return Index(info, stats, times, nothing, None, (float(begin), float(end)), None, nothing, sampler="uniform")


def _measured(info: "VideoInfo") -> Fraction:
    """Seconds of a video whose container does not say: all its frames are decoded, in small."""
    from mambamia_cli.video import SampleSpec, open_frames

    with open_frames(info.path, SampleSpec(fps=Fraction(1), size=(8, 8), stream=info.stream)) as frames:
        for _ in frames:
            pass
        if not frames.stats.duration:
            raise InputError(f"{info.path} has no frame that can be decoded", "check that it plays, or convert it")
        return frames.stats.duration


def _with_mean(patches: "Tensor") -> tuple["Tensor", np.ndarray]:
    """patches (m, n, d_vision) -> themselves, and their mean (m, d_vision) float32 in host memory."""
    return patches, patches.mean(1).float().cpu().numpy()


def _end(duration: Fraction | None, end: Fraction | None) -> Fraction | None:
    known = [moment for moment in (duration, end) if moment is not None]
    return min(known) if known else None


class _Clock:
    """Seconds spent by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def time(self, stage: str, work: Any) -> Any:
        began = time.perf_counter()
        try:
            return work()
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began
