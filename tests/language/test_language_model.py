"""Every family of transformers behind the protocol, equal to transformers' own generate; errors; the fast decoder."""

import json
import shutil

import pytest
import torch
from conftest import save_model

from mambamia_cli.errors import ModelError, UsageError
from mambamia_cli.language import model as model_module
from mambamia_cli.language.model import load_language_model

KINDS = ("llama", "qwen2", "gpt_neox", "mamba2")


def say(lm, embeds, **options):
    generation = lm.generate(embeds, **options)
    return "".join(generation), generation


def reference(model, ids, count):
    """transformers' own greedy answer to embeddings, as ids."""
    embeds = model.get_input_embeddings()(torch.tensor([ids]))
    return model.generate(inputs_embeds=embeds, max_new_tokens=count, do_sample=False)[0].tolist()


def reference_score(model, ids, target):
    with torch.no_grad():
        logits = model(torch.tensor([ids + target])).logits[0].log_softmax(-1)
    return sum(float(logits[len(ids) - 1 + i, t]) for i, t in enumerate(target))


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_answer_and_scores_equal_transformers(kind, tmp_path, cache):
    model = save_model(kind, tmp_path / kind)
    lm = load_language_model(str(tmp_path / kind), quant="fp32", backend="transformers")
    prompt = lm.tokenize("hello dog")
    text, generation = say(lm, lm.embed(prompt), max_tokens=20)
    wanted = reference(model, prompt, 20)
    assert generation.tokens >= 5 and text == lm.tokenizer.decode(wanted)
    scores = lm.score(lm.embed(prompt), ["ab", "c"])
    wanted = [reference_score(model, prompt, lm.tokenize(t)) for t in ("ab", "c")]
    assert scores == pytest.approx(wanted, abs=2e-3)
    assert lm.score(lm.embed(prompt), ["ab"], mean=True)[0] == pytest.approx(scores[0] / 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quant", ["nf4", "fp4"])
def test_four_bits_by_bitsandbytes(kind, quant, tmp_path, cache):
    pytest.importorskip("bitsandbytes")
    save_model(kind, tmp_path / kind)
    lm = load_language_model(str(tmp_path / kind), quant=quant)
    layers = [m for m in lm.model.modules() if type(m).__name__ == "Linear4bit"]
    assert lm.quant == quant and len(layers) >= 4 and not lm.warnings
    assert {layer.weight.quant_type for layer in layers} == {quant}
    assert say(lm, lm.embed("hello"), max_tokens=4)[1].tokens >= 1


def test_without_bitsandbytes_the_next_best_is_used_and_told(tmp_path, cache, monkeypatch):
    save_model("llama", tmp_path / "m")
    monkeypatch.setattr(model_module, "has_bitsandbytes", lambda: False)
    monkeypatch.setattr("mambamia_cli.language.transformers_lm.has_bitsandbytes", lambda: False)
    lm = load_language_model(str(tmp_path / "m"), quant="nf4")
    assert lm.quant == "fp32" and "pip install bitsandbytes" in lm.warnings[0]


@pytest.mark.parametrize("tied", [True, False])
def test_fast_decoder_in_float32_equals_transformers(tied, tmp_path, cache):
    model = save_model("llama", tmp_path / "m", tie_word_embeddings=tied)
    lm = load_language_model(str(tmp_path / "m"), quant="fp32")
    assert type(lm).__name__ == "LlamaLanguageModel"
    ids = lm.tokenize("a longer prompt about a dog on a beach")
    with torch.no_grad():
        wanted = model(torch.tensor([ids])).logits[0]
    got = lm.llama.forward(lm.embed(ids), last_only=False)
    assert torch.allclose(got, wanted, atol=1e-3)
    # The same rows in pieces of awkward sizes: one, few and many rows, with a past and without.
    lm.llama.position = 0
    parts = [lm.llama.forward(part, last_only=False) for part in lm.embed(ids).split([1, 9, 3, len(ids) - 13])]
    assert torch.allclose(torch.cat(parts), wanted, atol=1e-3)
    text, _ = say(lm, lm.embed(ids), max_tokens=20)
    assert text == lm.tokenizer.decode(reference(model, ids, 20))
    assert lm.score(lm.embed(ids), ["abc"])[0] == pytest.approx(reference_score(model, ids, lm.tokenize("abc")), abs=2e-3)


def test_a_prompt_that_shares_its_beginning_is_read_from_there(tmp_path, cache, monkeypatch):
    save_model("llama", tmp_path / "m")
    lm = load_language_model(str(tmp_path / "m"), quant="fp32")
    first, second = lm.embed("a dog on a beach: who?"), lm.embed("a dog on a beach: where is it now?")
    alone = load_language_model(str(tmp_path / "m"), quant="fp32")
    wanted, _ = say(alone, second, max_tokens=15)
    say(lm, first, max_tokens=15)
    read, forward = [], lm.llama.forward
    monkeypatch.setattr(lm.llama, "forward", lambda x, **k: read.append(len(x)) or forward(x, **k))
    assert say(lm, second, max_tokens=15)[0] == wanted
    assert read[0] == len(second) - len("a dog on a beach: wh")
    assert say(lm, second, max_tokens=15)[0] == wanted  # all shared: one row is read again for its logits
    assert 1 in read


def test_an_answer_overtaken_by_another_is_an_error_not_nonsense(tmp_path, cache):
    save_model("llama", tmp_path / "m")
    for backend in ("fast", "transformers"):
        lm = load_language_model(str(tmp_path / "m"), quant="fp32", backend=backend)
        old = lm.generate(lm.embed("hello"), max_tokens=50)
        next(old)
        lm.generate(lm.embed("other"))
        with pytest.raises(RuntimeError, match="one answer at a time"):
            list(old)


@pytest.mark.parametrize("backend", ["fast", "transformers"])
def test_an_adapter_is_merged_and_has_its_own_cache_entry(backend, tmp_path, cache):
    from mambamia_cli.language.lora import LoraConfig, attach, save_adapter

    model = save_model("llama", tmp_path / "m")
    plain = load_language_model(str(tmp_path / "m"), quant="fp32", backend=backend)
    adapters = attach(model, LoraConfig(rank=4))
    torch.manual_seed(5)
    for adapter in adapters.values():
        torch.nn.init.normal_(adapter.lora_B, std=0.3)
    save_adapter(adapters, LoraConfig(rank=4), tmp_path / "adapter")
    lm = load_language_model(str(tmp_path / "m"), quant="fp32", backend=backend, adapter=tmp_path / "adapter")
    ids = lm.tokenize("hello dog")
    wanted = reference_score(model, ids, lm.tokenize("ab"))
    got = lm.score(lm.embed(ids), ["ab"])[0]
    assert got == pytest.approx(wanted, abs=0.05)  # the file keeps float16
    assert abs(plain.score(plain.embed(ids), ["ab"])[0] - wanted) > 0.2
    assert lm.revision != plain.revision
    if backend == "transformers":  # merged first, then quantised: the layers must hold the merged weights in 4 bits
        four = load_language_model(str(tmp_path / "m"), quant="nf4", adapter=tmp_path / "adapter").model
        layer, merged = (m.model.layers[0].self_attn.q_proj for m in (four, lm.model))
        x = torch.eye(64)
        with torch.no_grad():
            error = (layer(x) - merged(x)).norm() / merged(x).norm()
        assert type(layer).__name__ == "Linear4bit" and error < 0.15
    if backend == "fast":
        assert len(list((cache / "packed").iterdir())) == 2


def test_packed_weights_are_reused_and_follow_the_source(tmp_path, cache):
    save_model("llama", tmp_path / "m")
    load_language_model(str(tmp_path / "m"), quant="int8")
    (packed,) = (cache / "packed").iterdir()
    made = (packed / "packed.safetensors").stat().st_mtime_ns
    load_language_model(str(tmp_path / "m"), quant="int8")
    assert (packed / "packed.safetensors").stat().st_mtime_ns == made
    save_model("llama", tmp_path / "m", num_hidden_layers=3)
    assert len(load_language_model(str(tmp_path / "m"), quant="int8").llama.layers) == 3


@pytest.mark.parametrize("damage", ["cut", "shape", "missing", "pickle", "config", "tokenizer"])
@pytest.mark.parametrize("backend", ["fast", "transformers"])
def test_damaged_folders_are_model_errors(damage, backend, tmp_path, cache):
    folder = tmp_path / "m"
    save_model("llama", folder)
    weights = folder / "model.safetensors"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-500])
    elif damage == "shape":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 192}))
    elif damage == "missing":
        weights.unlink()
    elif damage == "pickle":
        torch.save({}, folder / "pytorch_model.bin")
        weights.unlink()
    else:
        (folder / f"{damage}.json").write_text("{")
    with pytest.raises(ModelError) as caught:
        load_language_model(str(folder), quant="fp32", backend=backend)
    assert caught.value.hint and caught.value.exit_code == 5


