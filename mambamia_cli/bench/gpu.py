"""Every stage of `ask` on one device, as one block to paste in a report: rates, medians of several runs, memory by stage.

It is meant for a machine with a card and runs on a CPU too, and then says so. The stages come in the order of a run and with
the settings that the plan solves for it; what the plan says of memory stands beside what was measured. The rates are kept, so that
`mambamia plan` can say how long a run will take on this machine with this model.
"""

import datetime
import importlib.metadata
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mambamia_cli.bench.decode import decode_speed
from mambamia_cli.bench.language import TEXT, start_reading
from mambamia_cli.bench.memory import TensorBytes
from mambamia_cli.compressor.kernels import kernels_for
from mambamia_cli.compressor.stream import StreamingCompressor
from mambamia_cli.errors import UsageError
from mambamia_cli.models.kinds import NATIVE
from mambamia_cli.pipeline import Models
from mambamia_cli.plan import answering, estimate, speed, watching
from mambamia_cli.plan.estimate import Task
from mambamia_cli.plan.limits import settle, show
from mambamia_cli.plan.tape import DEVICE, HOST, Tape

PACKAGES = ("torch", "transformers", "bitsandbytes", "mamba-ssm", "causal-conv1d", "triton", "onnxruntime", "av")
REPEATS, REPEATS_CPU = 5, 3  # timed runs of each stage, after one that warms up
SAMPLED = 4  # frames a second kept when decoding, as `ask` does for what is short
PROMPT_TOKENS, NEW_TOKENS = 1024, 64


def bench_gpu(options: Any, clip: Path) -> dict[str, Any]:
    """Measure the stages with options.model on options.device.

    Returns {"device", "card", "cpu", "versions", "uses", "model", ..., "stages": [{"stage", "value", "unit", "median_s", "runs",
    "peak_bytes"}], "memory": {stage: {"planned", "measured"}}, "saved"}. peak_bytes is what torch allocated on a card; elsewhere
    the bytes of torch's tensors, counted in a run of their own that is not timed.

    Raises:
        UsageError: the model is not a MambaMia one. OutOfMemoryError: the plan says that it does not fit.
    """
    models = Models(options.model, device=options.device, quant=options.quant, threads=options.threads)
    if models.kind.kind != NATIVE or models.parts is None:
        raise UsageError(f"bench gpu measures MambaMia models, and {models.name} is none that can be planned", "leave --model out, or give a MambaMia model")
    kind = models.device.partition(":")[0]
    task = Task(384, 384.0, (720, 1280), kind, options.quant, NEW_TOKENS)
    models.settings = settle(models.parts, task, models.limits)
    timer = _Timer(models.device, REPEATS if kind != "cpu" else REPEATS_CPU)

    with torch.inference_mode():
        stages = [{"stage": name, **measure(models, clip, timer)} for name, measure in _STAGES.items()]
    found = {row["stage"]: row["value"] for row in stages}
    quant = estimate.quant_of(models.parts, task)[0]
    about = {"date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"), "card": card_facts(models.device)}
    seen = {"watch": max(row["peak_bytes"] or 0 for row in stages[1:3]), "answer": max(row["peak_bytes"] or 0 for row in stages[3:])}
    planned = planned_bytes(models, task)
    return {
        "date": about["date"], "device": models.device, "card": about["card"], "cpu": {"machine": platform.machine(), "threads": torch.get_num_threads()},
        "versions": {name: _version(name) for name in PACKAGES},
        "uses": {name: "fused kernel" if k.function else f"plain torch ({k.reason})" for name, k in zip(("scan", "convolution"), kernels_for(kind), strict=True)},
        "model": models.name, "vision": models.folder.vision, "language_model": models.folder.language_model, "quant": models.language.quant,
        "settings": {"chunk_frames": models.settings.chunk, "window": models.settings.window, "offload": models.settings.offload,
                     "weights_together": models.settings.together},
        "stages": stages,
        "memory": {name: {"planned": planned[name], "measured": seen[name]} for name in seen},
        "saved": _save(models.parts.name, kind, quant, {name: found[name] for name in speed.RATES}, about),
    }  # fmt: skip


