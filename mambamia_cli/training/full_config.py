"""What a training on LLaVA-format data is made with: a TOML file, the command line over it, the paper's figures by default."""

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mambamia_cli.errors import UsageError

STAGES = ("align", "tune")
QUANTS = ("auto", "nf4", "fp4", "bf16", "fp32")
PRECISIONS = ("auto", "bf16", "fp32")


@dataclass(frozen=True)
class StageConfig:
    """One stage. A step takes `batch` * `accumulate` * (number of processes) rows."""

    lr: float
    epochs: float = 1.0
    steps: int | None = None  # in place of epochs
    batch: int = 1  # rows that pass the models together
    accumulate: int = 8
    warmup: float = 0.03  # part of the steps
    select: float = 0.5  # part of the videos whose frames are chosen by delta, as at inference
    kept: tuple[float, float] = (0.25, 1.0)  # what part of the frames the choice leaves, drawn evenly
    delta_weight: float = 0.1  # of the boundary loss on delta
    weight_decay: float = 0.0
    clip: float = 1.0

    def __post_init__(self):
        positive = {"lr": self.lr, "epochs": self.epochs, "steps": 1 if self.steps is None else self.steps, "batch": self.batch,
                    "accumulate": self.accumulate, "clip": self.clip}  # fmt: skip
        for name, value in positive.items():
            if not value > 0:
                raise UsageError(f"{name} is {value} and must be above 0", "correct the training configuration")
        if not 0 <= self.select <= 1 or not 0 <= self.warmup < 1 or not 0 < self.kept[0] <= self.kept[1] <= 1:
            raise UsageError("select, warmup and kept are parts, from 0 to 1", "correct the training configuration")


@dataclass(frozen=True)
class LoraSettings:
    rank: int = 16  # 0: no adapter, all of the language model is trained
    alpha: float = 32.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True)
class FullRecipe:
    """Everything that decides what the weights become, and how they are computed."""

    vision: str = ""
    language_model: str = ""
    data: tuple[str, ...] = ()
    media: str = "."
    init: str | None = None  # a MambaMia folder to begin from
    name: str = "mambamia-custom"
    seed: int = 2025
    quant: str = "auto"  # of the frozen language model: nf4 on a GPU
    precision: str = "auto"  # of the arithmetic: bf16 on a GPU; trained weights stay in float32
    gradient_checkpointing: bool = True
    fps: float = 2.0
    frames: int = 128
    max_length: int = 8192  # tokens of a sequence; a longer row is skipped
    held_out: int = 0  # last rows, never trained on
    evaluate_every: int = 500  # steps
    log_every: int = 10
    workers: int = 2  # threads that read media
    compressor: dict = field(default_factory=dict)  # over the paper's sizes
    projector: dict = field(default_factory=dict)
    lora: LoraSettings = LoraSettings()
    align: StageConfig = StageConfig(lr=1e-4)
    tune: StageConfig = StageConfig(lr=2e-5)

    def __post_init__(self):
        for key, flag in (("vision", "--vision"), ("language_model", "--llm"), ("data", "--data")):
            if not getattr(self, key):
                raise UsageError(f"{flag} is not given", f"name it on the command line or as {key} in the configuration")
        for key, known in (("quant", QUANTS), ("precision", PRECISIONS)):
            if getattr(self, key) not in known:
                raise UsageError(f"{key} {getattr(self, key)!r} cannot be trained with", f"use one of {', '.join(known)}")
        if min(self.frames, self.max_length, self.evaluate_every, self.log_every, self.fps) <= 0 or self.held_out < 0:
            raise UsageError("frames, fps, max_length, evaluate_every and log_every must be above 0", "correct the training configuration")
        if self.lora.rank == 0 and self.quant in ("nf4", "fp4"):
            raise UsageError(f"weights in {self.quant} cannot be trained themselves", "use --quant fp32, or an adapter (lora rank above 0)")


RATES = ("lr", "steps", "batch", "accumulate", "epochs")
"""Command-line values that go to every stage."""


def load(path: Path | None, given: dict[str, Any]) -> FullRecipe:
    """The recipe of a TOML file with the command line's values (None: not given) over it.

    Raises UsageError for bad TOML, an unknown key, or a value that does not fit.
    """
    from mambamia_cli.compressor.config import CompressorConfig
    from mambamia_cli.language.projector import ProjectorConfig
    from mambamia_cli.training.config import section

    raw = read_toml(path) if path else {}
    where = path.name if path else "the command line"
    given = {key: value for key, value in given.items() if value is not None}
    rates = {key: given.pop(key) for key in RATES if key in given}
    raw |= given
    defaults = {"align": {"lr": 1e-4}, "tune": {"lr": 2e-5}}
    for stage in STAGES:
        raw[stage] = section(StageConfig, defaults[stage] | raw.get(stage, {}) | rates, f"[{stage}] of {where}")
    raw["lora"] = section(LoraSettings, raw.get("lora", {}), f"[lora] of {where}")
    for key, kind in (("compressor", CompressorConfig), ("projector", ProjectorConfig)):
        unknown = sorted(set(raw.get(key, {})) - {f.name for f in dataclasses.fields(kind)})
        if unknown:
            raise UsageError(f"unknown key {unknown[0]!r} in [{key}] of {where}", f"use the fields of the {key}")
    if isinstance(raw.get("data"), str):
        raw["data"] = [raw["data"]]
    return section(FullRecipe, raw, where)


def read_toml(path: Path) -> dict:
    """Raises UsageError when the file is missing or is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", "name the recipe with --config FILE") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML ({error})", "correct the training configuration") from None