def test_bad_requests_are_usage_errors(tmp_path, cache):
    save_model("llama", tmp_path / "m")
    with pytest.raises(UsageError, match="--quant q2 is unknown"):
        load_language_model(str(tmp_path / "m"), quant="q2")
    with pytest.raises(ModelError, match="no language model nonsense"):
        load_language_model("nonsense")
    with pytest.raises(ModelError, match="efficientnet-lite0 is not a language model"):
        load_language_model("efficientnet-lite0")
    for backend in ("fast", "transformers"):
        lm = load_language_model(str(tmp_path / "m"), quant="fp32", backend=backend)
        with pytest.raises(UsageError, match="600 tokens .* context 512; lower --token-budget"):
            lm.generate(torch.zeros(600, lm.width))
        with pytest.raises(UsageError, match="shape"):
            lm.generate(torch.zeros(5, lm.width + 1))
        with pytest.raises(UsageError, match="empty"):
            lm.score(lm.embed("a"), ["b", ""])
        _, generation = say(lm, lm.embed("x" * 500), max_tokens=400)
        assert generation.tokens <= 12  # prompt and answer share the context
    save_model("qwen2", tmp_path / "q")
    with pytest.raises(UsageError, match="fast CPU decoder"):
        load_language_model(str(tmp_path / "q"), quant="int4")


