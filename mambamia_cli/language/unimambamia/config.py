"""What a UniMambaMia checkpoint's config.json decides, checked. Imports no torch.

The towers' own configurations stand in their own repositories; those of the published model are known here, so that its
folder alone is enough.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mambamia_cli.errors import ModelError
from mambamia_cli.language.tokenizer import read_json
from mambamia_cli.models import hub

FRAMES, RATE = 32, 1
"""Frames that the published model was trained with: at most so many, at up to so many a second."""
CONTEXT = 50_000  # tokens; model_max_length of its evaluation
SYSTEM = "You are a helpful assistant."
_SIGLIP2 = {"model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
            "num_attention_heads": 16, "patch_size": 16, "image_size": 384}  # fmt: skip
_QWEN2_AUDIO = {"model_type": "qwen2_audio_encoder", "d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20,
                "encoder_ffn_dim": 5120, "num_mel_bins": 128, "max_source_positions": 1500}  # fmt: skip
_KNOWN = (("siglip2-so400m-patch16-384", _SIGLIP2), ("qwen2-audio-encoder", _QWEN2_AUDIO))
_IMAGES = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2}  # SigLIP's
_MERGE = re.compile(r"flat_video_frame_with_end_token(?:_and_avepool(\d+)(_zigzag)?)?")
_AUDIO = "audio_projector_mambamia2uni"
_SIGHT = {"model.vision_tower.vision_tower.": "sight.", "model.mm_projector.": "sight.projector."}
_HEARING = {"model.audio_tower.model.": "hearing.encoder.", "model.mm_audio_projector.": "hearing.compressor."}
_UNUSED = ("text_model.", "logit_", "head.", "post_layernorm.")  # of a tower, behind the layer that is read
_STATE_OF = "model.mm_audio_projector.model.layers.0.mixer.conv1d.weight"


@dataclass(frozen=True)
class RelativeConfig:
    """vision, audio, text: keyword arguments of the transformers configs; audio None for a model that does not hear.

    select_layer: hidden state of the vision tower, as transformers counts. pool: frames' patches are averaged pool x pool.
    interleaved: each frame's sound stands behind its patches, else all sound behind all frames. pad: frames are padded to
    squares with the mean colour, else squeezed. block: audio features that become one token.
    """

    vision: dict[str, Any]
    images: dict[str, Any]
    text: dict[str, Any]
    select_layer: int
    projector_layers: int
    pool: int
    interleaved: bool
    pad: bool
    audio: dict[str, Any] | None
    block: int = 25
    audio_layers: int = 2
    audio_hidden: int = 3072
    audio_expand: float = 2.0

    @property
    def side(self) -> int:
        """Pixels of a frame, both ways."""
        return int(self.vision.get("image_size", 224))

    @property
    def grid(self) -> int:
        """Patches of a frame before pooling, both ways."""
        return self.side // int(self.vision.get("patch_size", 16))

    @property
    def frame_tokens(self) -> int:
        """Visual tokens of a frame with the one that ends it, sound not counted."""
        return (self.grid // self.pool) ** 2 + 1


def read_config(folder: Path, config: dict[str, Any], *, hear: bool = True) -> RelativeConfig:
    """Of a folder with its config.json. `hear` false leaves the audio parts out, whatever their kind.

    Raises:
        ModelError: a key is missing, or says something that this version does not know.
    """

    def value(key: str, default: Any = None) -> Any:
        found = config.get(key)
        if found is None and default is None:
            raise ModelError(f"the config.json of {folder} lacks {key}", "fetch the model again")
        return default if found is None else found

    def refuse(what: str, remedy: str = "this version reads models like UniMambaMia-AV-Qwen2-7B") -> None:
        raise ModelError(f"{folder} {what}", remedy)

    merge = _MERGE.fullmatch(str(value("mm_patch_merge_type")))
    projector = re.fullmatch(r"mlp(\d+)x_gelu|linear", str(value("mm_projector_type")))
    if merge is None:
        refuse(f"lays frames out as {value('mm_patch_merge_type')}")
    if projector is None:
        refuse(f"has a projector of the kind {value('mm_projector_type')}")
    if config.get("mm_use_im_start_end") or config.get("mm_vision_select_feature", "patch") != "patch":
        refuse("was made with image marks or class tokens")
    vision, images = _tower(folder, value("mm_vision_tower"))
    if not str(vision.get("model_type", "")).startswith("siglip_vision"):
        refuse(f"sees through {vision.get('model_type')}, not SigLIP")
    audio = None
    if hear and config.get("mm_audio_tower"):
        if config.get("mm_audio_projector_type") != _AUDIO:
            refuse(f"compresses sound by {config.get('mm_audio_projector_type')}", "use --no-audio")
        audio, _ = _tower(folder, config["mm_audio_tower"])
        if audio.get("model_type") != "qwen2_audio_encoder":
            refuse(f"hears through {audio.get('model_type')}, not the Qwen2-Audio encoder", "use --no-audio")
    block = re.search(r"(\d+)patchwise", str(config.get("audio_projector_mode") or "25patchwise"))
    return RelativeConfig(
        vision=vision, images=images, text={**config, "model_type": "qwen2"}, select_layer=int(value("mm_vision_select_layer", -2)),
        projector_layers=int(projector[1] or 1), pool=int(merge[1] or 1), interleaved=bool(merge[2]),
        pad=config.get("image_aspect_ratio") == "pad", audio=audio, block=int(block[1]) if block else 25,
        audio_layers=int(value("audio_projector_num_layers", 2)), audio_hidden=int(value("audio_projector_hidden_size", 3072)),
        audio_expand=float(value("audio_projector_expand", 2.0)),
    )  # fmt: skip


def _tower(folder: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A tower's config and its image processor's: from a folder (also beside the model), those known here, or the hub."""
    for place in (folder / name, Path(name).expanduser()):
        if (place / "config.json").is_file():
            return _inner(read_json(place / "config.json")), {**_IMAGES, **read_json(place / "preprocessor_config.json")}
    for known, config in _KNOWN:
        if known in name.lower():
            return config, _IMAGES
    if hub.local(name):
        raise ModelError(f"{folder} names the tower {name}, which is not a folder here", f"put its config.json at {folder / name}")
    return _inner(read_json(hub.config_file(name))), _IMAGES


