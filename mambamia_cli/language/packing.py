"""Weights of a Llama-architecture model in the forms a CPU reads fastest, cached on disk and memory-mapped.

Writing one token reads every weight once, so its speed is memory traffic: each matrix is kept in 4 bits where that
reproduces it and in 8 where not (SmolLM2's embedded weights *are* 4-bit blocks of 32, so most lose nothing).
Reading a prompt is arithmetic, for which the same matrices lie beside in 16 (or 32) bits: they are only paged in then.

A matrix of the file is `<name>.int4` (o, i / 2) with `<name>.int4_scale` (i / 32, o, 2), or `<name>.int8` (o, i) with
`<name>.int8_scale` (o,), or neither, and always `<name>.dense` (o, i). o rows out, i inputs.
"""

import hashlib
import json
import shutil
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mambamia_cli.errors import ModelError
from mambamia_cli.language.lora import merge_adapter
from mambamia_cli.language.tokenizer import read_json
from mambamia_cli.models.cache import MANIFEST, building, cache_dir, complete, sha256_of

PACKER = 2  # raise when the packed form changes
GROUP = 32  # inputs that share one scale in 4 bits: the block of GGUF's Q4 formats
FOUR_BIT_ERROR = 0.02  # relative error up to which 4 bits "reproduce" a matrix; 8 bits make about 0.007 anyway
KEPT = 4  # packed models kept in the cache; older ones go
QUANTS = ("int4", "int8", "bf16", "fp32")


