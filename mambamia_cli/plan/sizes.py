"""Sizes of a vision tower, compressor, projector and language model, from their configs and safetensors headers.

Headers are believed where there are files; without files a config's sizes are multiplied out. Parameter counts are exact
for the architectures listed here and tested against transformers' own classes.
"""

import math
from dataclasses import dataclass
from typing import Any

from mambamia_cli.compressor.config import CompressorConfig
from mambamia_cli.errors import ModelError
from mambamia_cli.plan.headers import BYTES, Entry


class UnknownSizes(ModelError):
    """A part whose sizes are not known here. It may well run: a run goes on unplanned, `mambamia plan` is refused."""


NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""A weight in bitsandbytes' 4 bits, double quantised: half a byte, an 8-bit scale for 64 of them, 32 bits for 256 scales."""
QUANT_BYTES = {"nf4": NF4_BYTES, "fp4": NF4_BYTES, "int8": 1.0, "int4": 0.5 + 4 / 32, "bf16": 2.0, "fp32": 4.0}


@dataclass(frozen=True)
class VisionSizes:
    """A tower of `layers` that run, at `height` x `width` pixels; `parameters` that lie in memory. model_type as in config.json."""

    name: str
    model_type: str
    parameters: int
    layers: int
    hidden: int
    inner: int
    height: int
    width: int
    rows: int
    columns: int
    prefix: int = 0  # class and register tokens
    embedded: bool = False

    @property
    def patches(self) -> int:
        return self.rows * self.columns


@dataclass(frozen=True)
class LanguageSizes:
    """A decoder. `linear`: weights that quantising packs; `other`: those kept whole (embeddings, head, norms), `norms` of them
    no matrices; `largest`: the largest matrix that is unpacked to be multiplied; `stored`: bytes of a weight in its files."""

    name: str
    model_type: str
    linear: int
    other: int
    largest: int
    width: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int
    tied: bool
    norms: int = 0
    stored: int = 2

    @property
    def parameters(self) -> int:
        return self.linear + self.other

    @property
    def kv_elements(self) -> int:
        """Of keys and values together, one token, all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim


def vision_sizes(name: str, config: dict[str, Any], preprocess: dict[str, Any] | None, entries: list[Entry]) -> VisionSizes:
    """Of a transformers vision tower. `preprocess`: its preprocessor_config.json, None for the config's own size.

    Raises UnknownSizes for a config without the sizes a transformer has (a staged network is not planned).
    """
    config = {**config, **config.get("vision_config", {})} if "vision_config" in config else config
    kind = str(config.get("model_type", ""))
    try:
        hidden, inner = int(config["hidden_size"]), int(config["intermediate_size"])
        layers, patch = int(config["num_hidden_layers"]), int(config["patch_size"])
    except (KeyError, TypeError, ValueError):
        raise UnknownSizes(f"{name} is no vision transformer whose config.json gives its sizes", "plan with a SigLIP or CLIP tower") from None
    height, width = _frame_size(config, preprocess, patch)
    rows, columns = height // patch, width // patch
    prefix = 1 if kind.startswith(("clip", "dinov2", "vit")) else 0
    prefix += int(config.get("num_register_tokens", 0))
    keep = layers - 1 if layers > 1 else layers
    counted = _counted_vision(entries, keep, layers) or _multiplied_vision(kind, hidden, inner, keep, patch, config, prefix)
    return VisionSizes(name, kind, counted, keep, hidden, inner, height, width, rows, columns, prefix)


def _frame_size(config: dict[str, Any], preprocess: dict[str, Any] | None, patch: int) -> tuple[int, int]:
    given = (preprocess or {}).get("image_processor", preprocess or {})
    if given.get("max_num_patches"):
        side = math.isqrt(int(given["max_num_patches"])) * int(given.get("patch_size", patch))
        return side, side
    for key in ("crop_size", "size") if given.get("do_center_crop") else ("size", "crop_size"):
        size = given.get(key)
        if isinstance(size, dict):
            size = (size["height"], size["width"]) if "height" in size else size.get("shortest_edge")
        if isinstance(size, int):
            return size, size
        if size:
            return int(size[0]), int(size[1])
    size = config.get("image_size") or math.isqrt(int(config.get("num_patches", 256))) * patch
    return (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _counted_vision(entries: list[Entry], keep: int, layers: int) -> int:
    """Elements of the image half's tensors, the layers that are dropped left out; 0 without files."""
    total = 0
    for entry in entries:
        if entry.name.startswith(("text_model.", "text_projection", "visual_projection", "logit_", "text_embed")):
            continue
        if any(f".layers.{i}." in f".{entry.name}" or f".layer.{i}." in f".{entry.name}" for i in range(keep, layers)):
            continue
        if entry.dtype.startswith(("F", "BF")):
            total += entry.elements
    return total


