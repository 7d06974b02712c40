"""The tower encoder equals transformers' own forward, on tiny random checkpoints that the tests save themselves."""

import json

import pytest
import torch

from mambamia_cli.errors import ModelError
from mambamia_cli.vision import Encoder, load_encoder, preprocess
from mambamia_cli.vision.tower import BATCH, TowerEncoder

transformers = pytest.importorskip("transformers")

VIT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2}
MEAN, STD = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]
SIDE, PATCH = 32, 8


def save(folder, model, **processor):
    model.eval().save_pretrained(folder)
    settings = {"image_mean": MEAN, "image_std": STD, "size": {"height": SIDE, "width": SIDE}} | processor
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return str(folder)


def tower(kind):
    """A random model of the real class."""
    torch.manual_seed(0)
    size = {"image_size": SIDE, "patch_size": PATCH}
    t = transformers
    if kind == "siglip":
        return t.SiglipVisionModel(t.SiglipVisionConfig(**VIT, **size))
    if kind == "clip":
        return t.CLIPVisionModel(t.CLIPVisionConfig(**VIT, **size))
    if kind == "dinov2":
        return t.Dinov2Model(t.Dinov2Config(**VIT, **size))
    if kind == "dinov2-registers":
        return t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(**VIT, **size, num_register_tokens=4))
    if kind == "siglip2":
        return t.Siglip2VisionModel(t.Siglip2VisionConfig(**VIT, num_patches=16, patch_size=PATCH))
    return t.ConvNextModel(t.ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 2, 1], image_size=64))


def frames(count=3, side=SIDE):
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def normalised(pictures):
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    return (pictures.float() / 255 - mean) / std


@pytest.mark.parametrize("kind, prefix", [("siglip", 0), ("clip", 1), ("dinov2", 1), ("dinov2-registers", 5)])
@pytest.mark.parametrize("layer", [-2, -3, 1])
def test_equals_hidden_state(tmp_path, kind, prefix, layer):
    model = tower(kind)
    encoder = TowerEncoder(save(tmp_path, model), select_layer=layer)
    with torch.inference_mode():
        hidden = model(pixel_values=normalised(frames()), output_hidden_states=True).hidden_states[layer]
    assert hidden.shape[1] == prefix + 16
    got = encoder.encode(frames())
    assert got.shape == (3, 16, 32) and encoder.grid == (4, 4) and encoder.width == 32
    torch.testing.assert_close(got, hidden[:, prefix:], atol=1e-5, rtol=1e-5)


def test_default_is_the_layer_before_last_and_drops_the_last(tmp_path):
    folder = save(tmp_path, tower("siglip"))
    encoder = load_encoder(folder)
    torch.testing.assert_close(encoder.encode(frames()), TowerEncoder(folder, select_layer=-2).encode(frames()))
    assert len(encoder.model.encoder.layers) == 2
    assert isinstance(encoder, Encoder) and encoder.input_size == (SIDE, SIDE)


@pytest.mark.parametrize("kind, prefix", [("siglip", 0), ("clip", 1), ("dinov2", 1)])
def test_none_is_the_towers_own_output(tmp_path, kind, prefix):
    model = tower(kind)
    with torch.inference_mode():
        expected = model(pixel_values=normalised(frames())).last_hidden_state[:, prefix:]
    got = TowerEncoder(save(tmp_path, model), select_layer=None).encode(frames())
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_convnext(tmp_path):
    """CLIP-ConvNeXt by its config: the last map, flattened row by row."""
    model, pictures = tower("convnext"), frames(side=64)
    encoder = load_encoder(save(tmp_path, model, size={"shortest_edge": 64}))
    with torch.inference_mode():
        expected = model(pixel_values=normalised(pictures)).last_hidden_state  # (m, 32, 2, 2)
    assert encoder.grid == (2, 2) and encoder.width == 32
    torch.testing.assert_close(encoder.encode(pictures)[:, 1], expected[:, :, 0, 1], atol=1e-5, rtol=1e-5)
    with pytest.raises(ModelError, match="no flat list"):
        TowerEncoder(str(tmp_path), select_layer=-2)


def test_siglip2_patches_equal_its_own_processor(tmp_path):
    processor = transformers.Siglip2ImageProcessor(patch_size=PATCH, max_num_patches=16, image_mean=MEAN, image_std=STD)
    model, pictures = tower("siglip2"), frames()
    folder = save(tmp_path, model, patch_size=PATCH, max_num_patches=16, size=None)
    inputs = processor(images=[p for p in pictures], return_tensors="pt")
    with torch.inference_mode():
        expected = model(**inputs, output_hidden_states=True).hidden_states[-2]
    encoder = load_encoder(folder)
    assert encoder.input_size == (SIDE, SIDE) and encoder.grid == (4, 4)
    torch.testing.assert_close(encoder.encode(pictures), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["Siglip", "CLIP"])