class _Timer:
    """Runs work a few times on a device: median seconds, and the peak of memory."""

    def __init__(self, device: str, repeats: int):
        self.device, self.repeats = torch.device(device), repeats

    def __call__(self, work: Callable[[], Any], held: Iterable[Any], *, seconds: Callable[[Any], float] | None = None) -> dict[str, Any]:
        """`held`: what holds the weights that the work uses. `seconds`: of a run, from its result; None: all of it."""
        if self.device.type != "cuda":
            with TensorBytes().hold(*_tensors(held)) as counted:
                work()
        else:
            work()
            self.wait()
            torch.cuda.reset_peak_memory_stats(self.device)
        taken = []
        for _ in range(self.repeats):
            self.wait()
            began = time.perf_counter()
            result = work()
            self.wait()
            taken.append(time.perf_counter() - began if seconds is None else seconds(result))
        peak = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else sum(counted.peak.values())
        return {"median_s": statistics.median(taken), "runs": self.repeats, "peak_bytes": peak}

    def wait(self) -> None:
        """Until the device has done all it was told to: it goes on by itself after a call returns."""
        if self.device.type in ("cuda", "xpu", "mps"):
            getattr(torch, self.device.type).synchronize()


def _decode(models: Models, clip: Path, timer: _Timer) -> dict[str, Any]:
    """Frames of video gone through a second, sampled and scaled for the encoder; on the CPU, whatever the device."""
    speeds = [decode_speed(clip, fps=SAMPLED, size=tuple(models.encoder.input_size)) for _ in range(timer.repeats)]
    median = statistics.median(s.seconds for s in speeds)
    return {"value": statistics.median(s.frames_per_second for s in speeds), "unit": "frames of video/s", "median_s": median, "runs": timer.repeats,
            "peak_bytes": None}  # fmt: skip


def _vision(models: Models, _clip: Path, timer: _Timer) -> dict[str, Any]:
    models.enter("watch")
    pixels = torch.randint(0, 256, (models.settings.chunk, 3, *models.encoder.input_size), dtype=torch.uint8)  # (m, 3, H, W)
    run = timer(lambda: models.encoder.encode(pixels), [models.encoder])
    return {"value": len(pixels) / run["median_s"], "unit": "frames/s", **run}


