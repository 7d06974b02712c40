"""Image-text-to-text models of seven families, tiny and random but in their real files: equal to transformers' own processor,
`generate` and forward passes."""

import json
import shutil

import numpy as np
import pytest
import torch
from fixtures import vlms

from mambamia_cli.bench.memory import TensorBytes
from mambamia_cli.errors import ModelError, OutOfMemoryError, UsageError
from mambamia_cli.language import generation
from mambamia_cli.language.transformers_lm import bitsandbytes_config
from mambamia_cli.language.vlm import model as vlm_model
from mambamia_cli.language.vlm.model import VisionLanguageModel
from mambamia_cli.models.vlm import frame_tokens, picture_config, picture_size, processor_config

QUESTION, COUNT, SIZE = "What is seen?", 20, (96, 128)
SECONDS, CLOCKS = (0, 1.2, 61, 3599, 3700), ("0:00", "0:01", "1:01", "59:59", "1:01:40")
BESIDE = {"qwen2_vl": ["model.visual"], "qwen2_5_vl": ["model.visual"], "qwen3_vl": ["model.visual"], "smolvlm": ["model.vision_model", "model.connector"],
          "idefics3": ["model.vision_model", "model.connector"], "llava_onevision": ["model.vision_tower", "model.multi_modal_projector"],
          "gemma3": ["model.vision_tower", "model.multi_modal_projector"]}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made, root = {}, tmp_path_factory.mktemp("vlms")

    def folder(kind):
        if kind not in made:
            made[kind] = vlms.write_vlm(root / kind, kind)
        return made[kind]

    return folder


@pytest.fixture(scope="module")
def frames():
    """One of each colour, and noise on it."""
    colours = np.array([(220, 30, 30), (30, 200, 40), (40, 40, 220), (230, 220, 40), (10, 10, 10)])
    noise = np.random.default_rng(0).integers(-30, 30, (len(SECONDS), *SIZE, 3))
    return np.clip(colours[:, None, None] + noise, 0, 255).astype(np.uint8)


def load(folder, quant="fp32", **options):
    return VisionLanguageModel(folder, json.loads((folder / "config.json").read_text()), name=folder.name, quant=quant, **options)


def shown(model, frames, question=QUESTION, **options):
    return model.prompt(SECONDS[: len(frames)], question, frames.shape[1:3], lambda first, last: list(frames[first:last]), **options)


@pytest.fixture
def written(monkeypatch):
    """written(model, prompt) -> the ids of its answer and why it ended."""

    def write(model, prompt, count=COUNT):
        ids, choose = [], generation.next_token
        with monkeypatch.context() as patch:
            patch.setattr(generation, "next_token", lambda *given: ids.append(choose(*given)) or ids[-1])
            stream = model.generate(prompt, max_tokens=count)
            assert "".join(stream) == model.tokenizer.decode([i for i in ids if i not in model.tokenizer.stop_ids])
        return ids, stream.finish

    return write


def test_they_are_saved_as_published(folders):
    for kind in vlms.FAMILIES:
        names = {path.name for path in folders(kind).iterdir()}
        assert {"config.json", "model.safetensors.index.json", "tokenizer.json", "chat_template.jinja", "preprocessor_config.json"} <= names
        assert len([name for name in names if name.endswith(".safetensors")]) > 2


@pytest.mark.parametrize("kind", vlms.FAMILIES)
def test_the_answer_is_transformers_own_token_by_token(folders, frames, written, kind):
    folder = folders(kind)
    inputs = vlms.inputs_of(folder, kind, frames, CLOCKS, QUESTION)
    wanted = vlms.answer(vlms.model_of(folder), inputs, COUNT)
    model = load(folder)
    prompt = shown(model, frames)
    assert prompt.ids == inputs["input_ids"][0].tolist() and prompt.ids.count(model.processor.image_id) == 5 * model.processor.tokens(SIZE)
    for rows in (4096, 64, 90):  # all at once, a frame at a time, and between
        model.prefill, model._read_before = rows, None
        ids, finish = written(model, prompt)
        assert ids == wanted[: len(ids)] and (len(ids) == COUNT or finish in ("stop", "repeat"))
    assert len(set(wanted)) > 3
    other = vlms.answer(vlms.model_of(folder), vlms.inputs_of(folder, kind, frames[::-1], CLOCKS, QUESTION), COUNT)
    assert other != wanted, "what is shown must matter"