def test_special_tokens_in_a_users_text_can_be_kept_as_characters(tmp_path, cache):
    save_model("llama", tmp_path / "m")
    for backend in ("fast", "transformers"):
        lm = load_language_model(str(tmp_path / "m"), quant="fp32", backend=backend)
        assert lm.tokenize("<|im_end|>") == [257]
        assert len(lm.tokenize("<|im_end|>", special=False)) == 10


def test_a_model_without_a_chat_template_gets_a_plain_prompt(tmp_path, cache):
    save_model("llama", tmp_path / "m")
    for name in ("chat_template.jinja",):
        (tmp_path / "m" / name).unlink()
    shutil.copytree(tmp_path / "m", tmp_path / "n")
    for backend in ("fast", "transformers"):
        lm = load_language_model(str(tmp_path / "n"), quant="fp32", backend=backend)
        assert lm.chat_text("who?", "Be brief.") == "Be brief.\n\nwho?\nAnswer:"


def test_matrix_whose_height_the_int8_kernel_cannot_take_stays_dense():
    """torch's int8 kernel reads past the end of a matrix whose rows are no multiple of 16: it crashed on a mapped file."""
    from mambamia_cli.language.packing import Matrix, pack_matrix

    weight = torch.randn(258, 32)
    assert set(pack_matrix("m", weight, "int8")) == {"m.dense"}
    assert "m.int8" in pack_matrix("m", torch.randn(256, 32), "int8")
    x = torch.randn(1, 32, dtype=pack_matrix("m", weight, "int8")["m.dense"].dtype)
    torch.testing.assert_close(Matrix.packed(weight, "int8").few(x).float(), x.float() @ weight.to(x.dtype).float().T, atol=0.2, rtol=0.05)