def _compressor(models: Models, _clip: Path, timer: _Timer) -> dict[str, Any]:
    """A whole window and what closes it, chunk by chunk, as pipeline.index drives it."""
    chosen, encoder = models.settings, models.encoder
    device = getattr(encoder, "device", None) or encoder.backend.device
    patches = torch.randn(chosen.chunk, encoder.grid[0] * encoder.grid[1], encoder.width).to(device, models.half)  # (m, n, d_vision)
    chunks = max(1, -(-chosen.window // chosen.chunk))

    def work() -> None:
        stream = StreamingCompressor(models.compressor, window=chosen.window, overlap=models.overlap, chunk_frames=chosen.chunk, offload=chosen.offload)
        for _ in range(chunks):
            stream.push(patches)
        stream.finish()

    run = timer(work, [encoder, models.compressor])
    return {"value": chunks * len(patches) / run["median_s"], "unit": "frames/s", **run}


def _prefill(models: Models, _clip: Path, timer: _Timer) -> dict[str, Any]:
    models.enter("answer")
    embeds = _prompt(models)
    run = timer(lambda: start_reading(models.language, embeds)[0]().argmax().item(), [models.language, models.projector])
    return {"value": len(embeds) / run["median_s"], "unit": "tokens/s", **run}


def _write(models: Models, _clip: Path, timer: _Timer) -> dict[str, Any]:
    """Tokens written a second after a prompt, each read back before the next, as an answer is."""
    embeds = _prompt(models)

    def work() -> float:
        read, step = start_reading(models.language, embeds)
        token = int(read().argmax())
        began = time.perf_counter()
        for _ in range(NEW_TOKENS):
            token = int(step(token).argmax())
        return time.perf_counter() - began

    run = timer(work, [models.language, models.projector], seconds=lambda took: took)
    return {"value": NEW_TOKENS / run["median_s"], "unit": "tokens/s", **run}


_STAGES = {"decode": _decode, "vision": _vision, "compressor": _compressor, "prefill": _prefill, "write": _write}


def _prompt(models: Models) -> Tensor:
    """(l, width): as much text as the context holds, up to PROMPT_TOKENS."""
    language = models.language
    count = min(PROMPT_TOKENS, language.context_length - NEW_TOKENS - 1)
    ids = language.tokenize(TEXT)
    return language.embed((ids * (count // len(ids) + 1))[:count])


def _tensors(things: Iterable[Any], depth: int = 6) -> list[Any]:
    """Modules and tensors that objects hold, however deep: our own decoder is no nn.Module."""
    found: list[Any] = []
    for thing in things:
        if isinstance(thing, nn.Module | Tensor):
            found.append(thing)
        elif isinstance(thing, list | tuple | dict):
            found += _tensors(thing.values() if isinstance(thing, dict) else thing, depth - 1) if depth else []
        elif type(thing).__module__.startswith("mambamia_cli.") and depth:
            names = getattr(type(thing), "__slots__", ())
            found += _tensors([*getattr(thing, "__dict__", {}).values(), *(getattr(thing, n, None) for n in names)], depth - 1)
    return found


def planned_bytes(models: Models, task: Task) -> dict[str, int]:
    """What the plan says of the very stages that are timed: peak bytes of tensors on the device."""
    assert models.parts is not None
    parts, chosen, cpu = models.parts, models.settings, task.device == "cpu"
    watch, answer = Tape(unified=cpu), Tape(unified=cpu)
    looked = estimate.watch_of(parts, replace(task, frames=chosen.window), chosen)
    watching.play(watch, parts.vision, parts.compressor, looked)
    length = min(PROMPT_TOKENS, parts.language.context - NEW_TOKENS - 1)
    quant = models.language.quant  # which of two a CPU is quicker with was only known when it was loaded
    asked = replace(estimate.answering_of(parts, replace(task, quant=quant), chosen), tokens=length, kept=1, new=NEW_TOKENS + 1)
    with answer.hold(sum(watching.weights(parts.vision, parts.compressor, looked.item)) if chosen.together and not cpu else 0):
        answering.play(answer, parts.language, parts.projection, asked)
    where = HOST if cpu else DEVICE
    return {"watch": watch.peak[where], "answer": answer.peak[where]}


def card_facts(device: str) -> dict[str, Any] | None:
    """Name, memory, driver and CUDA of a card; None where the device is none."""
    if not device.startswith("cuda"):
        return None
    facts = torch.cuda.get_device_properties(torch.device(device))
    return {"name": facts.name, "memory_bytes": facts.total_memory, "capability": f"{facts.major}.{facts.minor}", "driver": driver(),
            "cuda": torch.version.cuda or torch.version.hip}  # fmt: skip


def driver() -> str | None:
    """NVIDIA's driver version, None where nothing says it."""
    if (tool := shutil.which("nvidia-smi")) is None:
        return None
    try:
        done = subprocess.run([tool, "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return (done.stdout.strip().splitlines() or [None])[0]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _save(model: str, device: str, quant: str, rates: dict[str, float], about: dict[str, Any]) -> bool:
    try:
        speed.save(model, device, quant, rates, about)
    except OSError:
        return False
    return True


def to_text(found: dict[str, Any]) -> str:
    """The block to paste: Markdown that reads as well in a terminal."""
    card = found["card"]
    if card:
        lines = [f"{card['name']}, {show(card['memory_bytes'])}, compute capability {card['capability']}, driver {card['driver'] or 'unknown'}, CUDA {card['cuda']}"]
    else:
        lines = [f"NO GPU WAS USED: these are figures of {found['device']}, {found['cpu']['threads']} threads of {found['cpu']['machine']}."]
    lines.append(", ".join(f"{name} {version or 'not installed'}" for name, version in found["versions"].items()))
    lines.append(f"{found['model']}: {found['vision']} -> {found['language_model']} ({found['quant']}); "
                 + "; ".join(f"{name}: {used}" for name, used in found["uses"].items()))  # fmt: skip
    kept = found["settings"]
    lines += [f"chunks of {kept['chunk_frames']} frames, windows of {kept['window']}" + (", window in host memory" if kept["offload"] else "")
              + (", all weights stay" if kept["weights_together"] else ", weights take turns"), ""]  # fmt: skip
    lines += [f"| {'stage':<12} | {'rate':>28} | {'median':>10} | {'peak memory':>12} |", f"|{'-' * 14}|{'-' * 29}:|{'-' * 11}:|{'-' * 13}:|"]
    for row in found["stages"]:
        peak = "-" if row["peak_bytes"] is None else show(row["peak_bytes"])
        lines.append(f"| {row['stage']:<12} | {row['value']:>9,.1f} {row['unit']:<18} | {row['median_s']:>8.3f} s | {peak:>12} |")
    how = "allocated on the card" if card else "bytes of torch's tensors, counted in a run of their own"
    lines += ["", f"Medians of {found['stages'][0]['runs']} runs after one that warms up. Memory: {how}."]
    lines += [f"{name}: planned {show(both['planned'])}, measured {show(both['measured'])}" for name, both in found["memory"].items()]
    lines.append("`mambamia plan` now says how long a run takes here." if found["saved"] else "The cache cannot be written, so `mambamia plan` goes without.")
    return "\n".join(lines)