@pytest.mark.parametrize("kind", vlms.FAMILIES)
def test_in_four_bits_too(folders, frames, written, kind):
    """The reference packs the same modules, told by name here."""
    pytest.importorskip("bitsandbytes")
    folder = folders(kind)
    packing = bitsandbytes_config("nf4", "cpu")
    packing.llm_int8_skip_modules = ["lm_head", *BESIDE[kind]]
    inputs = vlms.inputs_of(folder, kind, frames, CLOCKS, QUESTION)
    reference = vlms.model_of(folder, quantization_config=packing)
    wanted = vlms.answer(reference, inputs, COUNT)
    model = load(folder, "nf4")
    linear = [{n for n, m in one.named_modules() if type(m).__name__ == "Linear4bit"} for one in (model.model, reference)]
    assert linear[0] == linear[1] and len(linear[0]) == 7 * vlms.LAYERS and model.quant == "nf4"
    ids, finish = written(model, shown(model, frames))
    assert ids == wanted[: len(ids)] and (len(ids) == COUNT or finish in ("stop", "repeat"))


@pytest.mark.parametrize("kind", vlms.FAMILIES)
def test_choices_are_scored_as_by_a_plain_forward_pass(folders, frames, kind):
    folder = folders(kind)
    model, reference = load(folder), vlms.model_of(folder)
    model.prefill = 64
    inputs = vlms.inputs_of(folder, kind, frames, CLOCKS, QUESTION)
    choices = ["cat", "a small dog", "x"]
    wanted = [vlms.likelihood(reference, inputs, model.tokenizer.encode(text)) for text in choices]
    assert model.score(shown(model, frames), choices) == pytest.approx(wanted, abs=2e-3)
    with pytest.raises(UsageError, match="empty"):
        model.score(shown(model, frames), [""])


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "smolvlm", "gemma3"])
def test_the_next_question_reads_only_what_is_new(folders, frames, written, monkeypatch, kind):
    """Gemma's sliding windows have forgotten, so it reads again; none may answer otherwise than a model that starts anew."""
    model, looked = load(folders(kind)), []
    pixels = model.processor.pixels
    monkeypatch.setattr(model.processor, "pixels", lambda frames: looked.append(len(frames)) or pixels(frames))
    written(model, shown(model, frames, key="a"))
    assert sum(looked) == 5
    for question, key, again in (("Who is there, and where?", "a", 5 if kind == "gemma3" else 0), ("Who?", "other frames", 5), ("Who?", None, 5)):
        looked.clear()
        prompt = shown(model, frames, question, key=key)
        got = written(model, prompt)
        assert sum(looked) == again
        assert got == written(load(folders(kind)), prompt)


@pytest.mark.parametrize("kind", ["qwen3_vl", "gemma3"])
def test_out_of_memory_in_the_middle_goes_on_with_less(folders, frames, written, monkeypatch, kind):
    model = load(folders(kind))
    prompt = shown(model, frames)
    wanted = written(model, prompt)
    layer = next(m for n, m in model.model.named_modules() if n.endswith("layers.1") and "visual" not in n and "vision" not in n)
    forward, read = layer.forward, []

    def not_the_second(hidden, *args, **kwargs):  # the layer before has taken the piece up already: that must be undone
        read.append(hidden.shape[1])
        if len(read) == 2 or model.prefill == 4096:
            raise torch.OutOfMemoryError("CUDA out of memory (pretended)")
        return forward(hidden, *args, **kwargs)

    monkeypatch.setattr(layer, "forward", not_the_second)
    model._read_before, model.prefill = None, 80
    assert written(model, prompt) == wanted and model.prefill == 64 and read[1] > 10
    monkeypatch.setattr(vlm_model, "LEAST_PREFILL", 4096)
    model._read_before, model.prefill = None, 4096
    with pytest.raises(OutOfMemoryError, match="memory ran out"):
        model.generate(prompt)


@pytest.mark.parametrize("kind", [kind for kind in vlms.FAMILIES if kind.startswith("qwen")])
def test_positions_are_counted_in_host_memory(folders, frames, kind):
    """"meta" stands for a device here: nothing could be read of a tensor there."""
    model = load(folders(kind))
    prompt = shown(model, frames)
    wanted = model._place(prompt)
    model.device = "meta"
    positions, beyond = model._place(prompt)
    assert positions.device.type == "meta" and positions.shape == wanted[0].shape == (3, 1, len(prompt.ids)) and beyond == wanted[1]