def quantize_int4(weight: Tensor) -> tuple[Tensor, Tensor, float]:
    """weight (o, i) -> (q (o, i) int32 in 0..15, scale and zero (i / GROUP, o, 2) bfloat16, relative error).

    w = (q - 8) * scale + zero, the form of torch's int4 kernel. Scale and zero are rounded to bfloat16 before q is
    chosen, so that q makes up for their rounding.
    """
    rows, inputs = weight.shape
    blocks = weight.float().view(rows, inputs // GROUP, GROUP)  # (o, i / 32, 32)
    low, high = blocks.amin(-1), blocks.amax(-1)  # (o, i / 32)
    scale = ((high - low) / 15).clamp(min=1e-8).bfloat16().float()
    zero = (low + 8 * scale).bfloat16().float()
    q = ((blocks - zero[..., None]) / scale[..., None] + 8).round_().clamp_(0, 15)  # (o, i / 32, 32)
    back = (q - 8) * scale[..., None] + zero[..., None]
    error = float((back - blocks).norm() / blocks.norm().clamp(min=1e-12))
    scale_zero = torch.stack([scale, zero], dim=-1).transpose(0, 1).contiguous().bfloat16()  # (i / 32, o, 2)
    return q.view(rows, inputs).int(), scale_zero, error


def quantize_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """weight (o, i) -> (q (o, i) int8, scale (o,) bfloat16) with w = q * scale, one scale a row."""
    scale = (weight.float().abs().amax(-1) / 127).clamp(min=1e-12).bfloat16()  # (o,)
    q = (weight.float() / scale.float()[:, None]).round_().clamp_(-127, 127)
    return q.to(torch.int8), scale


def interleave_rope(weight: Tensor, heads: int) -> Tensor:
    """Rows of each head from (half, pair) to (pair, half), so that a rotation is one complex product.

    (heads * p, d) -> (heads * p, d). q . k does not change when both are reordered alike.
    """
    rows, width = weight.shape
    return weight.view(heads, 2, rows // heads // 2, width).transpose(1, 2).reshape(rows, width)


def dense_dtype(quant: str) -> torch.dtype:
    """What prompts are multiplied in: bfloat16 where the CPU has instructions for it, else float32."""
    if quant == "fp32":
        return torch.float32
    fast = quant == "bf16" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


class Matrix:
    """y = x W^T for one packed matrix (o, i): 4 or 8 bits for few rows, dense for many."""

    def __init__(self, name: str, tensors: dict[str, Tensor]):
        self.dense = tensors[f"{name}.dense"]  # (o, i)
        self.int4, self.int4_scale = tensors.get(f"{name}.int4"), tensors.get(f"{name}.int4_scale")
        self.int8, self.int8_scale = tensors.get(f"{name}.int8"), tensors.get(f"{name}.int8_scale")

    @classmethod
    def packed(cls, weight: Tensor, quant: str) -> "Matrix":
        """A matrix straight from float weights (o, i), without a file."""
        return cls("", pack_matrix("", weight, quant))

    def few(self, x: Tensor) -> Tensor:
        """x (l, i), l small -> (l, o)."""
        if self.int4 is not None:
            return torch.ops.aten._weight_int4pack_mm_for_cpu(x, self.int4, GROUP, self.int4_scale)
        if self.int8 is not None:
            return torch.ops.aten._weight_int8pack_mm(x, self.int8, self.int8_scale)
        return F.linear(x, self.dense)

    def many(self, x: Tensor) -> Tensor:
        """x (l, i) -> (l, o)."""
        return F.linear(x.to(self.dense.dtype), self.dense).to(x.dtype)


def pack_matrix(name: str, weight: Tensor, quant: str) -> dict[str, Tensor]:
    """The tensors of one matrix (o, i) in the packed file."""
    packed = {f"{name}.dense": weight.to(dense_dtype(quant)).contiguous()}
    if quant == "int4" and weight.shape[0] % 64 == 0 and weight.shape[1] % GROUP == 0:
        q, scale_zero, error = quantize_int4(weight)
        if error <= FOUR_BIT_ERROR:
            packed[f"{name}.int4"] = torch.ops.aten._convert_weight_to_int4pack_for_cpu(q, 1)
            packed[f"{name}.int4_scale"] = scale_zero
            return packed
    # torch's int8 kernel works in blocks of 16 rows and reads past the end of a matrix of another height.
    if quant in ("int4", "int8") and weight.shape[0] % 16 == 0:
        packed[f"{name}.int8"], packed[f"{name}.int8_scale"] = quantize_int8(weight)
    return packed


def pack(state: dict[str, Tensor], config: dict, quant: str) -> dict[str, Tensor]:
    """A transformers Llama state dict -> the packed tensors. Raises ModelError when a weight is missing or misshapen."""
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    width, p = config["hidden_size"], config["head_dim"]
    inner, vocabulary = config["intermediate_size"], config["vocab_size"]

    def take(name: str, *shape: int) -> Tensor:
        tensor = state.get(name)
        if tensor is None or tuple(tensor.shape) != shape:
            found = "missing" if tensor is None else f"of shape {tuple(tensor.shape)}"
            raise ModelError(f"the weight {name} is {found}, expected {shape}", "get the model again")
        return tensor

    packed = {}
    for i in range(config["num_hidden_layers"]):
        at, short = f"model.layers.{i}", f"{i}"
        q = interleave_rope(take(f"{at}.self_attn.q_proj.weight", heads * p, width), heads)
        k = interleave_rope(take(f"{at}.self_attn.k_proj.weight", kv_heads * p, width), kv_heads)
        v = take(f"{at}.self_attn.v_proj.weight", kv_heads * p, width)
        gate = take(f"{at}.mlp.gate_proj.weight", inner, width)
        up = take(f"{at}.mlp.up_proj.weight", inner, width)
        packed |= pack_matrix(f"{short}.qkv", torch.cat([q, k, v]), quant)
        packed |= pack_matrix(f"{short}.o", take(f"{at}.self_attn.o_proj.weight", width, heads * p), quant)
        packed |= pack_matrix(f"{short}.gate_up", torch.cat([gate, up]), quant)
        packed |= pack_matrix(f"{short}.down", take(f"{at}.mlp.down_proj.weight", width, inner), quant)
        packed[f"{short}.norm1"] = take(f"{at}.input_layernorm.weight", width).float().clone()
        packed[f"{short}.norm2"] = take(f"{at}.post_attention_layernorm.weight", width).float().clone()
    packed["norm"] = take("model.norm.weight", width).float().clone()
    embedding = take("model.embed_tokens.weight", vocabulary, width)
    head = embedding if config["tie_word_embeddings"] else take("lm_head.weight", vocabulary, width)
    packed |= pack_matrix("head", head, quant)
    # The input side stays as it is: a row is read a token, so it costs nothing, and projectors are trained against it.
    if packed["head.dense"].data_ptr() != embedding.data_ptr():  # else the file holds it once
        packed["embedding"] = embedding.contiguous()
    return packed


def read_state(folder: Path) -> dict[str, Tensor]:
    """All weights of a transformers folder, sharded or not, memory-mapped. Raises ModelError; pickles are not read."""
    from safetensors import SafetensorError, safe_open

    index = read_json(folder / "model.safetensors.index.json")
    files = sorted(set(index["weight_map"].values())) if "weight_map" in index else ["model.safetensors"]
    state = {}
    for name in files:
        if not (folder / name).is_file():
            raise ModelError(f"{folder} has no {name}", "only safetensors weights are read; get the model in that form")
        try:
            with safe_open(folder / name, framework="pt") as file:
                state |= {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{folder / name} is damaged ({error})", "get the model again") from error
    return state


def packed_folder(folder: Path, config: dict, quant: str, adapter: Path | None) -> Path:
    """The cached packed form of a model (made when it is not there): a folder with packed.safetensors.

    The key names everything it depends on: weights, adapter, quant, this packer, and torch with the CPU's instruction
    set, because the int4 layout is the kernel's own. Raises ModelError.
    """
    capability = torch.backends.cpu.get_cpu_capability()
    facts = {
        "format": "mambamia.packed/1",
        "packer": PACKER,
        "source": source_identity(folder),
        "adapter": adapter_digest(adapter) if adapter else None,
        "quant": quant,
        "dense": str(dense_dtype(quant)),
        "kernel": f"{torch.__version__} {capability}",
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    destination = cache_dir() / "packed" / f"{folder.name}-{quant}-{key}"
    if complete(destination) is None:
        return destination
    from safetensors.torch import save_file

    state = read_state(folder)
    if adapter:
        state = merge_adapter(state, adapter)
    with torch.inference_mode():
        tensors = pack(state, config, quant)
    with building(destination, facts) as temporary:
        save_file(tensors, temporary / "packed.safetensors")
    _prune(destination)
    return destination


def source_identity(folder: Path) -> list:
    """What tells one state of a model folder from another: checksums where a manifest has them, else size and time."""
    files = read_json(folder / MANIFEST).get("files")
    if files:
        return sorted((name, fact["sha256"]) for name, fact in files.items())
    found = sorted(folder.glob("*.safetensors"))
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in found]
    return [str(folder.resolve()), hashlib.sha256((folder / "config.json").read_bytes()).hexdigest(), *stats]


def adapter_digest(adapter: Path) -> str:
    """SHA-256 over both files of an adapter folder."""
    parts = [sha256_of(adapter / name) for name in ("config.json", "model.safetensors")]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _prune(keep: Path) -> None:
    packed = [p for p in keep.parent.iterdir() if p.is_dir() and not p.name.startswith(".")]
    for old in sorted(packed, key=lambda p: p.stat().st_mtime, reverse=True)[KEPT:]:
        if old != keep:
            shutil.rmtree(old, ignore_errors=True)  # a process that has it mapped keeps its pages
