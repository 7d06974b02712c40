"""The training recipe: one TOML file, checked; unknown keys are refused by name."""

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mambamia_cli.errors import ModelError, UsageError


@dataclass(frozen=True)
class FeaturesConfig:
    shards: int = 89
    still_shards: int = 110
    reel_shards: int = 60
    view_shards: int = 100
    validation_shards: int = 4
    calibration_videos: int = 20  # of each sort, seen styles and unseen


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what the weights become. Sections are the config classes of the parts they size."""

    name: str = "mambamia-tiny"
    seed: int = 2025
    vision: str = "efficientnet-lite0"
    language_model: str = "smollm2-135m-instruct"
    token_budget: int = 64  # visual tokens asked for by default: what the adapter was tuned on
    overlap: int | None = None  # frames a window of the compressor shares with the next; None = the plan's, made for any weights
    scenes: dict = field(default_factory=dict)  # scenes.peaks.PeakRule, calibrated on held-out videos
    evidence: dict = field(default_factory=dict)  # language.matching.MatchRule, begun from here, then calibrated
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    compressor: Any = None
    projector: Any = None
    align: Any = None
    edges: Any = None
    tune: Any = None
    spotter: Any = None


def section(kind: type, values: dict, where: str):
    """`kind` of the values. Raises UsageError for a key it does not have and for a value that does not fit."""
    known = {f.name for f in dataclasses.fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise UsageError(f"unknown key {unknown[0]!r} in {where}", f"use one of {', '.join(sorted(known))}")
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except TypeError as error:
        raise UsageError(f"bad value in {where}: {error}", "correct the training configuration") from None


def load(path: Path) -> Recipe:
    """Read and check a recipe. Raises UsageError for a missing file, bad TOML, an unknown key or a value that does not fit."""
    from mambamia_cli.compressor.config import CompressorConfig
    from mambamia_cli.language.matching import MatchRule
    from mambamia_cli.language.projector import ProjectorConfig
    from mambamia_cli.scenes.peaks import PeakRule
    from mambamia_cli.training.align import AlignConfig
    from mambamia_cli.training.edges import EdgesConfig
    from mambamia_cli.training.spotter import Lesson, SpotterTraining
    from mambamia_cli.training.tune import TuneConfig

    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", "name the recipe with --config FILE") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML ({error})", "correct the training configuration") from None
    kinds = {"features": FeaturesConfig, "compressor": CompressorConfig, "projector": ProjectorConfig, "align": AlignConfig,
             "edges": EdgesConfig, "tune": TuneConfig, "spotter": SpotterTraining}
    try:
        PeakRule.from_config(raw.get("scenes", {}))
        MatchRule.from_config(raw.get("evidence", {}))
    except ModelError as error:  # the words are a model's config.json's, where these tables end up
        raise UsageError(f"{path.name}: {error.message}", "correct the training configuration") from None
    if "readers" in (spotter := raw.get("spotter", {})):
        where = f"[[spotter.readers]] of {path.name}"
        if not isinstance(spotter["readers"], list) or not all(isinstance(reader, dict) for reader in spotter["readers"]):
            raise UsageError(f"{where} is no list of tables", "correct the training configuration")
        spotter["readers"] = [section(Lesson, reader, where) for reader in spotter["readers"]]
    for key, kind in kinds.items():
        raw[key] = section(kind, raw.get(key, {}), f"[{key}] of {path.name}")
    return section(Recipe, raw, path.name)
