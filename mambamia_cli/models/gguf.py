"""A GGUF file of a Llama-architecture model -> a folder that transformers loads: config, safetensors, tokenizer.

Two things are not plain copies. Attention: llama.cpp rotates neighbouring pairs of a head's rows where transformers
rotates halves, so its converter interleaves the rows of q and k; they are put back here. Tokenizer: GGUF stores the
byte-level vocabulary and merges, and only the name of the pre-tokenizer.

Arithmetic is NumPy's: this module imports no torch.
"""

import json
from pathlib import Path

import numpy as np

from mambamia_cli.errors import ModelError

CONTROL = 3  # gguf's token type of special tokens
PRE_TOKENIZERS = ("smollm",)  # digits one by one, then GPT-2's pattern

_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def convert(gguf_path: Path, folder: Path) -> None:
    """Write config.json, generation_config.json, model.safetensors (float32), tokenizer.json and its config to `folder`.

    float32 because 4-bit blocks times their float16 scales are exact in it and in nothing shorter.
    Raises: ModelError when the file is not a GGUF of a Llama model with a byte-level BPE vocabulary we know.
    """
    import gguf
    from safetensors.numpy import save_file

    try:
        reader = gguf.GGUFReader(gguf_path)
        facts = {name: field.contents() for name, field in reader.fields.items()}
    except (ValueError, OSError, IndexError, KeyError, TypeError) as error:
        raise ModelError(f"{gguf_path.name} is not a readable GGUF file", "download it again") from error
    config = llama_config(facts)
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    tensors = {}
    for tensor in reader.tensors:
        name, kind = hf_name(tensor.name)
        values = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if kind in heads:
            values = unpermute_rope(values, heads[kind])
        tensors[name] = np.ascontiguousarray(values)
    config["tie_word_embeddings"] = "lm_head.weight" not in tensors
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    _write_json(folder / "config.json", config)
    ids = {k: config[k] for k in ("bos_token_id", "eos_token_id", "pad_token_id")}
    _write_json(folder / "generation_config.json", ids)
    write_tokenizer(facts, folder)


def llama_config(facts: dict) -> dict:
    """transformers' LlamaConfig, as a dict, from GGUF metadata. Raises ModelError for other architectures."""
    if facts.get("general.architecture") != "llama":
        found = facts.get("general.architecture")
        raise ModelError(f"the GGUF holds a {found} model", "only Llama-architecture files can be converted")
    try:
        heads = facts["llama.attention.head_count"]
        width = facts["llama.embedding_length"]
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": width,
            "intermediate_size": facts["llama.feed_forward_length"],
            "num_hidden_layers": facts["llama.block_count"],
            "num_attention_heads": heads,
            "num_key_value_heads": facts.get("llama.attention.head_count_kv", heads),
            "head_dim": facts.get("llama.rope.dimension_count", width // heads),
            "max_position_embeddings": facts["llama.context_length"],
            # Stored as float32 there; the value meant is the decimal one (1e-05, not 9.999999747e-06).
            "rms_norm_eps": float(f"{facts['llama.attention.layer_norm_rms_epsilon']:.6g}"),
            "rope_theta": float(facts.get("llama.rope.freq_base", 10000.0)),
            "vocab_size": len(facts["tokenizer.ggml.tokens"]),
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "bos_token_id": facts.get("tokenizer.ggml.bos_token_id"),
            "eos_token_id": facts.get("tokenizer.ggml.eos_token_id"),
            "pad_token_id": facts.get("tokenizer.ggml.padding_token_id"),
            "dtype": "float32",
            "torch_dtype": "float32",
        }
    except KeyError as error:
        raise ModelError(f"the GGUF lacks the field {error}", "download it again") from error


def hf_name(name: str) -> tuple[str, str]:
    """GGUF tensor name -> (transformers' name, GGUF kind): blk.3.attn_q.weight -> (...q_proj.weight, attn_q)."""
    parts = name.split(".")
    if parts[0] == "blk" and len(parts) == 4 and parts[2] in _LAYER_NAMES and parts[3] == "weight":
        return f"model.layers.{parts[1]}.{_LAYER_NAMES[parts[2]]}.weight", parts[2]
    if len(parts) == 2 and parts[0] in _TOP_NAMES and parts[1] == "weight":
        return f"{_TOP_NAMES[parts[0]]}.weight", parts[0]
    raise ModelError(f"the GGUF holds an unknown tensor {name}", "only plain Llama models can be converted")


def unpermute_rope(values: np.ndarray, heads: int) -> np.ndarray:
    """Rows of one head from (pair, half) order, as llama.cpp keeps them, back to (half, pair), as transformers does.

    values (heads * p, d) -> (heads * p, d), p the head dim.
    """
    rows, width = values.shape
    pairs = rows // heads // 2
    return values.reshape(heads, pairs, 2, width).swapaxes(1, 2).reshape(rows, width)


def write_tokenizer(facts: dict, folder: Path) -> None:
    """tokenizer.json and tokenizer_config.json (chat template included) from the GGUF's vocabulary and merges."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    model, pre = facts.get("tokenizer.ggml.model"), facts.get("tokenizer.ggml.pre")
    if model != "gpt2" or pre not in PRE_TOKENIZERS:
        raise ModelError(f"the GGUF's tokenizer ({model}, {pre}) is not known", "only SmolLM's can be converted")
    tokens = facts["tokenizer.ggml.tokens"]  # (vocabulary,) text in GPT-2's byte alphabet
    merges = [tuple(pair.split(" ")) for pair in facts["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    types = facts["tokenizer.ggml.token_type"]
    special = [token for token, kind in zip(tokens, types, strict=True) if kind == CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.save(str(folder / "tokenizer.json"))

    def token_of(role: str) -> str | None:
        index = facts.get(f"tokenizer.ggml.{role}_token_id")
        return None if index is None else tokens[index]

    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": token_of("bos"),
        "eos_token": token_of("eos"),
        "unk_token": token_of("unknown"),
        "pad_token": token_of("padding"),
        "model_max_length": facts["llama.context_length"],
        "clean_up_tokenization_spaces": False,
        "add_bos_token": bool(facts.get("tokenizer.ggml.add_bos_token", False)),
        "chat_template": facts.get("tokenizer.chat_template"),
    }
    _write_json(folder / "tokenizer_config.json", {k: v for k, v in config.items() if v is not None})


def _write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
