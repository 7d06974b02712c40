"""The embedded model itself: sense, equal answers in few bits, and the light tokenizer against transformers' own."""

import pytest
import torch

from mambamia_cli.language.fast_llama import FastLlama
from mambamia_cli.language.model import load_language_model
from mambamia_cli.language.packing import quantize_int4, quantize_int8
from mambamia_cli.language.tokenizer import FastTokenizer

PROMPTS = (
    "What is the capital of France?",
    "Name three animals that live in the sea.",
    "What color is the sky on a clear day?",
    "Translate 'good morning' to Spanish.",
    "How many days are in a week?",
    "Is fire hot or cold?",
)


def test_it_knows_the_capital_of_france(smollm):
    lm = load_language_model("smollm2-135m-instruct")
    generation = lm.generate(lm.embed(lm.chat_text(PROMPTS[0])), max_tokens=20)
    assert "".join(generation) == "The capital of France is Paris." and generation.finish == "stop"
    prefix = lm.embed(lm.chat_text(PROMPTS[0]))
    paris, rome = lm.score(prefix, ["The capital of France is Paris.", "The capital of France is Rome."])
    assert paris > rome + 3


def test_few_bits_agree_with_float32(smollm):
    exact, tokenizer = FastLlama(smollm, "fp32"), FastTokenizer(smollm)
    for quant, worst in (("int4", 0.02), ("int8", 0.02)):
        small, divergence, same, total = FastLlama(smollm, quant), 0.0, 0, 0
        for prompt in PROMPTS:
            x = exact.embedding[tokenizer.encode(tokenizer.chat_text(prompt))]
            exact.position = small.position = 0
            wanted = exact.forward(x, last_only=False).log_softmax(-1)  # (l, vocabulary)
            # One by one, so that the packed weights are what is measured and not the dense ones.
            got = torch.stack([small.forward(row[None]) for row in x]).log_softmax(-1)
            divergence += float((wanted.exp() * (wanted - got)).sum())
            same += int((wanted.argmax(-1) == got.argmax(-1)).sum())
            total += len(x)
        print(f"{quant}: KL {divergence / total:.5f} nats a token, top-1 equal {same}/{total}")
        assert divergence / total < worst and same / total > 0.93


def test_light_tokenizer_equals_transformers(smollm):
    from transformers import AutoTokenizer

    light, theirs = FastTokenizer(smollm), AutoTokenizer.from_pretrained(smollm)
    for text in ("Hello world 12345", "café 日本\n\n  x=3.14;\tdon't", "<|im_end|>a <|im_start|>", ""):
        ids = light.encode(text)
        assert ids == theirs(text, add_special_tokens=False)["input_ids"]
        assert theirs.decode(ids) == text and light.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    for system in (None, "Be brief."):
        messages = ([{"role": "system", "content": system}] if system else []) + [{"role": "user", "content": "hi"}]
        wanted = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert light.chat_text("hi", system) == wanted
    assert light.stop_ids == {theirs.eos_token_id}


def test_four_bit_blocks_are_reproduced_and_other_weights_are_not():
    generator = torch.Generator().manual_seed(0)
    q = torch.randint(0, 16, (64, 4, 32), generator=generator).float()
    q[..., 0], q[..., 1] = 0, 15  # a Q4 block reaches both ends of its range
    scale, low = torch.rand(64, 4, 1, generator=generator) + 0.1, torch.randn(64, 4, 1, generator=generator)
    blocks = (q * scale + low).view(64, 128)
    found, scale_zero, error = quantize_int4(blocks)
    assert error < 0.01 and scale_zero.shape == (4, 64, 2)
    assert (found.view(64, 4, 32) == q).float().mean() > 0.99
    assert quantize_int4(torch.randn(64, 128, generator=generator))[2] > 0.05


def test_int4_kernel_reads_what_was_packed():
    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(64, 128, generator=generator), torch.randn(3, 128, generator=generator)
    q, scale_zero, _ = quantize_int4(weight)
    scale, zero = (scale_zero[..., i].float().T.repeat_interleave(32, dim=1) for i in (0, 1))
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(q, 1)
    got = torch.ops.aten._weight_int4pack_mm_for_cpu(x.bfloat16(), packed, 32, scale_zero).float()
    assert torch.allclose(got, x @ ((q - 8) * scale + zero).T, rtol=0.02, atol=0.2)


def test_int8_rows():
    weight = torch.randn(5, 64, generator=torch.Generator().manual_seed(1))
    q, scale = quantize_int8(weight)
    assert ((q.float() * scale.float()[:, None] - weight).abs() <= scale.float()[:, None] * 0.75).all()


@pytest.mark.slow
def test_a_long_prompt_in_pieces_equals_one_pass(smollm):
    model = FastLlama(smollm, "fp32")
    x = model.embedding[torch.arange(3000) * 7 % 49152]
    whole = model.forward(x)
    model.position = 0
    for part in x.split(777):
        last = model.forward(part)
    assert torch.allclose(last, whole, atol=1e-2)
