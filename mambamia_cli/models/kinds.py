"""Which of the three kinds of model a name means, from its config.json alone. Imports no torch and reads no weights.

native        a MambaMia folder of ours (vision encoder, compressor, projector, language model)
unimambamia   the published audio-visual relative, a LLaVA checkpoint with a Mamba-2 audio compressor
vlm           any image-text-to-text model of transformers; our compressor picks the frames that it sees
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mambamia_cli.errors import ModelError
from mambamia_cli.models import hub
from mambamia_cli.models.registry import ENTRIES, resolve

NATIVE, UNIMAMBAMIA, VLM = "native", "unimambamia", "vlm"
EYE = "mambamia-tiny"
"""The model whose delta marks scenes and picks frames where the one that answers has no compressor of its own."""

FORMAT = "mambamia/1"
REMEDY = "give --model a MambaMia folder, the hub id or folder of an image-text-to-text model, or a name from 'mambamia models list'"
_SPEAKERS = ("ForConditionalGeneration", "ForCausalLM", "ForImageTextToText", "ForVision2Seq")


@dataclass(frozen=True)
class ModelKind:
    """`name` as it was given; `config`: what its config.json holds; `path`: its folder, None for a hub id, whose weights
    may not be here yet (hub.fetch)."""

    kind: str
    name: str
    config: dict[str, Any]
    path: Path | None


def kind_of(name: str) -> ModelKind:
    """The kind of a name of ours, a folder or a hub id (owner/name). Of a hub id only config.json is fetched.

    Raises:
        ModelError: no such model, one without a readable config.json, or one that cannot see.
    """
    if name in ENTRIES and ENTRIES[name].kind != "mambamia":
        raise ModelError(f"{name} is one part of a model", REMEDY)
    if name in ENTRIES or hub.local(name):
        path = resolve(name)
        config = _read(path / "config.json", name)
    else:
        path, config = None, _read(hub.config_file(name), name)
    return ModelKind(_kind(config, name), name, config, path)


def _read(path: Path, name: str) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{name} is not a MambaMia model: its config.json cannot be read", REMEDY) from error
    if not isinstance(config, dict):
        raise ModelError(f"{name} is not a MambaMia model: its config.json does not say {FORMAT}", REMEDY)
    return config


def _kind(config: dict[str, Any], name: str) -> str:
    if "format" in config:
        if config["format"] != FORMAT:
            raise ModelError(f"{name} is of the format {config['format']} and this version reads {FORMAT}", REMEDY)
        return NATIVE
    if config.get("model_type") == "llava_qwen" and config.get("mm_vision_tower"):
        return UNIMAMBAMIA
    speaks = all(str(a).endswith(_SPEAKERS) for a in config.get("architectures") or ())
    if "vision_config" in config and speaks:
        return VLM
    if config.get("auto_map"):
        raise ModelError(f"{name} needs program code of its own, which is never run", "choose a model that transformers knows")
    if config.get("model_type"):
        raise ModelError(f"{name} ({config['model_type']}) is no model that answers questions on pictures", REMEDY)
    raise ModelError(f"{name} is not a MambaMia model: its config.json does not say {FORMAT}", REMEDY)
