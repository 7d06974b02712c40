"""The plan against what is really allocated: six models of different make go through the whole pipeline while every tensor
is counted. Run with -s to see the table."""

import json

import pytest
import torch
from fixtures import videos
from fixtures.language_models import save_model

from mambamia_cli.bench.memory import TensorBytes
from mambamia_cli.compressor.config import CompressorConfig
from mambamia_cli.compressor.model import MambaMiaCompressor
from mambamia_cli.language.projector import Projector, ProjectorConfig
from mambamia_cli.pipeline import Models, open_video
from mambamia_cli.pipeline.answer import generate, kept_frames, prompt
from mambamia_cli.plan import answering, estimate, watching
from mambamia_cli.plan.estimate import Settings, Task
from mambamia_cli.plan.frames import prompt_of
from mambamia_cli.plan.tape import HOST, Tape

SIDE, PATCH, MAX_TOKENS = 64, 16, 4
QUESTION = "what is it?"
TOWER = {"hidden_size": 96, "intermediate_size": 200, "num_hidden_layers": 3, "num_attention_heads": 4}
COMPRESSOR = {"hidden_size": 64, "grid_rows": 4, "patches_per_row": 4, "num_layers": 2, "state_size": 32, "taa_state_size": 32}
WIDE = {"hidden_size": 128, "intermediate_size": 512, "max_position_embeddings": 2048}

# name: tower, its sizes, the compressor's, the language model's family and sizes, quant, and settings of the run
CONFIGURATIONS = {
    "siglip, both ways, qwen2 fp32": ("siglip", {}, {}, "qwen2", WIDE, "fp32", Settings(together=False)),
    "siglip2, forward only, gpt_neox fp32": ("siglip2", {}, {"bidirectional": False, "chunk_size": 16}, "gpt_neox", WIDE, "fp32", Settings()),
    "clip, rows and windows, qwen2 bf16": (
        "clip", {}, {"taa_layout": "rows", "output_size": 128, "taa_bidirectional": True}, "qwen2", WIDE, "bf16", Settings(chunk=4, window=16)),
    "wide siglip, own decoder int8": ("siglip", {"intermediate_size": 3000}, {}, "llama", WIDE, "int8", Settings(chunk=8)),
    "embedded in torch, qwen2 nf4": ("efficientnet-lite0", {}, {"grid_rows": 7, "patches_per_row": 7}, "qwen2", WIDE | {"hidden_size": 512, "num_hidden_layers": 4}, "nf4", Settings(chunk=16)),
    "siglip, mamba1, prompt in pieces": ("siglip", {}, {"ssm": "mamba1", "state_size": 16}, "qwen2", WIDE, "fp32", Settings(prefill=128)),
}  # fmt: skip


