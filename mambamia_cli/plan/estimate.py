"""The plan of a run: tokens at every step, bytes of every stage, the settings that fit a limit, and what fits which card.

Stages follow one another. "watch": vision tower and compressor look at the frames. "answer": they have left the device,
and the language model reads and writes. The peak is the larger stage's, not their sum.
"""

import importlib.util
import os
from dataclasses import dataclass, replace

from mambamia_cli.language.unimambamia.config import FRAMES
from mambamia_cli.plan import answering, relative, seeing, watching
from mambamia_cli.plan.answering import Answering
from mambamia_cli.plan.frames import Prompt, prompt_of
from mambamia_cli.plan.parts import Parts
from mambamia_cli.plan.tape import DEVICE, HOST, Tape
from mambamia_cli.plan.watching import Watch

GIB = 1 << 30
CHUNKS, WINDOWS, PREFILLS = (32, 16, 8, 4, 2, 1), (384, 192, 96, 48), (4096, 2048, 1024, 512, 256)
OVERLAP = 64
CUDA_ALLOWANCE = 768 << 20
"""Bytes of a card left free for what no tensor holds: the CUDA context, cuBLAS's workspace, the allocator's rounding and a
screen. An assumption: no card was at hand to measure it on."""

PYTHON, TORCH, TRANSFORMERS, ONNX = 60 << 20, 330 << 20, 250 << 20, 120 << 20
"""Resident bytes of the interpreter and of the libraries beside it, measured on Linux x86-64, CPU build of torch."""

CARDS = (8, 12, 16, 24)  # GiB


@dataclass(frozen=True)
class Task:
    """What is asked for. device: "cpu", "cuda", "xpu" or "mps". quant as typed.

    question: characters of the longest one. answers: False for `scenes`, which needs no language model. sound: the video has
    some, for who hears. most: frames asked for at most, where one takes few unless told (UniMambaMia).
    """

    frames: int
    seconds: float
    picture: tuple[int, int]  # the video's own (height, width)
    device: str = "cpu"
    quant: str = "auto"
    max_tokens: int = 128
    token_budget: int | None = None
    question: int = 60
    answers: bool = True
    sound: bool = True
    most: int | None = None


