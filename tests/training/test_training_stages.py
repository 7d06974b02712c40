"""Align and tune on tiny models: the block mask is exact, training learns, and a killed run goes on where it stood."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from mambamia_cli.compressor.config import CompressorConfig
from mambamia_cli.errors import UsageError
from mambamia_cli.language import lora
from mambamia_cli.language.projector import ProjectorConfig
from mambamia_cli.training import align, config, features, questions, tune
from mambamia_cli.training.checkpoint import Run, cosine

WIDTH, WORDS = 16, 6


@pytest.fixture
def data():
    """Shots whose patches carry their name plainly: a linear code of the name on every patch."""
    rng = np.random.default_rng(0)
    names = rng.integers(-1, WORDS, (64, 1)).repeat(8, 1)  # one name a shot, or none
    code = rng.normal(size=(WORDS + 1, 8)).astype(np.float32)
    patches = np.repeat(code[names][:, :, None], 4, 2) + 0.05 * rng.normal(size=(64, 8, 4, 8))
    blank = np.full((64, 8, 2), -1)
    names = np.stack([names, np.full_like(names, -1)], -1)
    no = np.zeros((64, 8), bool)
    return features.FeatureSet([patches.astype(np.float16)], names, blank, no, no, no)


def aligner():
    torch.manual_seed(0)
    sizes = CompressorConfig(vision_width=8, hidden_size=16, grid_rows=2, patches_per_row=2, num_layers=1, state_size=8, head_dim=8,
                             chunk_size=16, taa_state_size=8)
    words = [str(i) for i in range(WORDS + 1001)]
    lexicon = align.Lexicon(words, torch.randn(len(words), WIDTH))
    return align.Aligner(sizes, ProjectorConfig(16, 2, 32, WIDTH, 2), lexicon)


SMALL = align.AlignConfig(steps=60, frames=32, sequences=2, lr=5e-3, grid=(2, 2))


def test_align_learns_names_and_boundaries(tmp_path, data):
    model = aligner()
    before = align.evaluate(model, data, align.targets(data, WORDS, 1000), WORDS, (2, 2))
    align.train(model, None, align.Material(data, None, {}), tmp_path, SMALL, 1, lambda text: None)
    after = align.evaluate(model, data, align.targets(data, WORDS, 1000), WORDS, (2, 2))
    assert after["objects"] > 0.9 > before["objects"] + 0.3
    assert after["delta_edge"] > after["delta_rest"] + 0.3


def test_teacher_aggregator_and_distillation(tmp_path, data):
    """The three steps as the recipe takes them: the compressor ends close to its teacher and names what it names."""
    sizes = dataclasses.replace(SMALL, steps=200, teacher_steps=150, teacher_frames=64, taa_steps=150, teacher_lr=5e-3, taa_lr=5e-3)
    material, model = align.Material(data, None, {}), aligner()
    torch.manual_seed(1)
    teacher = align.RowPool(model.compressor.config, model.projector.config, model.lexicon)
    align.train_teacher(teacher, material, tmp_path / "teacher", sizes, 1, lambda text: None)
    align.train_taa(model, teacher, material, tmp_path / "taa", sizes, 1, lambda text: None)
    align.train(model, teacher, material, tmp_path / "align", sizes, 1, lambda text: None)
    scores = align.evaluate(model, data, align.targets(data, WORDS, 1000), WORDS, (2, 2))
    assert scores["objects"] > 0.9 and scores["delta_edge"] > scores["delta_rest"] + 0.3
    patches = torch.from_numpy(np.array(data.patches(0)))[None].float()
    with torch.no_grad():
        assert torch.nn.functional.mse_loss(model.compressor.gather(patches), teacher.anchors(patches)) < 0.3


def test_stopped_run_equals_straight_run(tmp_path, data):
    straight = aligner()
    align.train(straight, None, align.Material(data, None, {}), tmp_path / "a", SMALL, 1, lambda text: None)
    stopped = aligner()

    def interrupt(text):
        raise KeyboardInterrupt

    saved = Run.advance
    try:
        Run.advance = lambda self: (saved(self), self.save())[0]  # a checkpoint at every step
        with pytest.raises(KeyboardInterrupt):
            align.train(stopped, None, align.Material(data, None, {}), tmp_path / "b", SMALL, 1, interrupt)
    finally:
        Run.advance = saved
    again = aligner()
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.zero_()  # all that counts comes from the checkpoint
    align.train(again, None, align.Material(data, None, {}), tmp_path / "b", SMALL, 1, lambda text: None)
    for one, two in zip(straight.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-5)


def test_still_moves_before_another_background_with_its_own_cells():
    """Frame 0 holds a drawing in the left half; every swap keeps those cells and takes the rest from the empty frame 1."""
    patches = np.stack([np.full((4, 8), 5.0), np.full((4, 8), 1.0)]).astype(np.float16)
    boxes = np.array([[0.05, 0.1, 0.45, 0.9], [np.nan] * 4], np.float32)
    named = np.array([[3, -1], [-1, -1]])
    data = features.StillSet([patches], named, np.full((2, 2), -1), np.zeros(2, bool), boxes)
    stills = align.Stills(data, align.targets(data, WORDS, 1000), (2, 2), swap=1.0)
    seen = set()
    for seed in range(40):
        cells, names = stills.draw(np.random.default_rng(seed))
        if names[0] == 3:
            seen.add(tuple(cells[:, 0].tolist()))
    assert seen == {(5.0, 1.0, 5.0, 1.0), (1.0, 5.0, 1.0, 5.0)}  # as drawn, and mirrored


def test_targets_prefer_drawings_and_fall_back_to_the_scene(data):
    wanted = align.targets(data, WORDS, 1000)
    named = data.names[..., 0] >= 0
    assert (wanted[..., 0][named] == data.names[..., 0][named]).all()
    assert (wanted[~named] == WORDS + 1000).all()


def tiny_llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = LlamaConfig(vocab_size=64, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
                        num_key_value_heads=1, max_position_embeddings=512)
    return LlamaForCausalLM(sizes).eval()


class LetterTokenizer:
    """One id a character; the chat template is plain."""

    def __call__(self, text, add_special_tokens=False):
        return {"input_ids": [ord(c) % 64 for c in text.replace("<|im_end|>", "\x01")]}

    def apply_chat_template(self, chat, tokenize, add_generation_prompt):
        return "S" + "".join(m["content"] for m in chat) + "A"


def test_questions_that_share_a_prefix_score_as_alone():
    model = tiny_llama()
    packer = tune.Packer(LetterTokenizer(), model.get_input_embeddings().weight.detach())
    packer.fast = False
    video = tune.Video((0.0, 3.0), torch.randn(2, 2, WIDTH), questions.Timeline({}))
    asked = [questions.Question("x", "who?", "cat"), questions.Question("x", "what now?", "dogs", ("a", "dogs"))]
    together, _ = tune.answer_loss(model, packer, video, asked)
    alone = [tune.answer_loss(model, packer, video, [q])[0] for q in asked]
    lengths = [len(q.answer) + 1 for q in asked]
    weighted = sum(a * n for a, n in zip(alone, lengths, strict=True)) / sum(lengths)
    torch.testing.assert_close(together, weighted, atol=1e-5, rtol=1e-5)


def test_adapter_starts_as_the_model_and_merges_into_it(tmp_path):
    model = tiny_llama()
    ids = torch.arange(10)[None]
    plain = model(ids).logits
    settings = lora.LoraConfig(rank=4, alpha=8)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    adapters = lora.attach(model, settings)
    torch.testing.assert_close(model(ids).logits, plain)
    for adapter in adapters.values():
        nn.init.normal_(adapter.lora_B, std=0.2)
    adapted = model(ids).logits
    assert (adapted - plain).abs().max() > 0.01
    lora.save_adapter(adapters, settings, tmp_path)
    merged = tiny_llama()
    merged.load_state_dict(lora.merge_adapter(state, tmp_path))
    torch.testing.assert_close(merged(ids).logits, adapted, atol=5e-3, rtol=5e-3)  # stored in float16


def test_schedule_rises_and_falls():
    rates = [cosine(s, 100, warmup=10) for s in range(100)]
    assert rates[0] < rates[9] == pytest.approx(1.0) and rates[-1] < 0.05 and all(a >= b for a, b in pairwise(rates[10:]))


def test_recipe_refuses_unknown_keys_by_name(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text("[align]\nstepps = 3\n")
    with pytest.raises(UsageError, match="stepps"):
        config.load(path)
    path.write_text("[align]\nsteps = 3\n")
    assert config.load(path).align.steps == 3
    path.write_text("[evidence]\nsloppe = 1.0\n")
    with pytest.raises(UsageError, match="r.toml: .*sloppe"):
        config.load(path)
    path.write_text("seed = ")
    with pytest.raises(UsageError, match="TOML"):
        config.load(path)


def test_shipped_recipe_is_valid():
    from pathlib import Path

    recipe = config.load(Path(__file__).parents[2] / "weights" / "mambamia-tiny" / "train.toml")
    assert recipe.name == "mambamia-tiny" and recipe.align.steps > 100