def write_tower(kind, folder, sizes):
    import transformers as t

    both, square = TOWER | sizes, {"image_size": SIDE, "patch_size": PATCH}
    model = {
        "siglip": lambda: t.SiglipVisionModel(t.SiglipVisionConfig(**both, **square)),
        "clip": lambda: t.CLIPVisionModel(t.CLIPVisionConfig(**both, **square)),
        "siglip2": lambda: t.Siglip2VisionModel(t.Siglip2VisionConfig(**both, num_patches=(SIDE // PATCH) ** 2, patch_size=PATCH)),
    }[kind]()
    model.eval().save_pretrained(folder)
    settings = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": SIDE, "width": SIDE}}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return str(folder), both["hidden_size"]


def write_model(folder, tower, tower_sizes, compressor, family, language_sizes):
    torch.manual_seed(0)
    vision, width = (tower, 432) if tower == "efficientnet-lite0" else write_tower(tower, folder / "vision", tower_sizes)
    save_model(family, folder / "language", **language_sizes)
    config = CompressorConfig(**(COMPRESSOR | {"vision_width": width} | compressor))
    MambaMiaCompressor(config).save_pretrained(folder / "compressor")
    projector = ProjectorConfig(input_width=config.anchor_width, anchors=config.grid_rows, hidden_width=64,
                                output_width=language_sizes["hidden_size"], tokens_per_frame=4)  # fmt: skip
    Projector(projector).save_pretrained(folder / "projector")
    facts = {"format": "mambamia/1", "name": "measured", "vision": vision, "language_model": str(folder / "language")}
    (folder / "config.json").write_text(json.dumps(facts))
    return str(folder)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Eight seconds at eight frames a second: 64 frames, no two alike (one would not be encoded), two windows of some of the models."""
    return videos.write_video(tmp_path_factory.mktemp("film") / "film.mp4", ((videos.RED, 4), (videos.BLUE, 4)), fps=8, textured=True).path


def held_by(language):
    """The tensors of our own decoder, which is no nn.Module."""
    decoder = language.llama
    matrices = [m for layer in decoder.layers for m in (layer.qkv, layer.o, layer.gate_up, layer.down)] + [decoder.head]
    packed = [t for m in matrices for t in vars(m).values() if isinstance(t, torch.Tensor)]
    return [*packed, decoder.embedding, decoder.norm]


def measure(models, film):
    """-> peak bytes of tensors of both stages, each with only its own weights."""
    video = open_video(film, models=models, fps=8)
    towers = [models.encoder.model] if hasattr(models.encoder, "model") else [models.encoder.backend.model]
    with TensorBytes().hold(*towers, models.compressor) as counted, torch.inference_mode():
        index = video.index()
    watched = counted.peak["cpu"]
    models.enter("answer")
    language, projector = models.language, models.projector
    held = [held_by(language)] if hasattr(language, "llama") else [language.model]
    with TensorBytes().hold(*held, projector) as counted, torch.inference_mode():
        kept = kept_frames(index, models, None, QUESTION, MAX_TOKENS)
        embeds = prompt(index, models, kept, QUESTION)
        generate(models, embeds, MAX_TOKENS)
    return watched, counted.peak["cpu"], len(kept), len(embeds)


def plan(models, settings, quant, kept, tokens):
    parts = models.parts
    task = Task(64, 8.0, (96, 128), "cpu", quant, MAX_TOKENS)
    watch, answer = Tape(unified=True), Tape(unified=True)
    looked = estimate.watch_of(parts, task, settings)
    watching.play(watch, parts.vision, parts.compressor, watching.Watch(**(vars(looked) | {"onnx": False})))
    asked = estimate.answering_of(parts, task, settings)
    expected = prompt_of(64, 8.0, parts.each, parts.language.context, parts.language.context, MAX_TOKENS, len(QUESTION))
    # The prompt's text is a bound: how long it is is the tokenizer's business. Frames and their tokens are exact.
    assert kept == expected.kept
    answering.play(answer, parts.language, parts.projection, answering.Answering(**(vars(asked) | {"tokens": tokens, "kept": kept})))
    return watch.peak[HOST], answer.peak[HOST]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_planned_and_measured_bytes(tmp_path, film, monkeypatch, name):
    tower, tower_sizes, compressor, family, language_sizes, quant, settings = CONFIGURATIONS[name]
    if quant == "nf4":
        pytest.importorskip("bitsandbytes")
    # ONNX Runtime's tensors are not torch's: the embedded encoder runs as it does on a GPU.
    monkeypatch.setattr("mambamia_cli.vision.backends.OnnxBackend", lambda *a, **k: (_ for _ in ()).throw(ImportError("not here")))
    models = Models(write_model(tmp_path, tower, tower_sizes, compressor, family, language_sizes), device="cpu", quant=quant, threads=1)
    models.settings = settings
    watched, answered, kept, tokens = measure(models, film)
    planned = plan(models, settings, quant, kept, tokens)
    for stage, mine, real in zip(("watching", "answering"), planned, (watched, answered), strict=True):
        print(f"{name:<38} {stage:<10} planned {mine / 1e6:8.3f} MB, measured {real / 1e6:8.3f} MB, {mine / real - 1:+.1%}")
        assert abs(mine / real - 1) < 0.10
