"""The tape of an answer by an image-text-to-text model: kept frames -> its own tower -> its language part, a few at a time.

Bytes are counted in the order of language.vlm.model: a piece of the prompt ends behind a frame and brings its pictures; only
keys and values outlive it. Letters as in answering.py.
"""

from dataclasses import dataclass
from typing import Any

from mambamia_cli.models.vlm import GRIDS, frame_tokens, grid
from mambamia_cli.plan import answering
from mambamia_cli.plan.answering import LOADED_AT_ONCE, Answering
from mambamia_cli.plan.headers import Entry
from mambamia_cli.plan.sizes import LanguageSizes, UnknownSizes
from mambamia_cli.plan.tape import HOST, Tape

BATCH = 8  # language.vlm.model: frames a pass of the tower, at most
AROUND = 12
"""Tokens of a frame beside its picture's: the clock's at most seven, and what a template puts around a picture."""
_BESIDE = ("visual.", "vision_tower.", "vision_model.", "multi_modal_projector.", "connector.", "image_newline")


@dataclass(frozen=True)
class SightSizes:
    """What sees: a tower and all that is no language part, `parameters` of them, never quantised. A frame comes to `patches`
    of the tower and `tokens` of the prompt; `pixels` numbers are prepared for it. `sliding` of the language part's layers
    remember `window` tokens only. What is seen is handed to the language part `deep` times over beside its input."""

    kind: str
    parameters: int
    layers: int
    hidden: int
    inner: int
    patches: int
    tokens: int
    pixels: int
    sliding: int = 0
    window: int = 0
    deep: int = 0


def beside(name: str) -> bool:
    """Whether a tensor belongs to what sees."""
    return any(part in f".{name}" or name.startswith(part) for part in _BESIDE)


