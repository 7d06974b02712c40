"""The published relative, on a tiny random checkpoint in its real format: equal to a plain composition of transformers."""

import json
import shutil
import weakref

import numpy as np
import pytest
import torch
from fixtures import relatives
from fixtures.sounds import chirp
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoTokenizer, Qwen2ForCausalLM

from mambamia_cli.errors import ModelError, OutOfMemoryError
from mambamia_cli.language.transformers_lm import bitsandbytes_config
from mambamia_cli.language.unimambamia.model import UniMambaMia
from mambamia_cli.models.checkpoint import Checkpoint

QUESTION, COUNT = "What is heard?", 24


@pytest.fixture(scope="module")
def parts():
    return relatives.Parts()


@pytest.fixture(scope="module")
def checkpoint(parts, tmp_path_factory):
    return relatives.write_relative(tmp_path_factory.mktemp("relative") / "model", parts)


@pytest.fixture(scope="module")
def model(checkpoint):
    return load(checkpoint, quant="fp32")


def load(folder, **options):
    config = json.loads((folder / "config.json").read_text())
    return UniMambaMia(folder, config, name="tiny", **options)


def frames(count=3, size=(40, 52)):
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def windows(seconds=31.3):
    samples = chirp(seconds, 16000)
    return [samples[at : at + 480_000] for at in range(0, len(samples), 480_000)]