def _multiplied_vision(kind: str, d: int, i: int, layers: int, patch: int, config: dict[str, Any], prefix: int) -> int:
    side = config.get("image_size") or 224
    positions = int(config.get("num_patches") or (side // patch) ** 2) + (prefix if kind.startswith("clip") else 0)
    embeddings = 3 * patch * patch * d + positions * d + (prefix * d if kind.startswith("clip") else d)
    layer = 4 * (d * d + d) + 2 * d * i + i + d + 4 * d
    norms = 4 * d if kind.startswith("clip") else 2 * d
    # SigLIP's pooling head is loaded with the tower: a probe, one attention, a norm and an MLP.
    head = d + 4 * (d * d + d) + 2 * d + 2 * d * i + i + d if kind.startswith("siglip") else 0
    return embeddings + layers * layer + norms + head


def language_sizes(name: str, config: dict[str, Any], entries: list[Entry]) -> LanguageSizes:
    """Of a causal language model. Raises UnknownSizes for an architecture whose sizes are not known here."""
    config = {**config, **config["text_config"]} if isinstance(config.get("text_config"), dict) else config
    kind = str(config.get("model_type", ""))
    try:
        d, layers, vocabulary = (int(config[key]) for key in ("hidden_size", "num_hidden_layers", "vocab_size"))
        heads = int(config["num_attention_heads"])
        inner = int(config["intermediate_size"])
    except (KeyError, TypeError, ValueError):
        raise UnknownSizes(
            f"{name} ({kind or 'no model_type'}) is no transformer decoder whose config.json gives its sizes",
            "plan with a Llama, Qwen, Mistral or GPT-NeoX model",
        ) from None
    kv = int(config.get("num_key_value_heads") or heads)
    head_dim = int(config.get("head_dim") or d // heads)
    tied = bool(config.get("tie_word_embeddings", kind not in ("gpt_neox",)))
    linear, largest = _counted_linear(entries)
    other = sum(entry.elements for entry in entries if not _is_linear(entry))
    norms = sum(entry.elements for entry in entries if len(entry.shape) == 1)
    stored = max((BYTES.get(entry.dtype, 4) for entry in entries), default=2)
    if not entries:
        linear, largest, norms = _multiplied_linear(kind, config, d, inner, layers, heads, kv, head_dim)
        other = norms + vocabulary * d * (1 if tied else 2)
    return LanguageSizes(
        name, kind, linear, other, largest, d, inner, layers, heads, kv, head_dim, vocabulary,
        int(config.get("max_position_embeddings") or 1 << 20), tied, norms, stored,
    )  # fmt: skip


def _is_linear(entry: Entry) -> bool:
    """Whether quantising packs it: matrices of the layers, not the embeddings, the head or a convolution."""
    inside = any(part in f".{entry.name}" for part in (".layers.", ".h.", ".blocks."))
    return inside and len(entry.shape) == 2 and entry.name.endswith(".weight")


def _counted_linear(entries: list[Entry]) -> tuple[int, int]:
    found = [entry.elements for entry in entries if _is_linear(entry)]
    return sum(found), max(found, default=0)


def _multiplied_linear(kind: str, config: dict[str, Any], d: int, i: int, layers: int, heads: int, kv: int, p: int) -> tuple[int, int, int]:
    """-> weights of the matrices, of the largest of them, and everything beside them but the embeddings."""
    if kind == "gpt_neox":
        matrices, biases = [3 * d * d, d * d, d * i, i * d], 3 * d + d + i + d
        return layers * sum(matrices), max(matrices), layers * (biases + 4 * d) + 2 * d
    matrices = [d * heads * p, d * kv * p, d * kv * p, heads * p * d, d * i, d * i, i * d]
    biases = (heads + 2 * kv) * p if kind == "qwen2" or config.get("attention_bias") else 0
    heads_norms = 2 * p if kind in ("qwen3",) else 0
    return layers * sum(matrices), max(matrices), layers * (biases + heads_norms + 2 * d) + d


def compressor_parameters(config: CompressorConfig) -> tuple[int, int]:
    """(all parameters of a MambaMiaCompressor of this config, those that stay float32 whatever the dtype)."""
    d, k = config.hidden_size, config.patches_per_row
    taa = d * config.grid_rows if config.taa_layout == "frames" else d
    mixer, kept = _mixer(config, d, config.expand, config.state_size, config.bidirectional)
    taa_mixer, taa_kept = _mixer(config, taa, config.taa_expand, config.taa_state_size, config.taa_bidirectional)
    layer = mixer + d + (d * k + k) + (d + 1)
    total = d + config.num_layers * layer + d + taa + taa_mixer + config.grid_rows * d + 1
    total += 0 if config.vision_width == d else config.vision_width * d + d
    total += 0 if config.output_size is None else d * config.output_size + config.output_size
    return total, config.num_layers * kept + taa_kept


def _mixer(config: CompressorConfig, width: int, expand: float, state: int, bidirectional: bool) -> tuple[int, int]:
    inner, kernel, directions = round(expand * width), config.conv_kernel, 2 if bidirectional else 1
    if config.ssm == "mamba1":
        rank = math.ceil(width / 16)
        kept = inner * state + inner
        branch = inner * kernel + inner + inner * (rank + 2 * state) + rank * inner + inner + kept
        return width * 2 * inner + inner * width + directions * branch, directions * kept
    heads, conv = inner // config.head_dim, inner + 2 * state
    branch = conv * kernel + conv + 3 * heads + inner
    return width * (inner + conv + heads) + inner * width + directions * branch, directions * 3 * heads
