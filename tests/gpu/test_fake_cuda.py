"""The whole pipeline on a card that is not there (fixtures/fake_cuda.py): devices, types, where the host waits, bytes against
the plan. Run with -s for the table."""

import dataclasses

import numpy as np
import pytest
import torch
from fixtures import videos
from fixtures.card_models import answer_on_card, answering_parts, models_on_card, watch_on_card, write_configs
from fixtures.fake_cuda import CARD, card, on_card
from fixtures.relatives import CONFIG, Parts, write_relative

from mambamia_cli.compressor.config import CompressorConfig
from mambamia_cli.compressor.model import MambaMiaCompressor
from mambamia_cli.compressor.stream import StreamingCompressor
from mambamia_cli.language.projector import ProjectorConfig
from mambamia_cli.language.unimambamia.model import UniMambaMia
from mambamia_cli.pipeline import open_video, sightings
from mambamia_cli.pipeline.answer import generate, kept_frames, likeliest, prompt
from mambamia_cli.plan import answering, estimate, known, watching
from mambamia_cli.plan.estimate import Settings, Task
from mambamia_cli.plan.tape import DEVICE, Tape

QUESTION, MAX_TOKENS, FRAMES = "what is it?", 4, 40
TOWER = {"hidden_size": 96, "intermediate_size": 200, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 64, "patch_size": 16}
SIGLIP, CLIP = {"model_type": "siglip_vision_model", **TOWER}, {"model_type": "clip_vision_model", **TOWER}
SIGLIP2 = {"model_type": "siglip2_vision_model", **{k: v for k, v in TOWER.items() if k != "image_size"}, "num_patches": 16}
SMALL = CompressorConfig(vision_width=96, hidden_size=64, grid_rows=4, patches_per_row=4, num_layers=2, state_size=32, taa_state_size=32)
LANGUAGE = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "vocab_size": 320, "max_position_embeddings": 2048}  # fmt: skip
QWEN2, LLAMA = {"model_type": "qwen2", **LANGUAGE}, {"model_type": "llama", **LANGUAGE, "tie_word_embeddings": True}

# name: tower, what of the compressor is changed, language model, quant, settings, words of a lexicon
RUNS = {
    "siglip, both ways, qwen2 bf16": (SIGLIP, {}, QWEN2, "bf16", Settings(chunk=8, window=24), ()),
    "siglip2, forward only, llama bf16": (SIGLIP2, {"bidirectional": False, "chunk_size": 16}, LLAMA, "bf16", Settings(chunk=16), ()),
    "clip, rows, window offloaded, qwen2 nf4": (
        CLIP, {"taa_layout": "rows", "output_size": 128, "taa_bidirectional": True}, QWEN2, "nf4", Settings(chunk=8, window=24, offload=True), ()),
    "embedded, lexicon, llama bf16 in pieces": (
        None, {"vision_width": 432, "grid_rows": 7, "patches_per_row": 7}, LLAMA, "bf16", Settings(prefill=128), ("dog", "red boat", "scene")),
}  # fmt: skip
SO400M, QWEN2_7B = known.VISION["google/siglip2-so400m-patch16-384"], known.LANGUAGE["Qwen/Qwen2-7B-Instruct"]

# Where float32 is meant: rms norms, states and what enters the scan, embeddings for the prompt, and norms of transformers.
WIDE = {"compressor/layers.py:_gated_and_scale", "compressor/ssd.py:ssd_scan", "compressor/ssd_block.py:<genexpr>",
        "language/transformers_lm.py:embed", "language/transformers_lm.py:_forward (transformers modeling_qwen2:forward)",
        "language/transformers_lm.py:_forward (transformers modeling_llama:forward)"}  # fmt: skip
OFFLOADED = {"compressor/stream.py:take_in", "compressor/stream.py:_compress", "compressor/stream.py:_run_layer"}
# Where the two memories meet: as in the docstring of pipeline/index.py, and once a question or token when answering.
RESIZED = "vision/tower.py:_run (transformers modeling_siglip2:resize_positional_embeddings)"  # transformers 5.24's, once a chunk
WATCHING = {"to card": {"vision/preprocess.py:normalise", "vision/preprocess.py:_on", "vision/backends.py:run", RESIZED},
            "to host": {"pipeline/index.py:_with_mean", "pipeline/index.py:take", "pipeline/index.py:append"}}  # fmt: skip