def test_pieces_take_less_memory(folders, frames):
    model, peaks = load(folders("qwen2_5_vl")), []
    prompt = shown(model, np.concatenate([frames] * 2)[:5])
    for rows in (4096, 64):
        model.prefill, model._read_before = rows, None
        with TensorBytes().hold(model.model) as counted:
            before = counted.live["cpu"]
            model._read(prompt)
        peaks.append(counted.peak["cpu"] - before)
    assert peaks[1] < 0.5 * peaks[0]


def test_no_more_than_a_few_pictures_at_once(folders, monkeypatch):
    """However much of a prompt may be read at once."""
    model, looked = load(folders("smolvlm")), []
    pixels = model.processor.pixels
    monkeypatch.setattr(model.processor, "pixels", lambda frames: looked.append(len(frames)) or pixels(frames))
    many = np.zeros((19, *SIZE, 3), np.uint8)
    model._read(model.prompt(range(19), QUESTION, SIZE, lambda first, last: list(many[first:last])))
    assert looked == [8, 8, 3]


@pytest.mark.parametrize("kind", vlms.FAMILIES)
def test_one_frame_and_other_shapes(folders, written, kind):
    """One picture alone, wide or high; LLaVA-OneVision would cut a single one into tiles."""
    model, rng = load(folders(kind)), np.random.default_rng(1)
    for size in ((64, 200), (200, 64), (30, 30)):
        one = rng.integers(0, 255, (1, *size, 3), dtype=np.uint8)
        prompt = shown(model, one)
        assert prompt.ids.count(model.processor.image_id) == model.processor.tokens(size)
        ids, _ = written(model, prompt, 4)
        two = written(model, shown(model, np.concatenate([one, one])), 4)[0]
        assert ids and two
        if kind != "llava_onevision":
            inputs = vlms.inputs_of(folders(kind), kind, one, CLOCKS[:1], QUESTION)
            assert ids == vlms.answer(vlms.model_of(folders(kind)), inputs, 4)[: len(ids)]


@pytest.mark.parametrize("kind", vlms.FAMILIES)
def test_tokens_are_counted_without_the_processor(folders, kind):
    folder = folders(kind)
    config, pictures = json.loads((folder / "config.json").read_text()), picture_config(folder, "it")
    processor = load(folder).processor
    for size in ((96, 128), (252, 448), (448, 252), (720, 1280), (28, 448), (31, 33)):
        assert frame_tokens(config, pictures, processor_config(folder), size) == processor.tokens(size), size
    assert picture_size(kind, 720, 1280, None) == ((252, 448) if kind.startswith("qwen") else None)
    assert picture_size(kind, 720, 1280, 640) == (360, 640) and picture_size(kind, 100, 100, 640) is None


def test_a_family_that_is_not_known_is_read_at_once_as_transformers_does(folders, frames, written, monkeypatch):
    monkeypatch.setattr(vlm_model, "FAMILIES", ())
    for kind in ("qwen2_5_vl", "gemma3", "smolvlm"):
        folder = folders(kind)
        inputs = vlms.inputs_of(folder, kind, frames, CLOCKS, QUESTION)
        model = load(folder)
        ids, finish = written(model, shown(model, frames))
        assert ids == vlms.answer(vlms.model_of(folder), inputs, COUNT)[: len(ids)] and (len(ids) == COUNT or finish in ("stop", "repeat"))
        scores = [vlms.likelihood(vlms.model_of(folder), inputs, model.tokenizer.encode("a dog"))]
        assert model.score(shown(model, frames), ["a dog"]) == pytest.approx(scores, abs=2e-3)


def test_a_mark_of_a_picture_in_the_question_is_not_one(folders, frames):
    for kind in vlms.FAMILIES:
        model = load(folders(kind))
        prompt = shown(model, frames, f"what is {model.processor.token} here?")
        assert prompt.ids.count(model.processor.image_id) == 5 * model.processor.tokens(SIZE)