@dataclass(frozen=True)
class Settings:
    """What can be turned to fit: none of the first four changes a number beyond rounding, the last two do."""

    chunk: int = CHUNKS[0]
    offload: bool = False
    prefill: int = PREFILLS[0]
    together: bool = False  # all stages' weights stay on the device at once
    window: int = WINDOWS[0]
    token_budget: int | None = None

    def overlap(self, enough: int | None) -> int:
        """Frames that a window of the compressor shares with the next. enough: what is measured to do for its weights, None = unknown."""
        return min(OVERLAP, self.window // 4, enough or OVERLAP)


@dataclass(frozen=True)
class Need:
    """Peak bytes of a stage: tensors on the device, and everything in the host's memory."""

    device: int
    host: int


def quant_of(parts: Parts, task: Task) -> tuple[str, bool]:
    """-> (what `quant` comes to, whether our own CPU decoder runs it); the rules of language.model.load_language_model, or of
    language.transformers_lm.resolve_quant."""
    asked, language = task.quant, parts.language
    packed = importlib.util.find_spec("bitsandbytes") is not None
    whole = parts.sight.parameters + language.parameters if parts.sight is not None else parts.relative.stored if parts.relative is not None else None
    if whole is not None and task.device == "cpu" and asked == "auto":
        small = whole < 1_000_000_000
        return ("fp32" if small else "nf4" if packed else "bf16"), False
    if task.device != "cpu":
        chosen = ("nf4" if task.device == "cuda" else "bf16") if asked == "auto" else asked
        return (chosen if packed or chosen not in ("nf4", "fp4", "int8") else "bf16"), False
    if whole is None and asked not in ("nf4", "fp4") and language.model_type == "llama" and (asked == "int4" or language.parameters <= 2_000_000_000):
        return ("int4" if asked == "auto" else asked), True
    if asked == "auto":
        return ("fp32" if language.parameters <= 1_000_000_000 else "bf16"), False
    return (asked if packed or asked not in ("nf4", "fp4", "int8") else "fp32"), False


def prompt(parts: Parts, task: Task, settings: Settings) -> Prompt:
    """What the language model reads. Raises UsageError when no frame fits."""
    budget = settings.token_budget or task.token_budget or parts.budget or parts.language.context
    if (sizes := heard(parts, task)) is not None:
        return relative.prompt_of(sizes, min(task.frames, task.most or FRAMES), task.seconds, budget, parts.language.context,
                                  task.max_tokens, task.question)  # fmt: skip
    return prompt_of(task.frames, task.seconds, parts.each, budget, parts.language.context, task.max_tokens, task.question,
                     parts.around)  # fmt: skip


def heard(parts: Parts, task: Task) -> relative.RelativeSizes | None:
    """UniMambaMia's sizes, without tokens of sound where there is none; None for other kinds."""
    sizes = parts.relative
    return sizes if sizes is None or task.sound else replace(sizes, silent=True)


def looks(parts: Parts, task: Task) -> bool:
    """Whether vision and compressor look at the video: UniMambaMia answers without."""
    return parts.relative is None or not task.answers


def watch_of(parts: Parts, task: Task, settings: Settings) -> Watch:
    cpu = task.device == "cpu"
    half = task.device == "cuda"
    fused = half and importlib.util.find_spec("mamba_ssm") is not None
    onnx = cpu and importlib.util.find_spec("onnxruntime") is not None
    return Watch(task.frames, settings.chunk, settings.window, settings.overlap(parts.overlap), settings.offload, 2 if half else 4, cpu, fused, onnx)


def answering_of(parts: Parts, task: Task, settings: Settings) -> Answering:
    quant, fast = quant_of(parts, task)
    read = prompt(parts, task, settings)
    cpu = task.device == "cpu"
    half = not cpu or quant == "bf16" or (fast and quant != "fp32")
    dense = 2 if quant == "bf16" or (fast and quant != "fp32" and half_precision_cpu()) else 4
    return Answering(read.tokens, read.kept, task.max_tokens, quant, 2 if half else 4, settings.prefill, cpu, fast, dense)


def watch_need(parts: Parts, task: Task, settings: Settings) -> Need:
    tape, cpu = Tape(unified=task.device == "cpu"), task.device == "cpu"
    watch = watch_of(parts, task, settings)
    with tape.hold(_language_weights(parts, task, settings) if settings.together and task.answers else 0):
        watching.play(tape, parts.vision, parts.compressor, watch)
    libraries = PYTHON + TORCH + (ONNX if parts.vision.embedded and watch.onnx else 0 if parts.vision.embedded else TRANSFORMERS)
    height, width = task.picture
    own = height * width * 3 // 2  # a decoded picture
    decoder = own * (16 + 2 * (os.cpu_count() or 1)) + watching.QUEUE * settings.chunk * parts.vision.height * parts.vision.width * 3
    loading = 0 if cpu or parts.vision.embedded else parts.vision.parameters * watch.item
    return Need(tape.peak[DEVICE], libraries + decoder + max(tape.peak[HOST], loading))


def answer_need(parts: Parts, task: Task, settings: Settings) -> Need:
    tape = Tape(unified=task.device == "cpu")
    asked = answering_of(parts, task, settings)
    watched = settings.together and looks(parts, task)
    seen = sum(watching.weights(parts.vision, parts.compressor, watch_of(parts, task, settings).item)) if watched else 0
    with tape.hold(seen + 4 * parts.spotter):
        if parts.relative is not None:
            relative.play(tape, parts.language, heard(parts, task), asked, task.seconds, turns=not settings.together)
        elif parts.sight is not None:
            seeing.play(tape, parts.language, parts.sight, asked)
        else:
            answering.play(tape, parts.language, parts.projection, asked)
    libraries = PYTHON + TORCH + (0 if asked.fast else TRANSFORMERS)
    if parts.sight is not None:
        libraries += 2 * seeing.BATCH * 4 * parts.sight.pixels  # pictures as arrays: one by one, and joined
    if parts.relative is not None:
        libraries += 2 * relative.BATCH * 3 * task.picture[0] * task.picture[1]  # frames of full size, decoded and as pictures
    return Need(tape.peak[DEVICE], libraries + tape.peak[HOST])


def _language_weights(parts: Parts, task: Task, settings: Settings) -> int:
    asked = answering_of(parts, task, settings)
    if parts.relative is not None:
        return relative.weights(parts.language, parts.relative, asked)
    if parts.sight is not None:
        return seeing.weights(parts.language, parts.sight, asked)
    return answering.weights(parts.language, asked) + 4 * (parts.projection.parameters + parts.spotter)


def half_precision_cpu() -> bool:
    """Whether this CPU multiplies in bfloat16 (language.packing.dense_dtype asks torch the same)."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            flags = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_tile" in flags


def needs(parts: Parts, task: Task, settings: Settings) -> dict[str, Need]:
    """Peak bytes by stage."""
    found = {"watch": watch_need(parts, task, settings)} if looks(parts, task) else {}
    if task.answers:
        found["answer"] = answer_need(parts, task, settings)
    return found


def fits(need: Need, vram: int | None, ram: int | None) -> bool:
    return (vram is None or need.device <= vram) and (ram is None or need.host <= ram)


def solve_watch(parts: Parts, task: Task, vram: int | None, ram: int | None) -> Settings | None:
    """The first settings of the look that fit: smaller chunks, then the window in host memory, then a smaller window.
    None when nothing fits. On a CPU host memory is all there is, and nothing is gained by offloading."""
    if not looks(parts, task):
        return Settings()
    both_ways = parts.compressor.bidirectional or parts.compressor.taa_bidirectional
    for window in WINDOWS if both_ways else WINDOWS[:1]:
        for offload in (False,) if task.device == "cpu" else (False, True):
            for chunk in CHUNKS:
                settings = Settings(chunk=chunk, window=window, offload=offload)
                if fits(watch_need(parts, task, settings), vram, ram):
                    return settings
    return None


def solve_answer(parts: Parts, task: Task, settings: Settings, vram: int | None, ram: int | None) -> Settings | None:
    """Settings of the answer added to those of the look: a shorter prefill, then (unless the user gave one) a lower budget."""
    start = prompt(parts, task, settings).visual
    budgets: list[int | None] = [None]
    if task.token_budget is None:
        while start > 2 * parts.each:
            start = start // 2 // parts.each * parts.each
            budgets.append(start)
    for budget in budgets:
        for prefill in PREFILLS:
            tried = replace(settings, prefill=prefill, token_budget=budget)
            if fits(answer_need(parts, task, tried), vram, ram):
                return tried
    return None


def solve(parts: Parts, task: Task, vram: int | None, ram: int | None) -> Settings | None:
    """Settings under which both stages fit; with all weights resident at once where even that fits."""
    settings = solve_watch(parts, task, vram, ram)
    if settings is not None and task.answers:
        settings = solve_answer(parts, task, settings, vram, ram)
    if settings is None:
        return None
    together, limit = replace(settings, together=True), ram if task.device == "cpu" else vram
    fitting = limit is not None and all(fits(need, vram, ram) for need in needs(parts, task, together).values())
    return together if fitting else settings