def test_the_checkpoint_is_sharded_and_has_the_published_names(checkpoint):
    index = json.loads((checkpoint / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(index.values())) > 5
    for name in ("model.vision_tower.vision_tower.vision_model.encoder.layers.2.mlp.fc1.weight", "model.mm_projector.2.bias", "model.image_newframe",
                 "model.audio_tower.model.conv1.weight", "model.mm_audio_projector.model.layers.1.mixer.A_log", "lm_head.weight",
                 "model.mm_audio_projector.model.embeddings.weight", "model.embed_tokens.weight"):  # fmt: skip
        assert name in index


def test_frames_equal_the_reference(model, parts):
    pictures = frames(10)
    got = model.sight(pictures)
    assert got.shape == (10, model.config.frame_tokens - 1, relatives.WIDTH)
    torch.testing.assert_close(got, relatives.seen(parts, pictures), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seconds", [0.05, 2.0, 31.3])
def test_sound_equals_the_reference(model, parts, seconds):
    got, wanted = model.hearing(windows(seconds)), relatives.heard(parts, windows(seconds))
    assert got.shape == wanted.shape
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("sound", [0, 1, 3, 7, 31])
@pytest.mark.parametrize("count", [1, 3])
def test_sound_is_spread_over_the_frames_as_published(model, parts, sound, count):
    pictures, heard = torch.randn(count, 16, relatives.WIDTH), torch.randn(sound, relatives.WIDTH)
    wanted = relatives.woven(parts, pictures, heard if sound else None)
    torch.testing.assert_close(model.lay_out(pictures, heard), wanted)
    assert torch.equal(model.lay_out(pictures, None), relatives.woven(parts, pictures, None))


def test_the_older_layout_puts_all_sound_behind_the_frames(checkpoint, tmp_path, parts):
    folder = shutil.copytree(checkpoint, tmp_path / "model")
    edit(folder, mm_patch_merge_type="flat_video_frame_with_end_token_and_avepool2")
    pictures, heard = torch.randn(3, 16, relatives.WIDTH), torch.randn(7, relatives.WIDTH)
    got = load(folder, quant="fp32").lay_out(pictures, heard)
    torch.testing.assert_close(got, torch.cat([relatives.woven(parts, pictures, None), heard]))


@pytest.mark.parametrize("quant", ["fp32", "nf4", "fp4", "int8", "bf16"])
@pytest.mark.parametrize("hear", [True, False])
def test_the_answer_is_the_references_token_by_token(checkpoint, parts, tmp_path, quant, hear):
    """Whole: pictures and samples in, ids out; the language model of the reference is loaded by transformers itself."""
    parts.language.save_pretrained(tmp_path / "language")
    options = {"quantization_config": bitsandbytes_config(quant, "cpu")} if quant not in ("fp32", "bf16") else {}
    dtype = torch.bfloat16 if quant == "bf16" else torch.float32
    language = Qwen2ForCausalLM.from_pretrained(tmp_path / "language", dtype=dtype, **options).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = load(checkpoint, quant=quant, hear=hear)
    assert (model.hearing is not None) == hear and model.lm.quant == quant
    pictures, sound = model.sight(frames()), model.hearing(windows()) if hear else None
    if quant != "bf16":  # there, the towers round too: the language model is compared on the same tokens
        torch.testing.assert_close(pictures, relatives.seen(parts, frames()), rtol=1e-4, atol=1e-4)
    video = model.lay_out(pictures, sound)
    ids = relatives.answer(language, relatives.woven(parts, pictures.float(), None if sound is None else sound.float()), QUESTION, COUNT, tokenizer)
    generation = model.lm.generate(model.prompt(video, QUESTION), max_tokens=COUNT)
    text = "".join(generation)
    if generation.finish != "repeat":
        assert text == tokenizer.decode([i for i in ids if i != 257], skip_special_tokens=True)
    else:
        assert tokenizer.decode(ids).startswith(text)
    assert generation.tokens >= 4


def test_what_is_seen_and_heard_changes_the_answer_and_is_not_made_up(model):
    def says(pictures, sound):
        return "".join(model.lm.generate(model.prompt(model.lay_out(model.sight(pictures), sound), QUESTION), max_tokens=COUNT))

    first, second = model.hearing(windows(4)), model.hearing([np.zeros(64_000, np.float32)])
    answers = {says(frames(), first), says(frames(), second), says(frames()[::-1].copy(), first), says(frames(), None)}
    assert len(answers) == 4


@pytest.mark.parametrize("quant", ["nf4", "fp32"])
def test_four_bits_where_asked_and_whole_towers(checkpoint, quant):
    model = load(checkpoint, quant=quant)
    kinds = {name: type(module).__name__ for name, module in model.lm.model.named_modules() if "Linear" in type(module).__name__}
    assert kinds.pop("lm_head") == "Linear" and set(kinds.values()) == {"Linear4bit" if quant == "nf4" else "Linear"}
    towers = [*model.sight.modules(), *model.hearing.modules()]
    assert not [m for m in towers if "4bit" in type(m).__name__]
    assert len(model.sight.encoder.layers) == 2, "the layer behind the one that is read is not loaded"


class LiveBytes(TorchDispatchMode):
    """Bytes of the storages of all tensors alive, and their peak, while it is entered."""

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "cpu":
                storage = tensor.untyped_storage()
                if storage._cdata not in self.known:
                    self.known.add(storage._cdata)
                    self.live += storage.nbytes()
                    self.peak = max(self.peak, self.live)
                    weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
        return result

    def _gone(self, key, size):
        self.known.discard(key)
        self.live -= size


@pytest.mark.parametrize("quant", ["fp32", "nf4"])
def test_loading_holds_the_model_and_one_tensor_more(parts, tmp_path, quant):
    folder = relatives.write_relative(tmp_path / "model", parts, shard="10MB")
    with LiveBytes() as counted:
        model = load(folder, quant=quant)
    weights = [p for m in (model.lm.model, model.sight, model.hearing) for p in m.parameters()]
    own, largest = sum(p.untyped_storage().nbytes() for p in weights), max(relatives.sizes(parts))
    # beside it: the largest tensor as read, converted and, in 4 bits, packed with its scales
    assert own <= counted.peak < own + 3 * largest, (own, largest, counted.peak)


def test_senses_wait_in_host_memory_where_they_take_turns(checkpoint, model, monkeypatch):
    """And are on the device only while they are at work, one at a time. "meta" stands for a device here."""
    away = load(checkpoint, quant="fp32", device="meta", turns=True)
    assert {t.device.type for t in away.lm.model.state_dict().values()} == {"meta"}
    for sense, staying in ((away.sight, model.sight), (away.hearing, model.hearing)):
        assert all(torch.equal(t, staying.state_dict()[name]) for name, t in sense.state_dict().items())
    stays = load(checkpoint, quant="fp32", device="meta")
    assert {t.device.type for m in (stays.sight, stays.hearing, stays.lm.model) for t in m.state_dict().values()} == {"meta"}

    away.device, log = "cpu", []
    for name, sense in (("sight", away.sight), ("hearing", away.hearing)):
        move = sense.to
        monkeypatch.setattr(sense, "to", lambda device, name=name, move=move: log.append((name, "away" if log and log[-1] == (name, "here") else "here")) or move(device))
    pictures, sound = away.see(frames()), away.hear(windows())
    assert log == [("sight", "here"), ("sight", "away"), ("hearing", "here"), ("hearing", "away")]
    torch.testing.assert_close(away.lay_out(pictures, sound), model.lay_out(model.see(frames()), model.hear(windows())))


def test_out_of_memory_halves_the_frames_and_goes_on(checkpoint, model, monkeypatch):
    wanted, narrow, given = model.see(frames(10)), load(checkpoint, quant="fp32"), []
    tokens = narrow.sight._tokens

    def few(pixels, most=3):
        if len(pixels) > most:
            raise torch.OutOfMemoryError("CUDA out of memory (pretended)")
        given.append(len(pixels))
        return tokens(pixels)

    monkeypatch.setattr(narrow.sight, "_tokens", few)
    torch.testing.assert_close(narrow.see(frames(10)), wanted, rtol=1e-4, atol=1e-4)
    assert given == [2] * 5 and narrow.sight.batch == 2
    for sense, give, said in ((narrow.sight, lambda: narrow.see(frames(3)), "looking at the frames"), (narrow.hearing, lambda: narrow.hear(windows(2)), "listening to the sound")):
        monkeypatch.setattr(sense, "_tokens" if sense is narrow.sight else "features", lambda *_: few(range(9)))
        with pytest.raises(OutOfMemoryError, match=f"memory ran out while {said}") as gone:
            give()
        assert gone.value.exit_code == 6 and "--no-audio" in gone.value.hint


def test_what_is_not_wanted_is_not_read(checkpoint, monkeypatch):
    read = []
    tensors = Checkpoint.tensors

    def spy(self, wanted):
        for name, tensor in tensors(self, wanted):
            read.append(name)
            yield name, tensor

    monkeypatch.setattr(Checkpoint, "tensors", spy)
    load(checkpoint, quant="fp32", hear=False)
    assert read and not [n for n in read if "audio" in n or ".layers.2." in n and "vision" in n or "head." in n and "lm_head" not in n]


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("changes, said", [
    ({"mm_audio_projector_type": "audio_projector_resampler"}, "compresses sound by audio_projector_resampler; use --no-audio"),
    ({"mm_patch_merge_type": "flat"}, "lays frames out as flat"), ({"mm_projector_type": "identity"}, "projector of the kind identity"),
    ({"mm_vision_tower": "/nowhere/eva"}, "names the tower /nowhere/eva"), ({"mm_use_im_start_end": True}, "image marks"),
    ({"hidden_size": 96}, "where its config.json makes it"), ({"num_hidden_layers": 3}, "lack language.model.layers.2"),
    ({"num_hidden_layers": 1}, "unknown tensor model.layers.1"), ({"num_attention_heads": 0}, "makes no model"),
])  # fmt: skip
def test_what_does_not_fit_is_a_sentence(checkpoint, tmp_path, changes, said):
    folder = shutil.copytree(checkpoint, tmp_path / "model")
    edit(folder, **changes)
    with pytest.raises(ModelError, match=said):
        load(folder, quant="fp32")


def test_damaged_shards_are_sentences(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "model")
    shard = sorted(folder.glob("*.safetensors"))[2]
    whole = shard.read_bytes()
    for data, said in ((whole[:-10], "is damaged"), (b"\xff" * 100, "is damaged"), (None, f"lacks the shard {shard.name}")):
        shard.unlink() if data is None else shard.write_bytes(data)
        with pytest.raises(ModelError, match=said):
            load(folder, quant="fp32")


def test_values_that_are_not_finite_are_refused(parts, tmp_path):
    folder = relatives.write_relative(tmp_path / "model", parts, shard="10MB")
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    state["model.norm.weight"][3] = float("inf")
    save_file(state, folder / "model.safetensors")
    with pytest.raises(ModelError, match="model.norm.weight holds values that are not finite"):
        load(folder, quant="fp32")


def test_pickles_are_read_only_where_they_are_trusted_and_never_run(parts, checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "model")
    for path in [*folder.glob("*.safetensors"), folder / "model.safetensors.index.json"]:
        path.unlink()
    torch.save(parts.state(), folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="are pickles, which can run programs; .*--allow-pickle"):
        load(folder, quant="fp32")
    model = load(folder, quant="fp32", allow_pickle=True)
    torch.testing.assert_close(model.sight(frames()), relatives.seen(parts, frames()), rtol=1e-4, atol=1e-4)

    class Bad:
        def __reduce__(self):
            return (open, (str(tmp_path / "run"), "w"))

    torch.save({"x": Bad()}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="other than weights"):
        load(folder, quant="fp32", allow_pickle=True)
    assert not (tmp_path / "run").exists()


def test_the_published_sizes_are_known_without_its_towers_folders():
    from pathlib import Path

    from mambamia_cli.language.unimambamia.config import read_config

    config = relatives.CONFIG | {"mm_vision_tower": "google/siglip2-so400m-patch16-384", "audio_projector_hidden_size": None,
                                 "mm_audio_tower": "owner/qwen2-audio-encoder-from-qwen2-audio-7b-instruct",
                                 "audio_projector_mode": "per_from1to1frames_25patchwise_25tokperframe"}  # fmt: skip
    found = read_config(Path("/nowhere"), config)
    assert (found.side, found.grid, found.frame_tokens, found.block, found.audio_hidden) == (384, 24, 145, 25, 3072)
    assert found.audio["d_model"] == 1280 and read_config(Path("/nowhere"), config, hear=False).audio is None
