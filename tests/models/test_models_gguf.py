"""The GGUF converter, on a tiny Llama written by the gguf package with the row order that llama.cpp uses."""

import gguf
import numpy as np
import pytest
import torch

from mambamia_cli.errors import ModelError
from mambamia_cli.models.gguf import convert, hf_name, unpermute_rope

HEADS, KV_HEADS, WIDTH, INNER, LAYERS = 4, 2, 64, 96, 2
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def byte_alphabet() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def permute(w: np.ndarray, heads: int) -> np.ndarray:
    """What llama.cpp's converter does to q and k: halves of a head become neighbouring pairs."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def write_gguf(path, model, *, arch="llama", pre="smollm", quantized=True, skip=()):
    state = {k: v.numpy() for k, v in model.state_dict().items()}
    tokens = SPECIAL + byte_alphabet() + ["Ġt", "he", "Ġthe", "12"]
    writer = gguf.GGUFWriter(path, arch)
    writer.add_context_length(256)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)))
    writer.add_token_merges(["Ġ t", "h e", "Ġt he", "1 2"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template("{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}")
    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v"}
    names |= {"self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up"}
    names |= {"mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    written = {"token_embd.weight": state["model.embed_tokens.weight"], "output_norm.weight": state["model.norm.weight"]}
    for i in range(LAYERS):
        for theirs, ours in names.items():
            written[f"blk.{i}.{ours}.weight"] = state[f"model.layers.{i}.{theirs}.weight"]
    for name, value in written.items():
        if name in skip:
            continue
        if "attn_q" in name or "attn_k" in name:
            value = permute(value, HEADS if "attn_q" in name else KV_HEADS)
        if value.ndim == 2 and quantized:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quantize(value, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(3)
    config = LlamaConfig(
        hidden_size=WIDTH, intermediate_size=INNER, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS, vocab_size=len(SPECIAL) + 256 + 4, max_position_embeddings=256,
        rms_norm_eps=1e-5, tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(10)  # sharp attention, or a wrong row order would hardly show
    return model


def test_converted_model_gives_the_logits_of_the_original(llama, tmp_path):
    from transformers import AutoModelForCausalLM

    convert(write_gguf(tmp_path / "a.gguf", llama, quantized=False), tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.arange(40)[None] * 5 % 260
    with torch.no_grad():
        assert torch.allclose(loaded(ids).logits, llama(ids).logits, atol=1e-4)


def test_quantised_blocks_are_dequantised(llama, tmp_path):
    from safetensors.numpy import load_file

    convert(write_gguf(tmp_path / "a.gguf", llama), tmp_path)
    found = load_file(tmp_path / "model.safetensors")["model.layers.1.self_attn.k_proj.weight"]
    wanted = llama.state_dict()["model.layers.1.self_attn.k_proj.weight"].numpy()
    assert found.dtype == np.float32
    assert np.abs(found - wanted).max() <= np.abs(wanted).max() / 127  # half a step of 8 bits would be half of this


def test_unpermute_undoes_llama_cpps_permutation():
    w = np.arange(16 * 3, dtype=np.float32).reshape(16, 3)
    assert not np.array_equal(permute(w, 2), w)
    assert np.array_equal(unpermute_rope(permute(w, 2), 2), w)


def test_tokenizer_splits_digits_merges_words_and_comes_back(llama, tmp_path):
    from transformers import AutoTokenizer

    convert(write_gguf(tmp_path / "a.gguf", llama), tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.convert_ids_to_tokens(tokenizer("x the 12")["input_ids"]) == ["x", "Ġthe", "Ġ", "1", "2"]
    text = "café 日本\n\t<|im_end|> don't  stop 3.14"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer("<|im_end|>")["input_ids"] == [2] == [tokenizer.eos_token_id]
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert chat == "<|im_start|>hi<|im_end|>"


@pytest.mark.parametrize(("options", "said"), [({"arch": "qwen2"}, "qwen2"), ({"pre": "llama-bpe"}, "llama-bpe")])
def test_other_models_are_refused(llama, tmp_path, options, said):
    with pytest.raises(ModelError, match=said):
        convert(write_gguf(tmp_path / "a.gguf", llama, **options), tmp_path)


def test_a_text_file_and_a_cut_file_are_refused(llama, tmp_path):
    (tmp_path / "text.gguf").write_text("not a model")
    whole = write_gguf(tmp_path / "whole.gguf", llama).read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    for name in ("text.gguf", "cut.gguf"):
        with pytest.raises(ModelError, match="not a readable GGUF"):
            convert(tmp_path / name, tmp_path)


def test_unknown_tensors_are_refused():
    assert hf_name("blk.3.attn_q.weight") == ("model.layers.3.self_attn.q_proj.weight", "attn_q")
    for name in ("blk.3.attn_q.bias", "blk.3.ssm_in.weight", "rope_freqs.weight"):
        with pytest.raises(ModelError, match=name.replace(".", r"\.")):
            hf_name(name)
