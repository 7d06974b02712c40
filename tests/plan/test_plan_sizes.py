"""Sizes from configs and headers against the real classes: a parameter too many or too few is a wrong plan."""

import dataclasses
import json

import pytest
import torch
from fixtures.language_models import save_model

from mambamia_cli.compressor.config import CompressorConfig
from mambamia_cli.compressor.model import MambaMiaCompressor
from mambamia_cli.errors import ModelError, OutOfMemoryError, UsageError
from mambamia_cli.plan import estimate, known, limits, parts, sizes
from mambamia_cli.plan.headers import entries, read_header
from mambamia_cli.vision.efficientnet import EfficientNetLite0

TINY = CompressorConfig(vision_width=48, hidden_size=64, grid_rows=4, patches_per_row=3, num_layers=2, state_size=16, taa_state_size=16)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"bidirectional": False, "output_size": 40},
        {"ssm": "mamba1", "taa_bidirectional": True},
        {"taa_layout": "rows", "vision_width": 64, "expand": 1},
    ],
)
def test_compressor_parameters(changed):
    config = dataclasses.replace(TINY, **changed)
    model = MambaMiaCompressor(config)
    half = model.to_dtype(torch.bfloat16)
    kept = sum(p.numel() for p in half.parameters() if p.dtype == torch.float32)
    assert sizes.compressor_parameters(config) == (sum(p.numel() for p in model.parameters()), kept)


def test_paper_compressor_is_the_papers():
    total, _ = sizes.compressor_parameters(CompressorConfig.paper())
    assert 240e6 < total < 250e6  # "about 247 M"


def test_embedded_vision_parameters():
    with torch.device("meta"):
        model = EfficientNetLite0()
    assert parts.LITE0.parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt_neox"])
def test_language_parameters_from_config_and_from_headers(tmp_path, kind):
    model = save_model(kind, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    counted, multiplied = sizes.language_sizes("x", config, entries(tmp_path)), sizes.language_sizes("x", config, [])
    assert counted.parameters == multiplied.parameters == model.num_parameters()
    linear = sum(m.weight.numel() for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and ".layers." in n)
    assert counted.linear == multiplied.linear == linear
    assert counted.largest == multiplied.largest == max(m.weight.numel() for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and ".layers." in n)


def _tower_class(transformers, kind, config):
    return {
        "siglip_vision_model": lambda: transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**config)),
        "clip_vision_model": lambda: transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**config)),
    }[kind]()


@pytest.mark.parametrize("name", ["google/siglip2-so400m-patch16-384", "openai/clip-vit-large-patch14"])
def test_public_towers_have_the_sizes_of_their_classes(name):
    transformers = pytest.importorskip("transformers")
    config = dict(known.VISION[name])
    kind = config.pop("model_type")
    with torch.device("meta"):
        model = _tower_class(transformers, kind, config)
    last = config["num_hidden_layers"] - 1
    held = sum(p.numel() for n, p in model.named_parameters() if f".layers.{last}." not in n)
    assert parts.vision_part(name).parameters == held


@pytest.mark.parametrize("name", ["Qwen/Qwen2-7B-Instruct", "Qwen/Qwen3-8B", "HuggingFaceTB/SmolLM2-135M-Instruct", "EleutherAI/pythia-2.8b"])
def test_public_language_models_have_the_sizes_of_their_classes(name):
    transformers = pytest.importorskip("transformers")
    config = dict(known.LANGUAGE[name])
    kind = transformers.models.auto.configuration_auto.CONFIG_MAPPING[config.pop("model_type")]
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(kind(**config))
    assert parts.language_part(name)[0].parameters == model.num_parameters()


def test_damaged_headers_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    for data in (b"", b"abc", (1 << 60).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"[]"):
        path.write_bytes(data)
        with pytest.raises(ModelError, match="damaged"):
            read_header(path)


def test_sizes_of_memory():
    assert limits.parse_size("8GiB", "-x") == limits.parse_size("8", "-x") == limits.parse_size("8192 MiB", "-x") == 8 << 30
    assert limits.parse_size("7.5GB", "-x") == 7_500_000_000
    for bad in ("", "0", "-1", "8TB4", "much", "8 GiB GiB"):
        with pytest.raises(UsageError, match="size of memory"):
            limits.parse_size(bad, "--vram-limit")


