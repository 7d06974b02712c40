"""Public models by short name: the sizes in their published config.json files, so that they can be planned for offline.

Only what sizes depend on is listed; field names are those of the files. Names may be given with or without their owner.
"""

from typing import Any

_SO400M = {"model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
           "num_attention_heads": 16}  # fmt: skip
_SIGLIP_BASE = {"model_type": "siglip_vision_model", "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
                "num_attention_heads": 12}  # fmt: skip

VISION: dict[str, dict[str, Any]] = {
    "google/siglip2-so400m-patch16-384": {**_SO400M, "image_size": 384, "patch_size": 16},
    "google/siglip2-so400m-patch14-384": {**_SO400M, "image_size": 384, "patch_size": 14},
    "google/siglip-so400m-patch14-384": {**_SO400M, "image_size": 384, "patch_size": 14},
    "google/siglip2-base-patch16-224": {**_SIGLIP_BASE, "image_size": 224, "patch_size": 16},
    "google/siglip-base-patch16-224": {**_SIGLIP_BASE, "image_size": 224, "patch_size": 16},
    "openai/clip-vit-large-patch14": {
        "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
        "num_attention_heads": 16, "image_size": 224, "patch_size": 14,
    },
}  # fmt: skip


def _decoder(kind: str, width: int, inner: int, layers: int, heads: int, kv: int, vocabulary: int, context: int, *,
             tied: bool, head_dim: int | None = None) -> dict[str, Any]:  # fmt: skip
    sizes = {"model_type": kind, "hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers,
             "num_attention_heads": heads, "num_key_value_heads": kv, "vocab_size": vocabulary,
             "max_position_embeddings": context, "tie_word_embeddings": tied}  # fmt: skip
    return sizes | ({"head_dim": head_dim} if head_dim else {})


LANGUAGE: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2-7B-Instruct": _decoder("qwen2", 3584, 18944, 28, 28, 4, 152064, 32768, tied=False),
    "Qwen/Qwen2.5-7B-Instruct": _decoder("qwen2", 3584, 18944, 28, 28, 4, 152064, 32768, tied=False),
    "Qwen/Qwen2.5-3B-Instruct": _decoder("qwen2", 2048, 11008, 36, 16, 2, 151936, 32768, tied=True),
    "Qwen/Qwen2-1.5B-Instruct": _decoder("qwen2", 1536, 8960, 28, 12, 2, 151936, 32768, tied=True),
    "Qwen/Qwen2-0.5B-Instruct": _decoder("qwen2", 896, 4864, 24, 14, 2, 151936, 32768, tied=True),
    "Qwen/Qwen3-8B": _decoder("qwen3", 4096, 12288, 36, 32, 8, 151936, 40960, tied=False, head_dim=128),
    "lmsys/vicuna-7b-v1.5": _decoder("llama", 4096, 11008, 32, 32, 32, 32000, 4096, tied=False),
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": _decoder("llama", 2048, 8192, 24, 32, 32, 49152, 8192, tied=True),
    "HuggingFaceTB/SmolLM2-360M-Instruct": _decoder("llama", 960, 2560, 32, 15, 5, 49152, 8192, tied=True),
    "HuggingFaceTB/SmolLM2-135M-Instruct": _decoder("llama", 576, 1536, 30, 9, 3, 49152, 8192, tied=True),
    "EleutherAI/pythia-2.8b": _decoder("gpt_neox", 2560, 10240, 32, 32, 32, 50304, 2048, tied=False),
}
_ALSO = {"qwen2-7b": "Qwen/Qwen2-7B-Instruct", "qwen2.5-7b": "Qwen/Qwen2.5-7B-Instruct", "siglip2-so400m": "google/siglip2-so400m-patch16-384",
         "vicuna-7b": "lmsys/vicuna-7b-v1.5", "qwen2.5-3b": "Qwen/Qwen2.5-3B-Instruct", "smollm2-135m-instruct": "HuggingFaceTB/SmolLM2-135M-Instruct"}  # fmt: skip


def find(table: dict[str, dict[str, Any]], name: str) -> dict[str, Any] | None:
    """The config of a name, whichever way it is written; None when it is not in the table."""
    wanted = _ALSO.get(name.lower(), name).lower()
    for full, config in table.items():
        if wanted in (full.lower(), full.lower().partition("/")[2]):
            return config
    return None
