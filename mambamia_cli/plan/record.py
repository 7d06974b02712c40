"""A plan as a record: what `mambamia plan` prints and gives as JSON."""

from dataclasses import dataclass, field
from typing import Any

from mambamia_cli.plan import answering, estimate, relative, seeing, speed, watching
from mambamia_cli.plan.estimate import GIB, Settings, Task
from mambamia_cli.plan.limits import Limits, settle, show
from mambamia_cli.plan.parts import Parts


@dataclass(frozen=True)
class PlanRecord:
    """tokens: what each step makes. parts_bytes: what lies in memory for long. stages: {stage: {"device", "host"}} peaks in
    bytes; on a CPU "device" is 0. fits: a card's GiB -> settings, or None. `expected_s` is None without a bench,
    `benched` the day of it."""

    source: str
    model: str
    vision: str
    language_model: str | None
    quant: str | None
    device: str
    video: dict[str, Any]
    tokens: dict[str, int]
    parts_bytes: dict[str, int]
    stages: dict[str, dict[str, int]]
    settings: dict[str, Any]
    fits: dict[str, Any] | None = None
    expected_s: dict[str, float] | None = None
    benched: str | None = None
    notes: tuple[str, ...] = ()
    schema: str = field(default="mambamia.plan/1")


def make(source: str, parts: Parts, task: Task, limits: Limits, *, video: dict[str, Any], refuse: bool = True) -> PlanRecord:
    """The plan of a task. With `refuse`, raises OutOfMemoryError where nothing fits the limits."""
    settings = settle(parts, task, limits) if refuse else Settings()
    quant, fast = estimate.quant_of(parts, task)
    watch, asked = estimate.watch_of(parts, task, settings), estimate.answering_of(parts, task, settings)
    bytes_of, tokens = {}, {}
    read = estimate.prompt(parts, task, settings)
    if estimate.looks(parts, task):
        tower, compressor = watching.weights(parts.vision, parts.compressor, watch.item)
        bytes_of = {"vision": tower, "compressor": compressor}
        tokens = {"frames": task.frames, "patches": task.frames * parts.vision.patches, "anchors": task.frames * parts.compressor.grid_rows}
    elif parts.relative is not None:
        tokens = {"frames": read.kept, "patches": read.kept * parts.relative.patches}
    if task.answers:
        if parts.relative is not None:
            sees, hears = relative.senses(parts.relative, asked)
            own, kept = {"sight": sees, "hearing": hears}, answering.kv_cache(parts.language, asked)
            tokens["sound"] = relative.sound_tokens(estimate.heard(parts, task), read.kept, task.seconds)
        elif parts.sight is not None:
            own, kept = {"sight": seeing.tower(parts.sight, asked)}, seeing.kv_cache(parts.language, parts.sight, asked)
        else:
            own, kept = {"projector": 4 * parts.projection.parameters}, answering.kv_cache(parts.language, asked)
            own |= {"spotter": 4 * parts.spotter} if parts.spotter else {}
        bytes_of |= own | {"language_model": answering.weights(parts.language, asked), "kv_cache": kept}
        tokens |= {"kept_frames": read.kept, "visual": read.visual, "prompt": read.tokens, "answer": task.max_tokens}
    stages = {name: {"device": need.device, "host": need.host} for name, need in estimate.needs(parts, task, settings).items()}
    known = speed.rates(parts.name, task.device, quant)
    expected, day = None, None
    if known is not None:
        rates, day = known
        frames_of_video = float(video.get("frames") or task.seconds * 25)
        expected = speed.seconds(rates, frames_of_video, task.frames, read if task.answers else None, task.max_tokens)
    return PlanRecord(
        source=source, model=parts.name, vision=parts.vision.name if parts.relative is None else parts.relative.tower, language_model=parts.language.name if task.answers else None,
        quant=quant if task.answers else None, device=task.device, video=video, tokens=tokens, parts_bytes=bytes_of, stages=stages,
        settings=_shown(settings), fits=cards(parts, task) if task.device != "cpu" else None, expected_s=expected, benched=day,
        notes=tuple(_notes(parts, task, settings, fast)),
    )  # fmt: skip


def cards(parts: Parts, task: Task) -> dict[str, Any]:
    """What it takes on cards of 8 to 24 GiB: the settings and the peak, or None where nothing helps."""
    found: dict[str, Any] = {}
    for size in estimate.CARDS:
        settings = estimate.solve(parts, task, size * GIB - estimate.CUDA_ALLOWANCE, None)
        if settings is None:
            found[str(size)] = None
            continue
        need = estimate.needs(parts, task, settings)
        found[str(size)] = {"peak": max(n.device for n in need.values()), "host": max(n.host for n in need.values()),
                            "visual_tokens": estimate.prompt(parts, task, settings).visual, **_shown(settings)}  # fmt: skip
    return found


