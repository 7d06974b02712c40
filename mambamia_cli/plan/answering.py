"""The tape of an answer: kept anchors -> projector -> prompt -> prefill -> tokens one by one.

Vision and compressor have left by then. Two decoders: any of transformers (language.transformers_lm), and our own on a
CPU (language.fast_llama). Letters: l prompt tokens, d width, i the MLP's inner width.
"""

from dataclasses import dataclass

from mambamia_cli.plan.sizes import QUANT_BYTES, LanguageSizes
from mambamia_cli.plan.tape import HOST, Tape

CACHE_STEP, FAST_CHUNK = 256, 2048  # language.fast_llama
LOADED_AT_ONCE = 2  # the largest matrix lies there as stored and as packed while bitsandbytes packs it


@dataclass(frozen=True)
class Projection:
    """A projector's sizes: from g anchors `anchor` wide over `hidden` to `each` tokens a frame, `width` wide. `framewise`:
    a frame's anchors go through it joined."""

    anchor: int
    anchors: int
    hidden: int
    width: int
    each: int
    framewise: bool

    @property
    def parameters(self) -> int:
        wide = self.anchor * (self.anchors if self.framewise else 1)
        out = self.width * (self.each if self.framewise else 1)
        return 2 * wide + wide * self.hidden + self.hidden + self.hidden * out + out


@dataclass(frozen=True)
class Answering:
    """tokens: of the prompt, `kept` frames' among them; new: at most so many written. quant as resolved, never "auto".

    item: bytes of an activation. prefill: prompt rows read at once. fast: our own CPU decoder, which keeps matrices in
    `dense` bytes a weight beside the packed ones.
    """

    tokens: int
    kept: int
    new: int
    quant: str
    item: int
    prefill: int
    cpu: bool = True
    fast: bool = False
    dense: int = 4


def weights(model: LanguageSizes, answering: Answering) -> int:
    """Bytes of the language model in memory."""
    if answering.fast:
        return _packed(model, answering)
    kept = 4 if answering.quant == "fp32" or (answering.cpu and answering.quant != "bf16") else 2
    return round(model.linear * QUANT_BYTES[answering.quant] + model.other * kept)