ANSWERING = {
    "to card": {"pipeline/answerers.py:prompt", "language/transformers_lm.py:embed", "language/transformers_lm.py:_read",
                "language/transformers_lm.py:step", "language/transformers_lm.py:_forward (transformers cache_utils:lazy_initialization)"},
    "to host": {"pipeline/answerers.py:prompt", "language/transformers_lm.py:embed"},
}  # fmt: skip


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Five seconds at eight frames a second: two windows of some of the models."""
    return videos.write_video(tmp_path_factory.mktemp("film") / "film.mp4", ((videos.RED, 3), (videos.BLUE, 2)), fps=8, textured=True).path


def write(folder, vision, config, language, *, words=(), each=4):
    projector = ProjectorConfig(input_width=config.anchor_width, anchors=config.grid_rows, hidden_width=64 if each == 4 else config.anchor_width,
                                output_width=language["hidden_size"], tokens_per_frame=each, mode="frame" if each == 4 else "anchor")  # fmt: skip
    return write_configs(folder, vision, config, language, projector, words=words)


def look(folder, film, settings, monkeypatch):
    """-> models, the index, and what the look at a film did on the card."""
    models = models_on_card(folder, settings, monkeypatch)
    with card() as seen, torch.inference_mode():
        watch_on_card(models)
        index = open_video(film, models=models, fps=8).index()
        models.enter("answer")
        assert seen.bytes.live["cuda"] < 100  # vision and compressor have left it
    return models, index, seen


def answer(models, index, quant):
    """-> what the answer did on the card, frames kept, tokens of the prompt."""
    parts = answering_parts(models, quant)
    with card() as seen, torch.inference_mode():
        answer_on_card(models, *parts, quant)
        kept = kept_frames(index, models, None, QUESTION, MAX_TOKENS)
        embeds = prompt(index, models, kept, QUESTION)
        assert (embeds.device.type, embeds.dtype) == ("cpu", torch.float32)
        generate(models, embeds, MAX_TOKENS)
    return seen, len(kept), len(embeds)


def check_plan(name, models, quant, watched, answered, kept, tokens, *, frames=FRAMES):
    """The plan's peaks are within 10 % of the bytes that were counted."""
    parts, settings = models.parts, models.settings
    task = Task(frames, frames / 8, (96, 128), "cuda", quant, MAX_TOKENS)
    watch, asked = Tape(unified=False), Tape(unified=False)
    looked = estimate.watch_of(parts, task, settings)
    watching.play(watch, parts.vision, parts.compressor, dataclasses.replace(looked, fused=False))
    sizes = dataclasses.replace(estimate.answering_of(parts, task, settings), tokens=tokens, kept=kept)
    answering.play(asked, parts.language, parts.projection, sizes)
    for stage, tape, seen in (("watching", watch, watched), ("answering", asked, answered)):
        mine, real = tape.peak[DEVICE], seen.peak["cuda"]
        print(f"{name:<42} {stage:<10} planned {mine / 1e6:9.3f} MB, counted {real / 1e6:9.3f} MB, {mine / real - 1:+.1%}, at {seen.bytes.ops['cuda']}")
        assert abs(mine / real - 1) < 0.10


