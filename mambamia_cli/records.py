"""Frozen dataclasses of everything that leaves the program, and their JSON.

Times are seconds as floats counted from the first frame of the video (start offset removed). A field that does not
apply is None and is left out of the JSON; none is invented.
"""

import json
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

LEVELS = ("shot", "scene", "chapter")
"""How finely a video is divided: see scenes.levels."""

MOST_RANGES = 20
"""Ranges that `find` looks for of each thing."""


@dataclass(frozen=True)
class VideoRecord:
    """What was read of the video file. `fps` is a rational as text ("30000/1001"), `duration` in seconds. `audio` says whether it
    has sound; `offset` is by how many seconds the file, and so a player's clock, begins before the first frame (None: it does not)."""

    source: str
    title: str | None = None
    duration: float | None = None
    fps: str | None = None
    vfr: bool | None = None
    width: int | None = None
    height: int | None = None
    codec: str | None = None
    audio: bool | None = None
    offset: float | None = None


@dataclass(frozen=True)
class SamplingRecord:
    """How frames were taken. `max_gap_s` is the largest time between two looked-at frames; `capped` says a limit bit."""

    sampler: str
    fps: float | None = None
    frames: int = 0
    kept: int | None = None
    effective_fps: float | None = None
    max_gap_s: float | None = None
    capped: bool = False
    corrupt_packets: int = 0
    threshold: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None


@dataclass(frozen=True)
class ToolRecord:
    """What produced the record."""

    version: str
    model: str
    language_model: str | None = None
    quant: str | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class Scene:
    """One scene: [start, end) in seconds; `peak` is the score of the marker that opens it (0 for the first).

    `transition` is how it opens, where refinement could tell: "cut", "dissolve", "wipe", "fade-black" or "fade-white". A gradual one
    lasts from `transition_start` to `transition_end`, and `start` is its middle.
    """

    n: int
    start: float
    end: float
    peak: float
    title: str | None = None
    transition: str | None = None
    transition_start: float | None = None
    transition_end: float | None = None


@dataclass(frozen=True)
class Candidate:
    """A place where a scene may open, whether or not the threshold was reached. `look` is the time of the sampled frame whose
    score it is, `time` where refinement puts it; the transition is as in Scene. `signature` describes what is seen from here to
    the next candidate (see scenes.levels); the first candidate is the beginning of the video, with score 0."""

    time: float
    look: float
    score: float
    transition: str | None = None
    transition_start: float | None = None
    transition_end: float | None = None
    signature: tuple[int, ...] | None = None


@dataclass(frozen=True)
class ScenesRecord:
    """`threshold`, `min_scene_len` (seconds) and `level` (None: "shot") are what the scenes were marked with. `delta` is the curve that the markers were found in: (time, delta-time) of every frame looked at. `candidates` are all
    places that a threshold down to `candidates_from` can choose, so that scenes can be marked anew without the video."""

    video: VideoRecord
    sampling: SamplingRecord
    scenes: tuple[Scene, ...]
    delta: tuple[tuple[float, float], ...]
    range: tuple[float, float] | None = None
    threshold: float | None = None
    tool: ToolRecord | None = None
    timing_s: dict[str, float] = field(default_factory=dict)
    memory_mib: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    level: str | None = None
    candidates: tuple[Candidate, ...] | None = None
    candidates_from: float | None = None
    min_scene_len: float | None = None
    schema: str = "mambamia.scenes/1"


@dataclass(frozen=True)
class Evidence:
    """A time range the answer leans on, best first. `score` is in [0, 1]."""

    start: float
    end: float
    timecode: str
    score: float


@dataclass(frozen=True)
class AnswerRecord:
    """`finish` is "stop" (the model ended), "length" (--max-tokens did), "repeat" (it began to repeat itself and was
    stopped), "choice", "evidence" (read off the frames that match the question's words) or "unknown" (frames do not decide it, and the
    language model is not trusted to: the text says what is known instead). `confidence` in [0, 1] is the calibrated chance that the
    answer is right, None where there is no measure of it. `unsure`: it is too low to be told, or the answer is a guess. `choices` are
    (text, probability among them), likeliest first."""

    video: VideoRecord
    question: str
    answer: str
    finish: str
    sampling: SamplingRecord
    evidence: tuple[Evidence, ...] | None = None
    confidence: float | None = None
    unsure: bool | None = None
    choices: tuple[tuple[str, float], ...] | None = None
    range: tuple[float, float] | None = None
    tool: ToolRecord | None = None
    timing_s: dict[str, float] = field(default_factory=dict)
    memory_mib: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    schema: str = "mambamia.answer/1"