def completed(config: dict[str, Any], entries: list[Entry]) -> dict[str, Any]:
    """config.json with the sizes that it leaves to transformers' defaults, where tensors' shapes tell them."""
    text, vision = {**config, **(config.get("text_config") or {})}, dict(config.get("vision_config") or {})
    shapes: dict[str, tuple[int, ...]] = {}
    blocks: set[str] = set()
    for entry in entries:
        leaf = ".".join(entry.name.split(".")[-2:])
        shapes.setdefault(("vision " if beside(entry.name) else "") + leaf, entry.shape)
        if beside(entry.name) and ".layers." in entry.name:
            blocks.add(entry.name.partition(".layers.")[2].partition(".")[0])
    rows = {leaf: shape[0] for leaf, shape in shapes.items() if shape}
    found = {"vocab_size": rows.get("embed_tokens.weight")}
    if width := text.get("head_dim") or rows.get("q_norm.weight"):
        heads = {name: rows.get(f"{part}.weight", 0) // int(width) for name, part in (("num_attention_heads", "q_proj"), ("num_key_value_heads", "k_proj"))}
        found |= {"head_dim": width, **heads}
    seen = {"num_hidden_layers": len(blocks), "intermediate_size": rows.get("vision fc1.weight")}
    own = {**{key: value for key, value in found.items() if value and not text.get(key)}, **(config.get("text_config") or {})}
    return {**config, "text_config": own, "vision_config": {**{key: value for key, value in seen.items() if value}, **vision}}


def sight_sizes(name: str, config: dict[str, Any], pictures: dict[str, Any], processor: dict[str, Any], entries: list[Entry], size: tuple[int, int]) -> SightSizes:
    """config, pictures, processor: as models.vlm reads them; size: (height, width) of a frame as it is shown.

    Raises UnknownSizes for a family that is not known here.
    """
    kind, vision = str(config.get("model_type")), config.get("vision_config") or {}
    tokens = frame_tokens(config, pictures, processor, size)
    if tokens is None:
        raise UnknownSizes(f"{name} ({kind}) is of a family whose pictures are not planned", "plan with Qwen2.5-VL, SmolVLM2, LLaVA-OneVision or Gemma 3")
    try:
        patch = int(vision.get("patch_size") or pictures["patch_size"])
        hidden = int(vision["embed_dim"] if kind == "qwen2_vl" else vision["hidden_size"])
        layers = int(vision["depth"] if kind in GRIDS else vision["num_hidden_layers"])
        inner = int(hidden * vision.get("mlp_ratio", 4)) if kind == "qwen2_vl" else int(vision["intermediate_size"])
        if kind in GRIDS:
            rows, columns = grid(kind, pictures, size)
            pixels = rows * columns * 3 * patch**2 * int(pictures.get("temporal_patch_size", 2))
        else:
            rows = columns = int(vision["image_size"]) // patch
            pixels = 3 * int(vision["image_size"]) ** 2
    except (KeyError, TypeError, ValueError) as error:
        raise UnknownSizes(f"the config.json of {name} does not give the sizes of its vision tower ({error})", "fetch the model again") from None
    sliding, window = _windows({**config, **(config.get("text_config") or {})})
    parameters = sum(entry.elements for entry in entries if beside(entry.name))
    return SightSizes(kind, parameters, layers, hidden, inner, rows * columns, tokens, pixels, sliding, window,
                      len(vision.get("deepstack_visual_indexes") or ()))  # fmt: skip


def _windows(text: dict[str, Any]) -> tuple[int, int]:
    """(layers with a sliding window, its tokens)."""
    window, layers = text.get("sliding_window"), int(text.get("num_hidden_layers", 0))
    if not window or text.get("use_sliding_window") is False:
        return 0, 0
    if kinds := text.get("layer_types"):
        return sum(kind == "sliding_attention" for kind in kinds), int(window)
    every = text.get("sliding_window_pattern") or (6 if str(text.get("model_type", "")).startswith("gemma3") else 0)
    return (layers - layers // int(every), int(window)) if every else (0, 0)


def weights(model: LanguageSizes, sight: SightSizes, asked: Answering) -> int:
    """Bytes of the whole model in memory: the language part as quantised, the rest in the type that it computes in."""
    return answering.weights(model, asked) + tower(sight, asked)


def tower(sight: SightSizes, asked: Answering) -> int:
    """Bytes of what sees."""
    return sight.parameters * (4 if asked.quant == "fp32" or (asked.cpu and asked.quant != "bf16") else 2)


def kv_cache(model: LanguageSizes, sight: SightSizes, asked: Answering) -> int:
    """Bytes of keys and values of the prompt and the longest answer."""
    return _kept(model, sight, asked, asked.tokens + asked.new)


def _kept(model: LanguageSizes, sight: SightSizes, asked: Answering, tokens: int) -> int:
    whole = (model.layers - sight.sliding) * tokens + sight.sliding * min(tokens, sight.window)
    return 2 * whole * model.kv_heads * model.head_dim * asked.item


def play(tape: Tape, model: LanguageSizes, sight: SightSizes, asked: Answering) -> None:
    """From loading the model to the last token of the answer."""
    held = weights(model, sight, asked)
    if not asked.cpu:
        with tape.hold(held):
            tape.touch(model.largest * LOADED_AT_ONCE if asked.quant in ("nf4", "fp4", "int8") else 0)
    each = asked.tokens // max(1, asked.kept)
    frames = max(1, min(BATCH, asked.kept, asked.prefill // max(1, each)))
    rows = min(asked.tokens, frames * each)
    pixels = frames * sight.pixels
    moved = 0 if asked.cpu and asked.item == 4 else pixels * asked.item
    with tape.hold(held), tape.hold(_kept(model, sight, asked, asked.tokens)):
        with tape.hold(moved):
            tape.touch(pixels * 4, where=HOST)
        tape.alloc(moved or pixels * 4)
        _look(tape, sight, asked, frames)
        seen = 2 * (1 + sight.deep) * frames * sight.tokens * model.width * asked.item  # frame by frame, and joined
        with tape.hold(rows * model.width * asked.item, seen):
            answering.decoder_layer(tape, model, asked, rows)
        tape.touch(model.vocabulary * asked.item, model.vocabulary * 4)
        tape.alloc(-(moved or pixels * 4))
    cache = kv_cache(model, sight, asked)
    with tape.hold(held), tape.hold(cache):
        tape.touch(cache // max(1, 2 * model.layers))


def _look(tape: Tape, sight: SightSizes, asked: Answering, frames: int) -> None:
    """The widest moments of a layer of the tower: attention and the MLP."""
    u = frames * sight.patches * sight.hidden * asked.item
    inner = frames * sight.patches * sight.inner * asked.item
    gated = 3 if sight.kind == "qwen2_5_vl" else 2
    # residual, normed, q k v in one and apart, two of them turned, attended
    tape.touch(2 * u, 3 * u, 3 * u) if sight.kind in GRIDS else tape.touch(7 * u)
    tape.touch(2 * u, gated * inner)