def kv_cache(model: LanguageSizes, answering: Answering) -> int:
    """Bytes of keys and values of the prompt and the longest answer."""
    length = answering.tokens + answering.new
    if answering.fast:
        length = -(-length // CACHE_STEP) * CACHE_STEP
    return length * model.kv_elements * answering.item


def play(tape: Tape, model: LanguageSizes, projection: Projection, answering: Answering) -> None:
    """From loading the language model to the last token of the answer."""
    held = weights(model, answering)
    embeds = answering.tokens * model.width * 4
    anchors = answering.kept * projection.anchors * projection.anchor
    visual = answering.kept * projection.each * projection.width * 4
    if not answering.cpu:
        with tape.hold(held):
            tape.touch(model.largest * LOADED_AT_ONCE if answering.quant in ("nf4", "fp4", "int8") else 0)
    with tape.hold(held), tape.hold(projection.parameters * 4):
        hidden = answering.kept * (1 if projection.framewise else projection.anchors) * projection.hidden * 4
        with tape.hold(anchors * 4):
            tape.touch(anchors * 2, where=HOST)
            tape.touch(anchors * 4, hidden, hidden)
            tape.touch(hidden, visual)
        with tape.hold(visual):
            tape.touch(embeds, embeds, where=HOST)
        with tape.hold(embeds, where=HOST):
            (_fast if answering.fast else read_and_write)(tape, model, answering)


def read_and_write(tape: Tape, model: LanguageSizes, answering: Answering) -> None:
    """language.transformers_lm: the prompt in pieces of `prefill` rows, then one row at a time."""
    item, d = answering.item, model.width
    own = answering.tokens * d * item if item != 4 or not answering.cpu else 0  # the prompt in the model's type
    cache = kv_cache(model, answering)
    layer = cache // max(1, model.layers)
    rows = min(answering.prefill, answering.tokens)
    with tape.hold(own), tape.hold(answering.tokens * model.kv_elements * item):
        decoder_layer(tape, model, answering, rows)
        tape.touch(model.vocabulary * item, model.vocabulary * 4)
    # A step appends to the keys (or the values) of one layer by copying them.
    with tape.hold(cache):
        tape.touch(layer // 2)


def decoder_layer(tape: Tape, model: LanguageSizes, answering: Answering, rows: int) -> None:
    """The widest moments of one layer over `rows` tokens: attention and the MLP."""
    item, d = answering.item, model.width
    x = rows * d * item
    q, kv = rows * model.heads * model.head_dim * item, rows * model.kv_heads * model.head_dim * item
    inner = rows * model.inner * item
    unpacked = model.largest * item if answering.quant in ("nf4", "fp4") else 0
    rotation = 2 * rows * model.head_dim * item
    seen = answering.tokens
    mask = rows * seen if rows < seen else 0  # booleans: only a later piece of the prompt needs one
    with tape.hold(rotation, mask):
        if model.model_type == "gpt_neox":
            # residual, normed, q k v in one, their rotated parts, attended, out
            tape.touch(2 * x, 3 * q, 4 * q, unpacked)
            tape.touch(3 * x, 2 * inner, unpacked)
            return
        # Only later pieces of a prompt have a mask, and with one the shared heads are written out for every query's.
        widened = 2 * seen * model.heads * model.head_dim * item if mask and model.heads != model.kv_heads else 0
        tape.touch(2 * x, q, 2 * kv, max(3 * q, q + 3 * kv))  # residual, normed, q, k, v, their rotation
        tape.touch(2 * x, q, 2 * kv, widened, 2 * q)
        tape.touch(2 * x, 3 * inner)
        tape.touch(2 * x, 2 * inner, unpacked)


def _packed(model: LanguageSizes, answering: Answering) -> int:
    """language.packing: every matrix dense and, below 16 bits, packed beside it; both are memory-mapped."""
    head = model.vocabulary * model.width
    matrices = model.linear + head
    packed = QUANT_BYTES[answering.quant] * matrices if answering.quant in ("int4", "int8") else 0
    shared = model.tied and model.stored == answering.dense  # the input side is then the head's own matrix
    return round(matrices * answering.dense + packed + (0 if shared else head * model.stored) + model.norms * 4)


def _fast(tape: Tape, model: LanguageSizes, answering: Answering) -> None:
    """language.fast_llama.FastLlama._run. Its locals outlive a layer, so they are held together."""
    rows, d, item = min(answering.tokens, FAST_CHUNK), model.width, answering.item
    cache, per_position = kv_cache(model, answering), model.kv_elements * item + model.head_dim // 2 * 8
    turned = rows * (model.heads + model.kv_heads) * model.head_dim
    seen = rows * model.heads * model.head_dim * item
    qkv = turned * item + rows * model.kv_heads * model.head_dim * item
    inner = rows * model.inner * item
    pairs, qk = (0, 0) if item == 4 else (turned * 4, turned * item)  # in float32 both are views
    widened = 2 * answering.tokens * model.heads * model.head_dim * item
    with tape.hold(cache + cache // (model.kv_elements * item) * (model.head_dim // 2 * 8)):
        tape.touch(CACHE_STEP * per_position)  # the first, short cache, while it is copied
        with tape.hold(rows * d * 4, rows * d * item), tape.hold(qkv, pairs, qk, seen):
            tape.touch(2 * inner, qkv)
            tape.touch(2 * inner, max(pairs, turned * 4), qk)
            tape.touch(2 * inner, widened, 2 * seen)
            tape.touch(4 * inner)
            tape.touch(3 * inner, rows * d * (item + 4))
        tape.touch(model.vocabulary * (item + 4))