@dataclass(frozen=True)
class Sighting:
    """A thing that was looked for: where it is seen, best first, and the chance that it is in the video at all."""

    query: str
    presence: float
    ranges: tuple[Evidence, ...]


@dataclass(frozen=True)
class FindRecord:
    """What `find` found of each query."""

    video: VideoRecord
    found: tuple[Sighting, ...]
    sampling: SamplingRecord
    range: tuple[float, float] | None = None
    tool: ToolRecord | None = None
    timing_s: dict[str, float] = field(default_factory=dict)
    memory_mib: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    schema: str = "mambamia.find/1"


@dataclass(frozen=True)
class SummaryRecord:
    """A title a scene (times from frames, never from the model's text) and one paragraph.

    `finish` is the paragraph's, as in AnswerRecord.
    """

    video: VideoRecord
    scenes: tuple[Scene, ...]
    summary: str
    finish: str
    sampling: SamplingRecord
    range: tuple[float, float] | None = None
    tool: ToolRecord | None = None
    timing_s: dict[str, float] = field(default_factory=dict)
    memory_mib: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    schema: str = "mambamia.summary/1"


@dataclass(frozen=True)
class JobRecord:
    """What came of one job of `batch`. `status` is "done", with the `records` that the single command writes as JSON lines, or
    "failed", with an `error` (class, message, hint). `key` is a hash of what decides the result; of several records of one key the
    last one counts. `id` is the job's own, where it has one. `seconds` are those of all `attempts`."""

    id: str | None
    key: str
    cmd: str
    video: str
    status: str
    attempts: int
    seconds: float
    records: tuple[dict[str, Any], ...] | None = None
    error: dict[str, str] | None = None
    schema: str = "mambamia.job/1"


@dataclass(frozen=True)
class ErrorRecord:
    """What stands in the place of a result for an input that failed."""

    source: str
    error: dict[str, Any]
    schema: str = "mambamia.error/1"


def best(record: FindRecord, most: int) -> FindRecord:
    """The record with at most so many ranges of each thing; they are best first."""
    return replace(record, found=tuple(replace(sighting, ranges=sighting.ranges[:most]) for sighting in record.found))


def to_dict(record: Any) -> Any:
    """A record as plain dicts and lists, `schema` first, None fields left out."""
    if is_dataclass(record) and not isinstance(record, type):
        names = [f.name for f in fields(record)]
        if "schema" in names:
            names = ["schema", *(n for n in names if n != "schema")]
        return {n: to_dict(v) for n in names if (v := getattr(record, n)) is not None}
    if isinstance(record, dict):
        return {k: to_dict(v) for k, v in record.items()}
    if isinstance(record, (list, tuple)):
        return [to_dict(v) for v in record]
    return record


def to_json(record: Any, *, pretty: bool = False) -> str:
    """A record as JSON text: one line, or indented for people. Non-finite floats are refused: they are not JSON."""
    return _laid_out(to_dict(record)) if pretty else _flat(to_dict(record))


def _flat(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _laid_out(value: Any, margin: str = "") -> str:
    """JSON indented by two, but for lists of numbers and texts: a curve has thousands, which would bury all else a line each."""
    within = margin + "  "
    if isinstance(value, dict) and value:
        lines = [f"{within}{_flat(str(key))}: {_laid_out(one, within)}" for key, one in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{margin}}}"
    if isinstance(value, list) and any(isinstance(one, (dict, list)) for one in value):
        return "[\n" + ",\n".join(within + _laid_out(one, within) for one in value) + f"\n{margin}]"
    return _flat(value)


def timecode(seconds: float) -> str:
    """Seconds -> "HH:MM:SS.mmm"."""
    ms = round(seconds * 1000)
    return f"{ms // 3600000:02d}:{ms // 60000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"


def peak_memory_mib() -> dict[str, float]:
    """The most memory this process has held so far, in MiB; the GPU's only where torch has used one."""
    import resource
    import sys

    scale = 1 << 20 if sys.platform == "darwin" else 1 << 10  # bytes there, KiB elsewhere
    peaks = {"ram_peak": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale, 1)}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        peaks["vram_peak"] = round(torch.cuda.max_memory_allocated() / (1 << 20), 1)
    return peaks