def _inner(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a whole model's config that is the tower's."""
    for key in ("vision_config", "audio_config"):
        if isinstance(config.get(key), dict):
            return {"model_type": "siglip_vision_model" if key == "vision_config" else "qwen2_audio_encoder", **config[key]}
    return config


def state_size(config: RelativeConfig, shapes: dict[str, tuple[int, ...]]) -> int:
    """The config does not tell the state's size; the convolution goes over x, B and C, the latter two as wide as it."""
    inner = round(config.audio_hidden * config.audio_expand)
    width = shapes.get(_STATE_OF, (inner + 2 * 128,))[0]
    return max(1, (width - inner) // 2)


def own_name(name: str, config: RelativeConfig) -> str | None:
    """A name in the checkpoint -> its name among the parts; None for what is not read."""
    if name == "model.image_newframe":
        return "sight.newframe"
    for prefix, own in {**_SIGHT, **_HEARING}.items():
        if not name.startswith(prefix):
            continue
        rest = name.removeprefix(prefix)
        if prefix in _HEARING:
            unused = config.audio is None or rest == "model.embeddings.weight"
            return None if unused else own + rest
        rest = rest.removeprefix("vision_model.")
        if rest.startswith(_UNUSED) or rest.endswith("position_ids") or _behind(rest, config):
            return None
        return own + rest
    return None if name.endswith("rotary_emb.inv_freq") else f"language.{name}"


def _behind(name: str, config: RelativeConfig) -> bool:
    """Whether a tower's tensor belongs to a layer behind the one that is read."""
    if not name.startswith("encoder.layers."):
        return False
    layers = int(config.vision["num_hidden_layers"])
    keep = config.select_layer if config.select_layer >= 0 else layers + 1 + config.select_layer
    return int(name.split(".")[2]) >= keep
