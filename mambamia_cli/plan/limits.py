"""Limits of memory: reading them, finding the machine's own, and refusing a run that cannot stay within them."""

import logging
import os
import re
from dataclasses import dataclass, replace
from fractions import Fraction

from mambamia_cli.errors import OutOfMemoryError, UsageError
from mambamia_cli.plan import estimate
from mambamia_cli.plan.estimate import CUDA_ALLOWANCE, Need, Settings, Task, fits
from mambamia_cli.plan.parts import Parts

log = logging.getLogger(__name__)

_UNITS = {"": 1 << 30, "g": 1 << 30, "gib": 1 << 30, "gb": 10**9, "m": 1 << 20, "mib": 1 << 20, "mb": 10**6, "t": 1 << 40, "tib": 1 << 40}
_WORDS = {"watch": "looking at the video", "answer": "the language model"}


@dataclass(frozen=True)
class Limits:
    """Bytes that may be used; None = no limit is known. The words say where each comes from, for an error."""

    vram: int | None = None
    ram: int | None = None
    vram_words: str = ""
    ram_words: str = ""


def parse_size(text: str, flag: str) -> int:
    """"8GiB", "8G", "8" (GiB), "7.5GB", "900MiB" -> bytes.

    Raises:
        UsageError: it is none of these or not above 0.
    """
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    unit = _UNITS.get(found[2].lower()) if found else None
    size = int(Fraction(found[1]) * unit) if found and unit else 0
    if size <= 0:
        raise UsageError(f"{flag} {text} is not a size of memory", "give one such as 8GiB, 7.5GB or 900MiB")
    return size


def limits_of(vram: str | None, ram: str | None, device: str, *, card: int | None = None) -> Limits:
    """From --vram-limit and --ram-limit as typed, else from the machine: `card` is the free memory of a GPU in bytes, where
    one was found. Of a card, CUDA_ALLOWANCE is taken off for what no tensor holds.

    Raises UsageError for a limit that is no size.
    """
    if vram is not None:
        size, words = parse_size(vram, "--vram-limit"), f"--vram-limit {vram} leaves"
        if device == "cpu":
            log.warning("--vram-limit %s limits nothing here, where all is computed on the CPU; --ram-limit does", vram)
    else:
        size, words = card, "the GPU has"
    space = None if size is None or device == "cpu" else max(0, size - CUDA_ALLOWANCE)
    if ram is not None:
        return Limits(space, parse_size(ram, "--ram-limit"), words, f"--ram-limit {ram} leaves")
    return Limits(space, available_memory(), words, "this machine has")


def available_memory() -> int | None:
    """Bytes that this process could still take: free and reclaimable memory and swap, or its control group's limit if that
    is lower. None where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            facts = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in file}
        free = facts["MemAvailable"] + facts.get("SwapFree", 0)
    except (OSError, KeyError, ValueError, IndexError):
        return None
    for limit, used in (("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
                        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes")):  # fmt: skip
        try:
            with open(limit, encoding="ascii") as most, open(used, encoding="ascii") as now:
                free = min(free, int(most.read()) - int(now.read()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return max(0, free)


def detected_device() -> str:
    """What "auto" probably comes to, told without torch: "cuda" where NVIDIA's driver has a card, else "cpu"."""
    cards = "/proc/driver/nvidia/gpus"
    return "cuda" if os.path.isdir(cards) and os.listdir(cards) else "cpu"


def settle(parts: Parts, task: Task, limits: Limits) -> Settings:
    """Settings under which the run fits.

    Raises:
        OutOfMemoryError: none do; its hint names the flag to lower. UsageError: the budget or the context holds no frame.
    """
    settings = estimate.solve_watch(parts, task, limits.vram, limits.ram)
    if settings is None:
        smallest = Settings(chunk=1, window=estimate.WINDOWS[-1], offload=task.device != "cpu")
        need = estimate.watch_need(parts, task, smallest)
        raise _refused("watch", need, limits, _fewer_frames(parts, task, smallest, limits))
    if not task.answers:
        return replace(settings, together=_room_for_all(parts, task, limits))
    solved = estimate.solve(parts, task, limits.vram, limits.ram)
    if solved is None:
        smallest = replace(settings, prefill=estimate.PREFILLS[-1])
        raise _refused("answer", estimate.answer_need(parts, task, smallest), limits, _smaller_answer(parts, task, smallest, limits))
    return solved


def _room_for_all(parts: Parts, task: Task, limits: Limits) -> bool:
    """Whether a language model that an earlier question loaded may stay."""
    try:
        found = estimate.solve(parts, replace(task, answers=True), limits.vram, limits.ram)
    except UsageError:  # no frame fits its context: that is for a question to say
        return False
    return found is not None and found.together


def _refused(stage: str, need: Need, limits: Limits, hint: str) -> OutOfMemoryError:
    if limits.vram is not None and need.device > limits.vram:
        kind, size, space, words = "GPU memory", need.device, limits.vram, limits.vram_words
    else:
        kind, size, space, words = "memory", need.host, limits.ram or 0, limits.ram_words
    return OutOfMemoryError(f"{_WORDS[stage]} needs {show(size)} of {kind} and {words} {show(space)}", hint)


def _fewer_frames(parts: Parts, task: Task, settings: Settings, limits: Limits) -> str:
    for frames in (32, 16, 8, 4, 2, 1):
        if frames < task.frames and fits(estimate.watch_need(parts, replace(task, frames=frames), settings), limits.vram, limits.ram):
            return f"lower --max-frames to {frames}"
    return "use --device cpu or a model with a smaller vision encoder" if task.device != "cpu" else "use a smaller model"


def _smaller_answer(parts: Parts, task: Task, settings: Settings, limits: Limits) -> str:
    """The flag that makes the answer fit."""
    budget = estimate.prompt(parts, task, settings).visual // parts.each * parts.each
    while budget > parts.each:
        budget = max(parts.each, budget // 2 // parts.each * parts.each)
        if fits(estimate.answer_need(parts, replace(task, token_budget=budget), settings), limits.vram, limits.ram):
            return f"lower --token-budget to {budget}"
    if task.max_tokens > 64 and fits(estimate.answer_need(parts, replace(task, max_tokens=64), settings), limits.vram, limits.ram):
        return "lower --max-tokens to 64"
    if estimate.quant_of(parts, task)[0] != "nf4":
        packed = replace(task, quant="nf4")
        if fits(estimate.answer_need(parts, packed, settings), limits.vram, limits.ram):
            return "use --quant nf4"
    if parts.relative is not None and parts.relative.hearing:
        deaf = replace(parts, relative=replace(parts.relative, hearing=0))
        if fits(estimate.answer_need(deaf, task, settings), limits.vram, limits.ram):
            return "use --no-audio"
    return "use --device cpu or a smaller language model" if task.device != "cpu" else "use a smaller language model"


def show(size: float) -> str:
    """Bytes for people."""
    return f"{size / (1 << 30):.1f} GiB" if size >= 1 << 30 else f"{size / (1 << 20):.0f} MiB"
