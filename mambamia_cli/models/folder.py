"""A MambaMia model folder: config.json, compressor/, projector/ and, where there are any, adapter/, lexicon/ and spotter/. Imports no torch."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mambamia_cli.errors import ModelError
from mambamia_cli.models.registry import resolve

FORMAT = "mambamia/1"
_PARTS = ("compressor/config.json", "compressor/model.safetensors", "projector/config.json", "projector/model.safetensors")


@dataclass(frozen=True)
class ModelFolder:
    """What config.json says, checked. `vision` and `language_model` are names of embedded models, folders or hub ids.

    `token_budget`: visual tokens the language model was trained to see, None = what its context holds. `overlap`: frames that
    one window of the compressor shares with the next, as measured for these weights; None = the plan's, made for any.
    `scenes`: calibration of the peak rule, see scenes.peaks.PeakRule.from_config; `evidence`: that of matching words, see
    language.matching.MatchRule.from_config. `objects`: what the drawings that it was trained on show.
    """

    path: Path
    name: str
    vision: str
    language_model: str
    token_budget: int | None = None
    overlap: int | None = None
    scenes: dict[str, Any] = field(default_factory=dict)
    evidence: dict[str, Any] = field(default_factory=dict)
    objects: tuple[str, ...] = ()

    @property
    def adapter(self) -> Path | None:
        """The adapter of the language model, where the folder has one."""
        folder = self.path / "adapter"
        return folder if (folder / "config.json").is_file() else None

    @property
    def lexicon(self) -> Path | None:
        """The words that visual tokens were trained on, where the folder has them."""
        folder = self.path / "lexicon"
        return folder if (folder / "config.json").is_file() else None

    @property
    def spotter(self) -> Path | None:
        """What reads single views at a second look, where the folder has it."""
        folder = self.path / "spotter"
        return folder if (folder / "config.json").is_file() else None

    def part(self, name: str) -> Path:
        return self.path / name


def read_folder(name: str) -> ModelFolder:
    """The MambaMia model of a name or path, its config checked and its files there; no weights are read.

    Raises:
        ModelError: unknown, incomplete, of another format, or with values that cannot be.
    """
    path = resolve(name)
    remedy = "give --model a folder made by mambamia or a name from 'mambamia models list'"
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is not a MambaMia model: its config.json cannot be read", remedy) from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ModelError(f"{path} is not a MambaMia model: its config.json does not say {FORMAT}", remedy)
    for key in ("name", "vision", "language_model"):
        if not isinstance(config.get(key), str) or not config[key]:
            raise ModelError(f"the config.json of {path} lacks {key}", remedy)
    budget, overlap, scenes, evidence = config.get("token_budget"), config.get("overlap"), config.get("scenes", {}), config.get("evidence", {})
    for key, value in (("a token_budget", budget), ("an overlap", overlap)):
        if value is not None and (type(value) is not int or value < 1):
            raise ModelError(f"the config.json of {path} has {key} that is not a whole number above 0", remedy)
    for key, value in (("scenes", scenes), ("evidence", evidence)):
        if not isinstance(value, dict):
            raise ModelError(f"the config.json of {path} has {key} that are not an object", remedy)
    objects = config.get("objects", [])
    if not isinstance(objects, list) or not all(isinstance(word, str) for word in objects):
        raise ModelError(f"the config.json of {path} has objects that are not a list of words", remedy)
    language = config["language_model"]
    if language.startswith("./"):  # a language model that was trained with the rest lies in the folder itself
        language = str(path / language)
    missing = [part for part in _PARTS if not (path / part).is_file()]
    if missing:
        raise ModelError(f"the model {path} lacks {missing[0]}", "fetch or train it again")
    return ModelFolder(path, config["name"], config["vision"], language, budget, overlap, scenes, evidence, tuple(objects))
