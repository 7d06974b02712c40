"""A Llama decoder for CPUs: the embedded language model at the speed of memory.

Per token, transformers' generate spends most of its time outside the matrix products. Here the forward pass is a flat
loop of fused products (q, k, v in one; gate and up in one) over packed weights, with a static key-value cache, a
rotation that is one complex product, and an attention that lets the heads which share keys be rows of one product.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mambamia_cli.errors import ModelError
from mambamia_cli.language.packing import Matrix, packed_folder
from mambamia_cli.language.tokenizer import read_json

SMALL = 4  # rows up to which the packed weights beat the dense ones
CHUNK = 2048  # prompt rows worked on at once: bounds the activations of long prompts
CACHE_STEP = 256  # positions by which the key-value cache grows


@dataclass
class Layer:
    qkv: Matrix
    o: Matrix
    gate_up: Matrix
    down: Matrix
    norm1: Tensor  # (d,)
    norm2: Tensor  # (d,)


class FastLlama:
    """The decoder's arithmetic. No text: `LlamaLanguageModel` adds tokenizer and generation.

    `forward` appends rows to the key-value cache at `position`; moving `position` back forgets what came after.
    """

    def __init__(self, folder: Path, quant: str, adapter: Path | None = None):
        """folder: config.json and safetensors of a Llama model; quant: one of packing.QUANTS. Raises ModelError."""
        from safetensors import SafetensorError, safe_open

        config = llama_facts(folder)
        path = packed_folder(folder, config, quant, adapter) / "packed.safetensors"
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} is damaged ({error})", f"delete the folder {path.parent}") from error
        self.config = config
        self.heads, self.kv_heads, self.p = (config[k] for k in ("num_attention_heads", "num_key_value_heads", "head_dim"))
        self.eps = config["rms_norm_eps"]
        # bfloat16 products also for int4 and int8: torch's kernels for them are vectorised in that type only.
        self.dtype = torch.float32 if quant == "fp32" else torch.bfloat16
        self.embedding = tensors["embedding"] if "embedding" in tensors else tensors["head.dense"]  # (vocabulary, d)
        self.norm, self.head = tensors["norm"], Matrix("head", tensors)
        names = ("qkv", "o", "gate_up", "down")
        self.layers = [
            Layer(*(Matrix(f"{i}.{n}", tensors) for n in names), tensors[f"{i}.norm1"], tensors[f"{i}.norm2"])
            for i in range(config["num_hidden_layers"])
        ]
        self.width, self.context_length = config["hidden_size"], config["max_position_embeddings"]
        self.position = self.capacity = 0
        self.reserve(CACHE_STEP)

    def reserve(self, length: int) -> None:
        """Room for `length` positions: keys, values (layers, kv_heads, length, p) and rotations (length, 1, p / 2)."""
        if length <= self.capacity:
            return
        length = -(-length // CACHE_STEP) * CACHE_STEP
        shape = (len(self.layers), self.kv_heads, length, self.p)
        keys, values = torch.empty(shape, dtype=self.dtype), torch.empty(shape, dtype=self.dtype)
        if self.position:
            keys[:, :, : self.position] = self.keys[:, :, : self.position]
            values[:, :, : self.position] = self.values[:, :, : self.position]
        self.capacity, self.keys, self.values = length, keys, values
        frequencies = self.config["rope_theta"] ** (-torch.arange(0, self.p, 2, dtype=torch.float64) / self.p)
        angles = torch.arange(length, dtype=torch.float64)[:, None, None] * frequencies  # (length, 1, p / 2)
        self.rotation = torch.polar(torch.ones_like(angles), angles).to(torch.complex64)

    def forward(self, x: Tensor, *, last_only: bool = True) -> Tensor:
        """x (l, d) embeddings of the next l positions -> logits (vocabulary,) of the last one, or (l, vocabulary)."""
        with torch.inference_mode():
            rows = x.shape[0]
            self.reserve(self.position + rows)
            parts = [self._run(part) for part in x.float().split(CHUNK)]
            hidden = parts[-1][-1:] if last_only else torch.cat(parts)  # (1 or l, d)
            normed = F.rms_norm(hidden, self.norm.shape, self.norm, self.eps).to(self.dtype)
            product = self.head.few if normed.shape[0] <= SMALL else self.head.many
            logits = product(normed).float()  # (1 or l, vocabulary)
            return logits[0] if last_only else logits

    def _run(self, x: Tensor) -> Tensor:
        """x (l, d) float32 -> the last layer's output (l, d), residual stream in float32 throughout."""
        rows, start = x.shape[0], self.position
        end = start + rows
        few = rows <= SMALL
        turned, queries = (self.heads + self.kv_heads) * self.p, self.heads * self.p
        rotation, shape, dtype, eps = self.rotation[start:end], (x.shape[1],), self.dtype, self.eps
        mask = None if rows == 1 or start == 0 else _causal_mask(rows, start)
        for i, layer in enumerate(self.layers):
            h = F.rms_norm(x, shape, layer.norm1, eps).to(dtype)  # (l, d)
            qkv = layer.qkv.few(h) if few else layer.qkv.many(h)  # (l, (h + 2 kv) p)
            pairs = torch.view_as_complex(qkv[:, :turned].float().view(rows, -1, self.p // 2, 2))  # (l, h + kv, p / 2)
            qk = torch.view_as_real(pairs * rotation).to(dtype).view(rows, turned)
            keys, values = self.keys[i], self.values[i]  # (kv, capacity, p)
            keys[:, start:end] = qk[:, queries:].view(rows, self.kv_heads, self.p).transpose(0, 1)
            values[:, start:end] = qkv[:, turned:].view(rows, self.kv_heads, self.p).transpose(0, 1)
            seen = self._attend(qk[:, :queries], keys[:, :end], values[:, :end], mask)  # (l, h p)
            x = x + (layer.o.few(seen) if few else layer.o.many(seen))
            h = F.rms_norm(x, shape, layer.norm2, eps).to(dtype)
            gate, up = (layer.gate_up.few(h) if few else layer.gate_up.many(h)).chunk(2, dim=-1)  # 2 x (l, inner)
            h = F.silu(gate) * up
            x = x + (layer.down.few(h) if few else layer.down.many(h))
        self.position = end
        return x

    def _attend(self, q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """q (l, h p), keys and values (kv, n, p), mask (l, n) or None (causal from the first position) -> (l, h p)."""
        rows, group = q.shape[0], self.heads // self.kv_heads
        if rows == 1:  # heads that share keys are rows of one product: nothing is repeated in memory
            q = q.view(1, self.kv_heads, group, self.p)
            return F.scaled_dot_product_attention(q, keys[None], values[None]).view(1, -1)
        q = q.view(1, rows, self.heads, self.p).transpose(1, 2)  # (1, h, l, p)
        keys, values = (t[None].repeat_interleave(group, dim=1) for t in (keys, values))  # (1, h, n, p)
        y = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, is_causal=mask is None)
        return y.transpose(1, 2).reshape(rows, -1)


def _causal_mask(rows: int, start: int) -> Tensor:
    """(l, start + l) booleans: row r sees positions up to start + r."""
    return torch.arange(start + rows)[None] <= torch.arange(start, start + rows)[:, None]


def llama_facts(folder: Path) -> dict:
    """config.json with defaults filled in. Raises ModelError when it is not a plain Llama model (see unsupported)."""
    config = read_json(folder / "config.json")
    if reason := unsupported(config):
        raise ModelError(f"the fast decoder cannot run {folder.name}: {reason}", "load it with --quant nf4 or bf16")
    heads = config["num_attention_heads"]
    rope = config.get("rope_parameters") or {}
    filled = {
        "num_key_value_heads": config.get("num_key_value_heads") or heads,
        "head_dim": config.get("head_dim") or config["hidden_size"] // heads,
        "rope_theta": float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0),
        "rms_norm_eps": config.get("rms_norm_eps", 1e-6),
        "tie_word_embeddings": config.get("tie_word_embeddings", False),
        "max_position_embeddings": config.get("max_position_embeddings", 2048),
    }
    return {**config, **filled}


def parameter_count(config: dict) -> int:
    """Weights of a Llama model, from its config, norms left out."""
    width, inner, layers = (config[k] for k in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    return layers * (4 * width * width + 3 * width * inner) + 2 * config["vocab_size"] * width


def unsupported(config: dict) -> str | None:
    """None when FastLlama computes what this config describes; else why not, in a few words."""
    if config.get("model_type") != "llama":
        return f"it is a {config.get('model_type')} model"
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        return "its rotary positions are scaled"
    if config.get("attention_bias") or config.get("mlp_bias"):
        return "its layers have biases"
    if config.get("hidden_act", "silu") != "silu":
        return f"its activation is {config['hidden_act']}"
    needed = ("num_attention_heads", "hidden_size", "intermediate_size", "vocab_size", "num_hidden_layers")
    missing = [key for key in needed if not isinstance(config.get(key), int)]
    return f"config.json lacks {', '.join(missing)}" if missing else None