PAPER = ("google/siglip2-so400m-patch16-384", "Qwen/Qwen2-7B-Instruct")


def paper_task(**changed):
    return estimate.Task(**({"frames": 384, "seconds": 384.0, "picture": (720, 1280), "device": "cuda"} | changed))


def test_a_smaller_limit_never_asks_for_more():
    """Whatever the limit, what is settled on stays within it, and numbers are changed only when nothing else helps."""
    found = parts.of_names(*PAPER)
    before = None
    for gib in (24, 16, 12, 10, 8, 7.2, 6.8):
        vram = int(gib * estimate.GIB) - estimate.CUDA_ALLOWANCE
        settings = limits.settle(found, paper_task(), limits.Limits(vram=vram))
        needs = estimate.needs(found, paper_task(), settings)
        assert max(need.device for need in needs.values()) <= vram
        if before is not None:
            assert settings.chunk <= before.chunk or settings.offload
            assert settings.together <= before.together
        if settings.window < 384:
            assert settings.offload  # it costs time, but no accuracy
        before = settings
    assert before.offload or before.chunk < 32


def test_refusals_name_the_flag_that_helps():
    found = parts.of_names(*PAPER)
    with pytest.raises(OutOfMemoryError, match="lower --token-budget to") as refused:
        limits.settle(found, paper_task(token_budget=9216), limits.Limits(vram=int(5.75 * estimate.GIB), vram_words="the GPU has"))
    budget = int(str(refused.value).rsplit(" ", 1)[1])
    limits.settle(found, paper_task(token_budget=budget), limits.Limits(vram=int(5.75 * estimate.GIB)))
    with pytest.raises(OutOfMemoryError, match="use --quant nf4"):
        limits.settle(found, paper_task(quant="bf16"), limits.Limits(vram=8 * estimate.GIB))
    with pytest.raises(OutOfMemoryError, match="smaller language model"):
        limits.settle(found, paper_task(), limits.Limits(vram=4 * estimate.GIB))
    with pytest.raises(OutOfMemoryError, match="smaller vision encoder"):
        limits.settle(found, paper_task(), limits.Limits(vram=1 * estimate.GIB))
    assert refused.value.exit_code == 6


def test_the_reader_of_second_looks_is_planned(tiny_model, tmp_path):
    """Its parameters, four bytes each, lie in memory while a question is answered."""
    import shutil

    from mambamia_cli.language.lexicon import Lexicon
    from mambamia_cli.language.spotter import Spotter, SpotterConfig
    from mambamia_cli.models.folder import read_folder
    from mambamia_cli.plan import record
    from mambamia_cli.plan.limits import Limits

    folder = tmp_path / "tiny"
    shutil.copytree(tiny_model, folder)
    without = parts.of_folder(read_folder(str(folder)))
    Lexicon(["cat", "scene"], torch.randn(2, 64)).save_pretrained(folder / "lexicon")
    spotter = Spotter(SpotterConfig(hidden_width=64, output_width=64))
    spotter.half().save_pretrained(folder / "spotter")
    found = parts.of_folder(read_folder(str(folder)))
    assert without.spotter == 0 and found.spotter == sum(p.numel() for p in spotter.parameters())
    task = estimate.Task(100, 25.0, (360, 640))
    plan = record.make("x.mp4", found, task, Limits(None, None, "", ""), video={})
    assert plan.parts_bytes["spotter"] == 4 * found.spotter
    before, after = (estimate.answer_need(sizes_, task, estimate.Settings()) for sizes_ in (without, found))
    assert after.host + after.device - before.host - before.device == 4 * found.spotter


def test_windows_overlap_as_the_run_has_them_overlap():
    """The embedded weights need fewer frames of overlap than unknown ones do; plan and run must mean the same."""
    from mambamia_cli.pipeline import Models

    models = Models("mambamia-tiny", device="cpu")
    task, settings = estimate.Task(4000, 1000.0, (96, 128)), estimate.Settings()
    assert estimate.watch_of(models.parts, task, settings).overlap == models.overlap == models.folder.overlap
    unknown = dataclasses.replace(models.parts, overlap=None)
    assert estimate.watch_of(unknown, task, settings).overlap == estimate.OVERLAP > models.overlap
    assert estimate.watch_of(models.parts, task, estimate.Settings(window=32)).overlap == 8