def test_image_half_of_a_pair(tmp_path, kind):
    """A whole image-text checkpoint loads its image half only."""
    t = transformers
    vision = VIT | {"image_size": SIDE, "patch_size": PATCH}
    text = VIT | {"vocab_size": 50, "max_position_embeddings": 8}
    torch.manual_seed(0)
    config = getattr(t, f"{kind}Config")(text_config=text, vision_config=vision)
    pair = getattr(t, f"{kind}Model")(config)
    encoder = load_encoder(save(tmp_path, pair))
    with torch.inference_mode():
        hidden = pair.vision_model(pixel_values=normalised(frames()), output_hidden_states=True).hidden_states[-2]
    assert not any("text" in name for name, _ in encoder.model.named_parameters())
    torch.testing.assert_close(encoder.encode(frames()), hidden[:, -16:], atol=1e-5, rtol=1e-5)


def test_batching_and_dtype(tmp_path):
    folder = save(tmp_path, tower("clip"))
    encoder, many = load_encoder(folder), frames(BATCH + 3)
    whole = encoder.encode(many)
    torch.testing.assert_close(whole[-2:], encoder.encode(many[-2:]), atol=1e-5, rtol=1e-5)
    half = TowerEncoder(folder, dtype=torch.bfloat16)
    assert half.encode(many).dtype == torch.bfloat16 and half.revision != encoder.revision
    torch.testing.assert_close(half.encode(many).float(), whole, atol=0.1, rtol=0.1)


def test_revision_follows_the_weights(tmp_path):
    folder = save(tmp_path, tower("siglip"))
    before = load_encoder(folder).revision
    assert before == load_encoder(folder).revision
    model = tower("siglip")
    model.encoder.layers[0].mlp.fc1.bias.data[0] += 1
    assert load_encoder(save(tmp_path, model)).revision != before


def test_missing_and_unknown(tmp_path):
    with pytest.raises(ModelError, match="no folder.*config.json"):
        load_encoder(str(tmp_path / "none"))
    with pytest.raises(ModelError, match="no folder"):
        load_encoder("efficientnet-lite9")
    with pytest.raises(ModelError, match="cannot load"):
        load_encoder(str(tmp_path))


def test_hub_id_without_a_network(monkeypatch):
    """An id that cannot be reached is one sentence. Offline by huggingface_hub's own switch, so no test dials out."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="cannot load the vision tower mambamia-tests/absent"):
        load_encoder("mambamia-tests/absent")


def test_damaged_weights(tmp_path):
    folder = save(tmp_path, tower("siglip"))
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"\xff" * 100):
        weights.write_bytes(damaged)
        with pytest.raises(ModelError):
            load_encoder(folder)


def test_wrong_shapes(tmp_path):
    folder = save(tmp_path, tower("siglip"))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"intermediate_size": 64}))
    with pytest.raises(ModelError, match="another shape"):
        load_encoder(folder)


def test_missing_tensor_is_not_filled_with_noise(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = save(tmp_path, tower("clip"))
    tensors = load_file(tmp_path / "model.safetensors")
    name = next(n for n in tensors if n.endswith("layers.0.mlp.fc1.weight"))
    save_file({k: v for k, v in tensors.items() if k != name}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="lack .*fc1.weight"):
        load_encoder(folder)


def test_pickles_are_never_opened(tmp_path):
    model = tower("siglip")
    folder = save(tmp_path, model)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        load_encoder(folder)


def test_preprocessor_errors(tmp_path):
    folder = save(tmp_path, tower("siglip"))
    path = tmp_path / "preprocessor_config.json"
    for text in ("{", "[]", "{}", '{"image_mean": [1, 2], "image_std": [1, 2]}', '{"image_mean": 0.5, "image_std": 0}'):
        path.write_text(text)
        with pytest.raises(ModelError, match="preprocessor_config.json"):
            load_encoder(folder)
    path.unlink()
    with pytest.raises(ModelError, match="there is no .*preprocessor_config.json"):
        load_encoder(folder)


@pytest.mark.parametrize(
    "settings, size",
    [
        ({"size": 64}, (64, 64)),
        ({"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "do_center_crop": True}, (224, 224)),
        ({"size": {"height": 384, "width": 256}}, (384, 256)),
        ({"patch_size": 16, "max_num_patches": 300}, (272, 272)),
        ({}, None),
    ],
)
def test_size(tmp_path, settings, size):
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps({"image_mean": 0.5, "image_std": 0.5, **settings}))
    assert preprocess.read(path).size == size


def test_layer_out_of_range(tmp_path):
    folder = save(tmp_path, tower("siglip"))
    for layer in (-5, 0, 4):
        with pytest.raises(ModelError, match="3 layers"):
            TowerEncoder(folder, select_layer=layer)
