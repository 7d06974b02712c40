"""Tiny random models of each family, in the real file format, and the embedded model where it can be had."""

import pytest
import torch

from mambamia_cli import models
from mambamia_cli.errors import DownloadError


def small_tokenizer():
    """A real tokenizers.Tokenizer: byte-level BPE over the 256 bytes, special tokens, no merges."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return tokenizer


def save_model(kind: str, folder, **overrides):
    """Write a tiny random model of a family with its tokenizer; returns the transformers model."""
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    sizes = {
        "llama": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
        | {"num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": True},
        "qwen2": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
        | {"num_key_value_heads": 2, "max_position_embeddings": 512},
        "gpt_neox": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
        | {"max_position_embeddings": 512},
        "mamba2": {"hidden_size": 64, "num_hidden_layers": 2, "num_heads": 4, "head_dim": 32, "state_size": 16}
        | {"n_groups": 1, "expand": 2, "chunk_size": 8},
    }[kind]
    torch.manual_seed(0)
    ids = {"bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 257}
    config = CONFIG_MAPPING[kind](**(sizes | {"vocab_size": 320} | ids | overrides))
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():  # larger than the usual start, so that answers differ from prompt to prompt
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    model.save_pretrained(folder)
    template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=small_tokenizer(), bos_token="<|im_start|>", eos_token="<|im_end|>", chat_template=template
    )
    tokenizer.save_pretrained(folder)
    return model


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder of our own."""
    monkeypatch.setenv("MAMBAMIA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def smollm():
    """The folder of the embedded language model, from the user's cache (pulled when it is not there)."""
    try:
        return models.resolve("smollm2-135m-instruct")
    except DownloadError as error:
        pytest.skip(f"the embedded language model cannot be had: {error}")
