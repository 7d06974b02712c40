"""A prompt read in pieces: the same answer, less memory, and smaller pieces when memory runs out."""

import pytest
import torch
from fixtures.language_models import save_model

from mambamia_cli.bench.memory import TensorBytes
from mambamia_cli.errors import OutOfMemoryError
from mambamia_cli.language import transformers_lm
from mambamia_cli.language.model import load_language_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models")
    for kind in ("qwen2", "gpt_neox"):
        save_model(kind, path / kind)
    return path


def load(folder, kind):
    return load_language_model(str(folder / kind), quant="fp32", backend="transformers")


def prompt(lm, length):
    return torch.randn(length, lm.width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ["qwen2", "gpt_neox"])
def test_pieces_give_the_same_answer(folder, kind):
    lm = load(folder, kind)
    embeds = prompt(lm, 150)
    whole, text = lm._read(embeds), "".join(lm.generate(embeds, max_tokens=12))
    for rows in (64, 149, 1):
        lm.prefill = rows
        torch.testing.assert_close(lm._read(embeds), whole, atol=2e-4, rtol=2e-4)
        assert "".join(lm.generate(embeds, max_tokens=12)) == text


def test_pieces_take_less_memory(folder):
    lm, peaks = load(folder, "qwen2"), []
    embeds = prompt(lm, 480)
    for rows in (4096, 64):
        lm.prefill = rows
        with TensorBytes().hold(lm.model) as counted:
            before = counted.live["cpu"]
            lm._read(embeds)
        peaks.append(counted.peak["cpu"] - before)
    assert peaks[1] < 0.6 * peaks[0]


def test_out_of_memory_halves_the_piece_and_goes_on(folder, monkeypatch):
    """The second layer runs out, so the first has taken the piece up already: that must be undone."""
    lm = load(folder, "qwen2")
    embeds, monkey = prompt(lm, 300), lm.model.model.layers[1]
    whole, forward, read = lm._read(embeds), monkey.forward, []

    def small_only(hidden, *args, **kwargs):
        if hidden.shape[1] > 80:
            raise torch.OutOfMemoryError("CUDA out of memory (pretended)")
        read.append(hidden.shape[1])
        return forward(hidden, *args, **kwargs)

    monkeypatch.setattr(monkey, "forward", small_only)
    lm.prefill = 120
    torch.testing.assert_close(lm._read(embeds), whole, atol=2e-4, rtol=2e-4)
    assert sum(read) == 300 and max(read) <= 80 and lm.prefill == 64
    pieces = []

    def not_the_second(hidden, *args, **kwargs):
        pieces.append(hidden.shape[1])
        if len(pieces) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory (pretended)")
        return forward(hidden, *args, **kwargs)

    monkeypatch.setattr(monkey, "forward", not_the_second)  # behind a piece that stays
    lm.prefill = 120
    torch.testing.assert_close(lm._read(embeds), whole, atol=2e-4, rtol=2e-4)
    assert sum(pieces) - pieces[1] == 300 and pieces[:3] == [120, 120, 64]
    monkeypatch.setattr(monkey, "forward", small_only)
    monkeypatch.setattr(transformers_lm, "LEAST_PREFILL", 100)
    lm.prefill = 100
    with pytest.raises(OutOfMemoryError, match="memory ran out"):
        lm._read(embeds)
