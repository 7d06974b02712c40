"""What a record says of how it was made: the video, how it was looked at, with what, how long it took, what to doubt."""

import time
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import mambamia_cli
from mambamia_cli.pipeline.engine import Models
from mambamia_cli.pipeline.index import Index
from mambamia_cli.records import SamplingRecord, ToolRecord, VideoRecord

WIDE_GAP = 1.5
"""Seconds between two frames of a glance from which on a reader is told of what went unseen."""


def video_record(index: Index, source: str, path: Path) -> VideoRecord:
    """source: as the user named it; path: the file that was read."""
    info, duration = index.info, index.stats.duration
    return VideoRecord(
        source=source, title=path.name, duration=None if duration is None else float(duration),
        fps=None if info.fps is None else f"{info.fps.numerator}/{info.fps.denominator}", vfr=info.vfr,
        width=info.width, height=info.height, codec=info.codec, audio=info.has_audio, offset=float(info.offset) or None,
    )  # fmt: skip


def sampling_record(index: Index, rate: Fraction | None, models: Models, kept: Sequence[int] | None = None) -> SamplingRecord:
    """rate: frames a second that were asked for, None = every frame. kept: indices of the frames that the answer is from."""
    stats, rate = index.stats, None if index.sampler else rate
    record = SamplingRecord(
        sampler=index.sampler or ("every frame" if rate is None else "fps"), fps=None if rate is None else float(rate), frames=len(index.times),
        effective_fps=stats.effective_fps, max_gap_s=stats.max_gap, capped=stats.capped, corrupt_packets=stats.corrupt_packets,
    )  # fmt: skip
    if kept is None:
        return record
    record = replace(record, kept=len(kept), tokens_out=len(kept) * models.answerer.frame_tokens(index.info))
    if index.sampler:
        return record
    compressor, few = models.compressor_config, len(kept) < len(index.times)
    chosen = "delta" if models.answerer.most_frames is None else "uniform"
    return replace(record, sampler=chosen if few else record.sampler,
                   tokens_in=len(index.times) * compressor.grid_rows * compressor.patches_per_row)  # fmt: skip


def tool_record(models: Models, *, language: bool = True) -> ToolRecord:
    """language: whether the language model had a part in it."""
    record = ToolRecord(mambamia_cli.__version__, models.name, device=models.device)
    return replace(record, language_model=models.language.name, quant=models.language.quant) if language else record


def timing(index: Index, began: float, **more: float | None) -> dict[str, float]:
    """Seconds by stage. `total` is the look at the video (once, however many results use it) and all since `began`."""
    stages = {**index.timing_s, **more, "total": index.took + time.perf_counter() - began}
    return {name: round(value, 3) for name, value in stages.items() if value is not None}


def doubts(index: Index, name: str, model: str, max_frames: int | None) -> list[str]:
    """What a reader of the results must know of how the video `name` was looked at."""
    stats, found = index.stats, []
    if stats.capped:
        found.append(f"--max-frames {max_frames} lowered the rate to {stats.effective_fps or 0:.3g} frames a second; "
                     f"up to {stats.max_gap or 0:.1f} s between frames went unseen")  # fmt: skip
    if stats.corrupt_packets:
        found.append(f"{stats.corrupt_packets} damaged packets of {name} were skipped")
    if index.sampler and (stats.max_gap or 0) > WIDE_GAP:
        found.append(f"{model} sees {len(index.times)} frames spread evenly; up to {stats.max_gap:.1f} s between two of them went unseen")
    if stats.truncated:
        found.append(f"{name} ends before its header says; what is left of it was used")
    return found
