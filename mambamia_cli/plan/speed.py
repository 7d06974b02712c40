"""How long a run will take: from a bench of this machine, and only from one of the same model on the same device."""

import json
import os
import re
from pathlib import Path
from typing import Any

from mambamia_cli.models.cache import cache_dir
from mambamia_cli.plan.frames import Prompt

FORMAT = "mambamia.bench/1"
RATES = ("decode", "vision", "compressor", "prefill", "write")
"""Frames of video, frames, frames, tokens and tokens a second."""


def bench_file(model: str, device: str, quant: str) -> Path:
    """Where the figures of a model on this machine's device are kept."""
    plain = re.sub(r"[^A-Za-z0-9.-]+", "-", f"{model}-{device}-{quant}")
    return cache_dir() / "bench" / f"{plain}.json"


def save(model: str, device: str, quant: str, rates: dict[str, float], about: dict[str, Any]) -> Path:
    """Keep the figures of a bench; the file appears whole or not at all. Raises OSError when the cache cannot be written."""
    path = bench_file(model, device, quant)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(json.dumps({"format": FORMAT, "rates": rates, "about": about}, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def rates(model: str, device: str, quant: str) -> tuple[dict[str, float], str] | None:
    """The figures of this machine and the day they are of; None when it was never benched with this model."""
    try:
        kept = json.loads(bench_file(model, device, quant).read_text(encoding="utf-8"))
        found = {name: float(kept["rates"][name]) for name in RATES}
        return (found, str(kept["about"]["date"])) if kept["format"] == FORMAT and min(found.values()) > 0 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def seconds(rate: dict[str, float], video_frames: float, frames: int, prompt: Prompt | None, new: int) -> dict[str, float]:
    """Seconds by stage. Decoding goes on beside the other two, so watching takes as long as the slower. `new`: tokens
    written, at most."""
    watching = max(video_frames / rate["decode"], frames / rate["vision"] + frames / rate["compressor"])
    found = {"watch": watching}
    if prompt is not None:
        found |= {"prefill": prompt.tokens / rate["prefill"], "write": new / rate["write"]}
    return {name: round(value, 2) for name, value in found.items()}
