"""The plan of UniMambaMia against what is really allocated, on tiny random checkpoints. Run with -s to see the table."""

from dataclasses import replace

import pytest
import torch
from fixtures import relatives
from fixtures.sounds import chirp, write_with_sound

from mambamia_cli.bench.memory import TensorBytes
from mambamia_cli.errors import OutOfMemoryError, UsageError
from mambamia_cli.models.kinds import kind_of
from mambamia_cli.pipeline import Models, open_video
from mambamia_cli.pipeline.answer import generate, kept_frames, prompt
from mambamia_cli.plan import estimate, limits, relative
from mambamia_cli.plan.estimate import Settings, Task
from mambamia_cli.plan.parts import of_kind
from mambamia_cli.plan.tape import HOST, Tape

QUESTION, MAX_TOKENS = "what is it?", 4
LANGUAGE = {"intermediate_size": 2048, "num_hidden_layers": 4}
# what is wide: quant, hears, prompt rows at once, changes of its tower, encoder, audio compressor and the rest
CONFIGURATIONS = {
    "spectra": ("nf4", True, 4096, {}, {"d_model": 96, "encoder_ffn_dim": 384}, {}, LANGUAGE),
    "audio encoder": ("fp32", True, 4096, {}, {"d_model": 256, "encoder_ffn_dim": 2560, "num_mel_bins": 80}, {}, {}),
    "audio compressor": ("bf16", True, 4096, {}, {}, {"hidden_size": 1024, "state_size": 64}, {"audio_projector_hidden_size": 1024}),
    "tower": ("fp32", False, 4096, {"hidden_size": 256, "intermediate_size": 2048}, {}, {}, {}),
    "language, prompt in pieces": ("bf16", False, 128, {}, {}, {}, LANGUAGE),
}


@pytest.fixture(scope="module")
def talking(tmp_path_factory):
    """Twelve seconds with sound."""
    return write_with_sound(tmp_path_factory.mktemp("talking") / "a.mkv", chirp(12, 16000, of=12), 16000, seconds=12, fps=2)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_planned_and_measured_bytes(tmp_path, talking, monkeypatch, name):
    quant, hears, rows, *changes = CONFIGURATIONS[name]
    for table, wide in zip((relatives.VISION, relatives.AUDIO, relatives.COMPRESSOR, relatives.CONFIG), changes, strict=True):
        for key, value in wide.items():
            monkeypatch.setitem(table, key, value)
    folder = relatives.write_relative(tmp_path / "model", relatives.Parts(), shard="10MB")
    models = Models(str(folder), device="cpu", quant=quant, threads=1, hear=hears)
    models.settings = Settings(prefill=rows)
    video = open_video(talking, models=models)
    index, model = video._look(), models.answerer._model
    assert models.language.prefill == rows
    senses = [model.sight] + ([model.hearing] if hears else [])
    with TensorBytes().hold(models.language.model, *senses) as counted, torch.inference_mode():
        kept = kept_frames(index, models, None, QUESTION, MAX_TOKENS)
        asked = prompt(index, models, kept, QUESTION)
        generate(models, asked, MAX_TOKENS)
    real = counted.peak["cpu"]
    parts, task = models.parts_for((96, 128)), Task(48, 12.0, (96, 128), "cpu", quant, MAX_TOKENS, question=len(QUESTION))
    expected = estimate.prompt(parts, task, models.settings)
    # How long the text is is the tokenizer's business. Frames, and the tokens of both, are exact.
    sound = relative.sound_tokens(parts.relative, len(kept), 12.0)
    assert expected.kept == len(kept) == 12 and bool(sound) == hears
    assert expected.visual + sound == len(asked) - sum(map(len, model.texts(QUESTION)))
    assert estimate.quant_of(parts, task) == (models.language.quant, False)
    planned, answer = Tape(unified=True), estimate.answering_of(parts, task, models.settings)
    relative.play(planned, parts.language, parts.relative, replace(answer, tokens=len(asked)), 12.0)
    mine = planned.peak[HOST]
    print(f"wide {name + ' ' + quant:<32} planned {mine / 1e6:8.3f} MB, measured {real / 1e6:8.3f} MB, {mine / real - 1:+.1%}, at {counted.ops['cpu']}")
    weights = relative.weights(parts.language, parts.relative, answer)
    held = sum(t.untyped_storage().nbytes() for m in (models.language.model, *senses) for t in m.parameters())
    assert abs(weights / held - 1) < 0.02
    assert abs(mine / real - 1) < 0.10


def test_what_a_limit_comes_to(tmp_path):
    """Senses take turns where they do not fit together, sound is given up by the user alone, and a limit is never passed."""
    folder = relatives.write_relative(tmp_path / "model", relatives.Parts())
    found = of_kind(kind_of(str(folder)), (96, 128))
    found = replace(found, relative=replace(found.relative, sight=400_000_000, hearing=700_000_000))  # 0.8 and 1.4 GB
    task = Task(48, 600.0, (96, 128), "cuda", "bf16", MAX_TOKENS)
    room = limits.settle(found, task, limits.Limits(vram=4 << 30))
    tight = limits.settle(found, task, limits.Limits(vram=2_000_000_000))
    assert room.together and not tight.together
    together, turns = (estimate.answer_need(found, task, settings) for settings in (room, tight))
    assert together.device > 2_200_000_000 and 1_400_000_000 < turns.device <= 2_000_000_000
    assert turns.host - together.host > 2_000_000_000, "the senses wait there"
    with pytest.raises(OutOfMemoryError, match="use --no-audio"):
        limits.settle(found, task, limits.Limits(vram=1_200_000_000, vram_words="the GPU has"))
    with pytest.raises(OutOfMemoryError, match="--device cpu or a smaller language model"):
        limits.settle(found, task, limits.Limits(vram=500_000_000, vram_words="the GPU has"))
    assert limits.settle(found, replace(task, answers=False), limits.Limits(vram=500_000_000)).chunk == 32  # scenes need the eye alone
    assert list(estimate.needs(found, task, tight)) == ["answer"] and estimate.prompt(found, task, tight).kept == 32
    more = replace(task, frames=64, most=64)  # asked for by --max-frames
    assert estimate.prompt(found, more, tight).kept > 32 and estimate.prompt(found, replace(more, most=None), tight).kept == 32
    silent = estimate.prompt(found, replace(task, sound=False), tight)
    assert silent.tokens < estimate.prompt(found, task, tight).tokens and silent.visual == 32 * 17
    with pytest.raises(UsageError, match="less than one frame's 17 tokens"):
        estimate.prompt(found, replace(task, token_budget=16), tight)