@pytest.mark.parametrize("name", RUNS)
def test_ask(tmp_path, film, monkeypatch, name):
    vision, changed, language, quant, settings, words = RUNS[name]
    config = dataclasses.replace(SMALL, **changed)
    models, index, watched = look(write(tmp_path, vision, config, language, words=words), film, settings, monkeypatch)
    answered, kept, tokens = answer(models, index, quant)

    for seen, known_moves in ((watched, WATCHING), (answered, ANSWERING)):
        print(f"{name}, {'watching' if seen is watched else 'answering'}\n{seen.told()}")
        assert not seen.mixed
        assert seen.places(seen.widened) <= WIDE
        for (place, way), count in seen.moves.items():
            assert place in known_moves[way] or (settings.offload and place in OFFLOADED), (place, way, count)
    chunks = -(-FRAMES // settings.chunk)
    windows = chunks if not config.bidirectional else 1 if settings.window >= FRAMES else 2
    assert not watched.reads
    assert watched.moves["pipeline/index.py:_with_mean", "to host"] == chunks
    assert watched.moves["pipeline/index.py:append", "to host"] == windows
    assert settings.offload == bool(watched.moves["compressor/stream.py:_run_layer", "to card"])
    assert answered.reads == {("language/generation.py:next_token", "item"): MAX_TOKENS}
    assert index.anchors.frames == len(index.delta) == FRAMES
    check_plan(name, models, quant, watched, answered, kept, tokens)
    parts = answering_parts(models, quant)
    for part in ("lexicon", "answerer"):  # they hold fakes of the other card
        models.__dict__.pop(part, None)
    with card() as seen, torch.inference_mode():  # the other ways to answer
        answer_on_card(models, *parts, quant)
        likeliest(models, prompt(index, models, list(range(4)), QUESTION), ["a", "b"])  # of one token: fakes of a cache cannot be copied deeply
        if words:
            monkeypatch.setattr("mambamia_cli.language.matching.log_odds", no_odds)
            sightings.look_for(index, models, ["dog", "kettle"])
    assert not seen.mixed
    assert seen.places(seen.reads) == {"language/transformers_lm.py:score"}


def no_odds(lexicon, tokens, words):
    """language.matching.log_odds picks columns by truth values, which fakes do not have: here what it is given is looked at."""
    assert tokens.device == lexicon.table.device == torch.device("cpu") and tokens.shape[1:] == (4, 128)
    return torch.zeros(len(words), len(tokens))


@pytest.mark.slow
@pytest.mark.parametrize("settings, frames", [(Settings(), 384), (Settings(chunk=16, offload=True), 96)], ids=["on the card", "offloaded"])
def test_paper_sizes(tmp_path, monkeypatch, settings, frames):
    """SigLIP2 so400m, the paper's compressor and Qwen2-7B in NF4 over a whole window: what `mambamia plan` says is counted."""
    film = videos.write_video(tmp_path / "film.mp4", ((videos.RED, frames // 16), (videos.BLUE, frames // 16)), fps=8, textured=True).path
    folder = write(tmp_path / "model", SO400M, CompressorConfig.paper(), QWEN2_7B, each=24)
    models, index, watched = look(folder, film, settings, monkeypatch)
    answered, kept, tokens = answer(models, index, "nf4")
    assert not watched.mixed and not watched.reads and not answered.mixed
    # Float32 rows are bounded, whatever the chunk.
    assert max(size for (place, _), size in watched.widened.items() if place != "compressor/ssd.py:ssd_scan") <= 65 << 20
    check_plan("so400m, paper's compressor, Qwen2-7B nf4", models, "nf4", watched, answered, kept, tokens, frames=frames)


def test_unimambamia(tmp_path):
    """The published relative's own parts: sight, hearing with the audio compressor, language model, in bf16."""
    model = UniMambaMia(write_relative(tmp_path / "m", Parts()), CONFIG, name="relative", quant="bf16", device="cpu")
    with card() as seen, torch.inference_mode():
        on_card(model.sight), on_card(model.hearing), on_card(model.lm.model)
        model.lm.device = CARD
        pictures = [np.zeros((48, 64, 3), np.uint8)] * 10  # two batches of the tower
        frames = model.sight(pictures)
        sound = model.hearing([np.zeros(480_000, np.float32), np.zeros(100_000, np.float32)])
        assert frames.device.type == sound.device.type == "cuda" and frames.dtype == sound.dtype == torch.bfloat16
        embeds = model.prompt(model.lay_out(frames, sound), "what is it?")
        assert embeds.device.type == "cuda"
        "".join(model.lm.generate(embeds, max_tokens=3))
    assert not seen.mixed
    assert seen.reads == {("language/generation.py:next_token", "item"): 3}
    assert seen.moves["language/unimambamia/senses.py:_tokens", "to card"] == 2  # the pictures, a batch at a time
    assert not [place for place, way in seen.moves if way == "to host" and place != "language/transformers_lm.py:embed"]
    allowed = {"compressor/layers.py:_gated_and_scale", "compressor/ssd.py:ssd_scan", "compressor/ssd_block.py:<genexpr>", "language/transformers_lm.py:embed"}
    assert {place for place in seen.places(seen.widened) if "transformers " not in place} <= allowed


def test_the_compressor_is_a_graph(monkeypatch):
    """What a CUDA graph asks for: after the first window, which has no state to take up, every full window runs the same ops
    on the same shapes, moves nothing between the memories and reads no number. bf16 through, float32 decays and states."""
    model = MambaMiaCompressor(SMALL).to_dtype(torch.bfloat16).eval()
    runs = []
    with card() as seen, torch.inference_mode():
        stream = StreamingCompressor(on_card(model), window=24, overlap=6, chunk_frames=8)
        compress = stream._compress

        def note(patches, step):
            seen.ops.clear()
            result = compress(patches, step)
            runs.append(list(seen.ops))
            return result

        monkeypatch.setattr(stream, "_compress", note)
        outputs = stream.push(torch.empty(24 + 3 * 18 + 1, 16, 96, dtype=torch.bfloat16, device=CARD))
        assert not seen.reads and not seen.moves and not seen.mixed
        assert [(o.anchors.dtype, o.delta.dtype, o.anchors.device.type) for o in outputs] == [(torch.bfloat16, torch.float32, "cuda")] * 4
        assert [tuple(o.anchors.shape) for o in outputs] == [(18, 4, 64)] * 4
        for state in stream._states:
            assert (state.conv_tail.dtype, state.ssm.dtype) == (torch.bfloat16, torch.float32)
    assert len(runs) == 4 and len(runs[1]) > 500
    assert runs[1] == runs[2] == runs[3]
    kept = {name.rpartition(".")[2] for name, p in model.named_parameters() if p.dtype == torch.float32}
    assert kept == {"A_log", "A_b_log", "dt_bias", "dt_bias_b", "D", "D_b"}


@pytest.mark.parametrize("fault", ["mixed", "read", "copy", "float32"])
def test_faults_are_seen(fault):
    """The watcher itself: each kind of fault, once."""
    with card(big=1000) as seen:
        x = torch.empty(64, 64, dtype=torch.bfloat16, device=CARD)
        if fault == "mixed":
            with pytest.raises(RuntimeError, match="same device"):
                x + torch.zeros(64, 64, dtype=torch.bfloat16)
        elif fault == "read":
            x.sum().item()
        elif fault == "copy":
            x.cpu()
        else:
            x.float()
        assert [bool(c) for c in (seen.mixed, seen.reads, seen.moves, seen.widened)] == [fault == f for f in ("mixed", "read", "copy", "float32")]
        assert seen.peak["cuda"] == 64 * 64 * (6 if fault == "float32" else 2) + (2 if fault == "read" else 0)
