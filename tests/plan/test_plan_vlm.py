"""The plan of image-text-to-text models against what is really allocated. Run with -s to see the table."""

import json

import pytest
import torch
from fixtures import videos, vlms

from mambamia_cli.bench.memory import TensorBytes
from mambamia_cli.errors import ModelError
from mambamia_cli.pipeline import Models, open_video
from mambamia_cli.pipeline.answer import generate, kept_frames, prompt
from mambamia_cli.plan import estimate, seeing
from mambamia_cli.plan.estimate import Settings, Task
from mambamia_cli.plan.parts import of_vlm
from mambamia_cli.plan.tape import HOST, Tape

QUESTION, MAX_TOKENS, PICTURE = "what is it?", 4, (240, 320)
WIDE = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 32}

# family, quant, prompt rows at once
CONFIGURATIONS = [("qwen2_5_vl", "fp32", 512), ("qwen2_5_vl", "bf16", 4096), ("qwen3_vl", "nf4", 1024), ("smolvlm", "fp32", 4096),
                  ("llava_onevision", "fp32", 128), ("gemma3", "fp32", 256)]  # fmt: skip


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Eight seconds at four frames a second."""
    return videos.write_video(tmp_path_factory.mktemp("film") / "film.mp4", ((videos.RED, 4), (videos.BLUE, 4)), fps=4, size=PICTURE).path


@pytest.mark.parametrize("kind, quant, rows", CONFIGURATIONS)
def test_planned_and_measured_bytes(tmp_path, film, kind, quant, rows):
    folder = vlms.write_vlm(tmp_path / kind, kind, shard="1GB", **WIDE)
    models = Models(str(folder), device="cpu", quant=quant, threads=1)
    models.settings = Settings(prefill=rows)
    video = open_video(film, models=models, fps=4)
    index = video.index()
    models.enter("answer")
    language = models.language
    with TensorBytes().hold(language.model) as counted, torch.inference_mode():
        kept = kept_frames(index, models, None, QUESTION, MAX_TOKENS)
        asked = prompt(index, models, kept, QUESTION)
        generate(models, asked, MAX_TOKENS)
    real = counted.peak["cpu"]
    parts = models.parts_for(PICTURE)
    task = Task(32, 8.0, PICTURE, "cpu", quant, MAX_TOKENS)
    expected = estimate.prompt(parts, task, models.settings)
    assert (expected.kept, expected.visual) == (len(kept), asked.ids.count(language.processor.image_id)) and expected.tokens >= len(asked.ids)
    assert estimate.quant_of(parts, task) == (language.quant, False)
    planned = Tape(unified=True)
    answer = estimate.answering_of(parts, task, models.settings)
    seeing.play(planned, parts.language, parts.sight, type(answer)(**(vars(answer) | {"tokens": len(asked.ids)})))
    mine = planned.peak[HOST]
    print(f"{kind + ' ' + quant:<24} planned {mine / 1e6:8.3f} MB, measured {real / 1e6:8.3f} MB, {mine / real - 1:+.1%}")
    assert abs(mine / real - 1) < 0.10


@pytest.mark.parametrize("kind", vlms.FAMILIES)
def test_weights_and_windows_are_those_of_the_files(tmp_path, kind):
    folder = vlms.write_vlm(tmp_path / kind, kind)
    config = json.loads((folder / "config.json").read_text())
    parts = of_vlm("it", folder, config, (96, 128))
    model = vlms.model_of(folder)
    language = next(m for n, m in model.named_modules() if n.rpartition(".")[2] in ("language_model", "text_model"))
    speaks = sum(p.numel() for p in language.parameters()) + model.lm_head.weight.numel()
    assert parts.language.parameters == speaks and parts.sight.parameters == sum(p.numel() for p in model.parameters()) - speaks
    assert parts.language.linear == sum(m.weight.numel() for m in language.modules() if isinstance(m, torch.nn.Linear))
    assert (parts.sight.sliding, parts.sight.window) == ((1, 40) if kind == "gemma3" else (0, 0))


@pytest.mark.parametrize("kind", ["gemma3", "smolvlm"])
def test_sizes_that_a_config_leaves_out_are_read_from_the_headers(tmp_path, kind):
    """As published configurations do: what is transformers' default for the family is not written."""
    folder = vlms.write_vlm(tmp_path / kind, kind)
    config = json.loads((folder / "config.json").read_text())
    whole, lean = of_vlm("it", folder, config, (96, 128)), json.loads(json.dumps(config))
    for key in ("num_attention_heads", "num_key_value_heads", "vocab_size", *(["head_dim"] if kind == "gemma3" else [])):
        del lean["text_config"][key]
        lean.pop(key, None)
    for key in ("num_hidden_layers", "intermediate_size"):
        del lean["vision_config"][key]
    assert of_vlm("it", folder, lean, (96, 128)) == whole
    if kind == "smolvlm":  # without q_norm nothing tells how wide a head is
        del lean["text_config"]["head_dim"]
        lean.pop("head_dim", None)
        with pytest.raises(ModelError, match="config.json gives its sizes"):
            of_vlm("it", folder, lean, (96, 128))


def test_what_cannot_be_planned(tmp_path):
    folder = vlms.write_vlm(tmp_path / "m", "smolvlm")
    config = json.loads((folder / "config.json").read_text())
    with pytest.raises(ModelError, match="of a family whose pictures are not planned"):
        of_vlm("it", folder, config | {"model_type": "aria"}, (96, 128))
    with pytest.raises(ModelError, match="does not give the size of its pictures"):
        of_vlm("it", folder, {k: v for k, v in config.items() if k != "vision_config"}, (96, 128))
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match="it has no preprocessor_config.json"):
        of_vlm("it", folder, config, (96, 128))
    next(folder.glob("model-*.safetensors")).unlink()
    with pytest.raises(ModelError, match="lacks model-0"):
        of_vlm("it", folder, config, (96, 128))