def test_the_context_is_a_limit(folders, frames):
    model = load(folders("smolvlm"))
    prompt = shown(model, frames)
    model.context_length = len(prompt.ids) + 2
    stream = model.generate(prompt, max_tokens=20)
    list(stream)
    assert stream.tokens <= 2
    model.context_length = len(prompt.ids)
    with pytest.raises(UsageError, match="lower --token-budget"):
        model.generate(prompt)


def changed(folder, path, file, **changes):
    shutil.copytree(folder, path)
    facts = json.loads((path / file).read_text())
    (path / file).write_text(json.dumps({k: v for k, v in (facts | changes).items() if v is not None}))
    return path


def test_what_cannot_be_loaded_is_one_sentence(folders, tmp_path):
    good = folders("qwen2_5_vl")

    def said(path, words, **options):
        with pytest.raises(ModelError, match=words) as caught:
            load(path, **options)
        assert "\n" not in str(caught.value) and caught.value.hint

    said(changed(good, tmp_path / "a", "config.json", model_type="qwen9_vl"), r"does not know a \(qwen9_vl\).*pip install -U transformers")
    said(changed(good, tmp_path / "b", "config.json", model_type="siglip"), "as an image-text-to-text model")
    shutil.copytree(good, tmp_path / "c")
    (tmp_path / "c" / "preprocessor_config.json").unlink()
    said(tmp_path / "c", "c has no preprocessor_config.json")
    shutil.copytree(good, tmp_path / "d")
    shard = sorted((tmp_path / "d").glob("model-*.safetensors"))[1]
    data = shard.read_bytes()
    shard.unlink()
    said(tmp_path / "d", f"lacks the shard {shard.name}")
    shard.write_bytes(data[: len(data) // 2])
    said(tmp_path / "d", f"{shard.name} is damaged")
    shutil.copytree(good, tmp_path / "e")
    (tmp_path / "e" / "chat_template.jinja").unlink()
    said(tmp_path / "e", "chat template")
    said(changed(good, tmp_path / "f", "preprocessor_config.json", image_processor_type="Sam2ImageProcessor"), "torchvision, which is not installed.*pip install torchvision")
    (tmp_path / "f" / "tokenizer.json").write_text("{")
    (tmp_path / "f" / "preprocessor_config.json").write_bytes((good / "preprocessor_config.json").read_bytes())
    said(tmp_path / "f", "the processor of f cannot be loaded")
    with pytest.raises(UsageError, match="use --quant nf4"):
        load(good, "int4")


def test_tensors_that_are_missing_or_of_another_shape(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    for number, change in enumerate((lambda s: s.pop("model.language_model.norm.weight"), lambda s: s.update({"lm_head.weight": torch.zeros(7, 64)}))):
        path = tmp_path / str(number)
        shutil.copytree(folders("qwen2_5_vl"), path)
        state = {}
        for shard in sorted(path.glob("*.safetensors")):
            state |= load_file(shard)
            shard.unlink()
        (path / "model.safetensors.index.json").unlink()
        state = {name.replace("model.layers", "model.language_model.layers") if name.startswith("model.layers") else name: value for name, value in state.items()}
        norm = next(name for name in state if name.endswith("norm.weight") and "layers" not in name and "visual" not in name and "blocks" not in name)
        state["model.language_model.norm.weight"] = state.pop(norm)
        change(state)
        save_file(state, path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError, match="lack model.language_model.norm.weight" if number == 0 else "do not fit its config.json"):
            load(path)


def test_pickles_are_refused_unless_trusted_and_then_run_nothing(folders, frames, written, tmp_path):
    from safetensors.torch import load_file

    good = folders("smolvlm")
    shutil.copytree(good, tmp_path / "m", ignore=shutil.ignore_patterns("*.safetensors", "*.index.json"))
    state = {name: value for shard in good.glob("*.safetensors") for name, value in load_file(shard).items()}
    torch.save(state, tmp_path / "m" / "pytorch_model.bin")
    with pytest.raises(ModelError, match="are pickles.*--allow-pickle"):
        load(tmp_path / "m")
    model = load(tmp_path / "m", allow_pickle=True)
    assert written(model, shown(model, frames)) == written(load(good), shown(load(good), frames))

    class Bad:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({**state, "x": Bad()}, tmp_path / "m" / "pytorch_model.bin")
    with pytest.raises(ModelError, match="other than weights"):
        load(tmp_path / "m", allow_pickle=True)
    assert not (tmp_path / "ran").exists()