def _shown(settings: Settings) -> dict[str, Any]:
    return {"chunk_frames": settings.chunk, "window": settings.window, "offload": settings.offload,
            "prefill_rows": settings.prefill, "weights_together": settings.together, "token_budget": settings.token_budget}  # fmt: skip


def _notes(parts: Parts, task: Task, settings: Settings, fast: bool) -> list[str]:
    notes = []
    if task.device == "cuda":
        notes.append(f"of a card, {show(estimate.CUDA_ALLOWANCE)} are left free for the CUDA context and the allocator: assumed, not measured")
        if not estimate.watch_of(parts, task, settings).fused:
            notes.append("planned with the scan in plain torch; mamba-ssm's fused kernels take less")
    if settings.window < estimate.WINDOWS[0]:
        notes.append(f"the window is {settings.window} frames in place of {estimate.WINDOWS[0]}: the backward direction sees less far")
    if settings.token_budget is not None:
        notes.append(f"the token budget is lowered to {settings.token_budget}: fewer frames are kept")
    if task.device != "cpu" and settings.offload:
        notes.append("the window waits in host memory: slower, the same numbers")
    return notes


def to_text(plan: PlanRecord) -> str:
    """The plan for a terminal."""
    t, video = plan.tokens, plan.video
    lines = [f"{plan.source}  {video.get('seconds', 0):.1f} s, {video.get('width')}x{video.get('height')}",
             f"{plan.model} on {plan.device}: {plan.vision}" + (f" -> {plan.language_model} ({plan.quant})" if plan.language_model else ""), ""]  # fmt: skip
    rows = {"frames": "frames looked at", "patches": "patch tokens", "anchors": "anchors", "kept_frames": "frames kept", "visual": "visual tokens",
            "sound": "tokens of sound", "prompt": "prompt tokens, at most"}  # fmt: skip
    lines += [f"  {name:<28}{t[key]:>14,}" for key, name in rows.items() if key in t] + [""]
    names = {"vision": "vision encoder", "sight": "the model's own vision", "hearing": "the model's own hearing", "language_model": f"language model, {plan.quant}", "kv_cache": "keys and values",
             "spotter": "reader of second looks"}
    lines += [f"  {names.get(name, name):<28}{show(size):>14}" for name, size in plan.parts_bytes.items()] + [""]
    lines.append(f"  {'peak while':<28}{'GPU':>14}{'host':>14}")
    for name, need in plan.stages.items():
        gpu = show(need["device"]) if need["device"] else "-"
        lines.append(f"  {'watching' if name == 'watch' else 'answering':<28}{gpu:>14}{show(need['host']):>14}")
    kept = plan.settings
    if "watch" in plan.stages:
        lines.append(f"  with chunks of {kept['chunk_frames']} frames, windows of {kept['window']}" + (", window in host memory" if kept["offload"] else ""))
    if plan.fits is not None:
        lines += ["", f"  {'card':<10}{'peak':>10}  settings"]
        lines += [f"  {size + ' GiB':<10}" + _card_line(found, looks="watch" in plan.stages) for size, found in plan.fits.items()]
    if plan.expected_s is not None:
        lines += ["", f"  expected on this machine (mambamia bench gpu of {plan.benched}): " + ", ".join(f"{name} {value:g} s" for name, value in plan.expected_s.items())]
    elif "sight" in plan.parts_bytes:
        lines += ["", "  no time is given: mambamia bench gpu measures MambaMia models only"]
    else:
        lines += ["", "  no bench of this model on this machine, so no time is given: mambamia bench gpu"]
    return "\n".join([*lines, *(f"  {note}" for note in plan.notes)])


def _card_line(found: dict[str, Any] | None, *, looks: bool) -> str:
    if found is None:
        return f"{'-':>10}  does not fit"
    said = [f"chunks of {found['chunk_frames']}"] if looks else []
    said += [f"{found['visual_tokens']:,} visual tokens"]
    said += ["window in host memory"] if found["offload"] else []
    said += [f"window of {found['window']}"] if found["window"] != estimate.WINDOWS[0] else []
    said += [f"prompt read {found['prefill_rows']} rows at a time"] if found["prefill_rows"] != estimate.PREFILLS[0] else []
    said += ["all weights stay"] if found["weights_together"] else ["weights take turns"]
    return f"{show(found['peak']):>10}  {', '.join(said)}"
