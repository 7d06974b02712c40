"""Resumable runs: a checkpoint at most a minute old, metrics as JSON lines, and a learning-rate schedule."""

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch

from mambamia_cli.errors import UsageError

EVERY_SECONDS = 45.0  # kill -9 loses at most this, plus a step


class Run:
    """A stage's folder: checkpoint.pt (resumed from when present) and metrics.jsonl.

    With `write` false (all processes of a run but the first) it resumes and never writes. Raises UsageError for the checkpoint of
    something else.
    """

    def __init__(self, folder: Path, state: dict[str, object], *, write: bool = True):
        self.folder, self.state, self.step, self.seconds, self.write = folder, state, 0, 0.0, write
        folder.mkdir(parents=True, exist_ok=True)
        self._saved = self._began = time.monotonic()
        path = folder / "checkpoint.pt"
        if path.exists():
            saved = torch.load(path, weights_only=True, map_location="cpu")
            self.step, self.seconds = saved["step"], saved["seconds"]
            try:
                for name, part in state.items():
                    part.load_state_dict(saved[name])
            except (KeyError, RuntimeError, ValueError):
                raise UsageError(f"{path} is of another recipe than this one", f"remove {folder}, or give another folder with --work") from None
            torch.set_rng_state(saved["rng"])  # dropout goes on as if nothing had happened
        if write:
            self._forget()

    def _forget(self) -> None:
        """Drop the metrics of steps that a kill threw away: they are made again."""
        path = self.folder / "metrics.jsonl"
        if path.exists():
            lines = path.read_text().splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= self.step]
            if len(kept) < len(lines):
                temporary = path.with_suffix(".tmp")
                temporary.write_text("".join(kept))
                temporary.rename(path)

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, earlier sittings included."""
        return self.seconds + time.monotonic() - self._began

    def log(self, **metrics) -> None:
        if not self.write:
            return
        with open(self.folder / "metrics.jsonl", "a") as file:
            file.write(json.dumps({"step": self.step, "seconds": round(self.elapsed, 1), **metrics}) + "\n")

    def save(self) -> None:
        """Write the checkpoint beside the old one and rename it into place."""
        if not self.write:
            return
        temporary = self.folder / "checkpoint.tmp"
        parts = {name: part.state_dict() for name, part in self.state.items()}
        with open(temporary, "wb") as file:
            torch.save({"step": self.step, "seconds": self.elapsed, "rng": torch.get_rng_state(), **parts}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(self.folder / "checkpoint.pt")
        self._saved = time.monotonic()

    def advance(self) -> None:
        """Count a step; save when the last checkpoint is old enough."""
        self.step += 1
        if time.monotonic() - self._saved > EVERY_SECONDS:
            self.save()


def cosine(step: int, steps: int, *, warmup: int = 50, floor: float = 0.02) -> float:
    """Learning-rate factor in (0, 1]: linear warm-up, then half a cosine down to `floor`."""
    if step < warmup:
        return (step + 1) / warmup
    u = min(1.0, (step - warmup) / max(1, steps - warmup))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * u))


def set_rate(optimizer: torch.optim.Optimizer, base: float, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = base * group.get("scale", 1.0) * factor


def reporter(quiet: bool) -> Callable[[str], None]:
    """Progress lines on stderr."""
    import sys

    return (lambda text: None) if quiet else (lambda text: print(text, file=sys.stderr, flush=True))
