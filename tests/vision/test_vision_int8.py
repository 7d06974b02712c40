"""The encoder in 8-bit integers: its arithmetic, its distance from the float one, and where it is used."""

import numpy as np
import pytest
import torch
from test_vision_embedded import photograph, squared
from torch.nn import functional as F

from mambamia_cli.vision import backends, int8_graph
from mambamia_cli.vision.backends import OnnxBackend, choose, int8_is_exact, normalise
from mambamia_cli.vision.efficientnet import STRIDE16_BLOCK, join_features, same_padding
from mambamia_cli.vision.embedded import load_network
from mambamia_cli.vision.encoder import load_encoder, runs_in_int8
from mambamia_cli.vision.int8_graph import RELU6, Levels, Usual, largest_products, mean_after_relu6, quantise

NAMES = ("astronaut", "chelsea", "coffee", "rocket")


@pytest.fixture(scope="module")
def network():
    return load_network()


@pytest.fixture(scope="module")
def pictures():
    return torch.cat([squared(photograph(name)) for name in NAMES])


@pytest.fixture(scope="module")
def floating(network, pictures):
    """(m, n, 432) features in float."""
    return network(normalise(pictures))


def distance(got, expected):
    """Of two of the same shape (m, ...), relative to the second, for each of the m."""
    return (got - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)


def run_int8(network, pictures):
    return OnnxBackend(network, threads=1, int8=True).run(pictures)


needs_exact = pytest.mark.skipif(not int8_is_exact(), reason="this CPU adds 8-bit products in too few bits: the tool does not use them here")


class Plain:
    """What the integers come to, layer by layer in float64, which holds them exactly: slow, and not by ONNX."""

    def conv(self, layer, steps, here, arriving, there):
        """steps: uint8 values as float64 (m, inputs, H, W) that stand for `here`."""
        weight, scales, bias = quantise(layer, arriving, here.scale)
        top, bottom = same_padding(steps.shape[-1], layer.kernel_size[0], layer.stride[0])
        centred = F.pad(steps - here.zero, (top, bottom, top, bottom))
        sums = F.conv2d(centred, weight.double(), bias.double(), layer.stride, 0, 1, layer.groups)
        return self.steps(sums * (scales.double() * here.scale)[:, None, None], there)

    def steps(self, x, levels):
        return (x / levels.scale).round().add(levels.zero).clamp(0, 255)

    def values(self, steps, levels):
        return (steps - levels.zero) * levels.scale

    def run(self, network, pictures, first):
        x = F.relu6(network.stem(normalise(pictures)))
        for block in network.blocks[:first]:
            x = block(x)
        usual = Usual.of(network.blocks[first - 1].project)
        here = usual.levels()
        x = self.steps(x.double(), here)
        for index, block in enumerate(network.blocks):
            if index < first:
                continue
            y = self.conv(block.expand, x, here, usual.mean, RELU6)
            y = self.conv(block.depthwise, y, RELU6, mean_after_relu6(block.expand), RELU6)
            own = Usual.of(block.project)
            y = self.conv(block.project, y, RELU6, mean_after_relu6(block.depthwise), own.levels())
            if block.spec.residual:
                total, own = self.values(y, own.levels()) + self.values(x, here), usual + own
                y = self.steps(total, own.levels())
            x, usual, here = y, own, own.levels()
            if index == STRIDE16_BLOCK:
                stride16 = self.values(x, here)
        return join_features(stride16, self.values(x, here)).float()


@needs_exact
@pytest.mark.parametrize("first, most", [(1, 0.05), (5, 0.03), (9, 0.02)])
def test_the_graph_is_the_arithmetic_it_says(network, pictures, monkeypatch, first, most):
    """A value that lies halfway between two steps may go either way, and moves others in the blocks behind: the fewer, the nearer."""
    monkeypatch.setattr(int8_graph, "FLOAT_BLOCKS", first)
    expected, got = Plain().run(network, pictures[:2], first), run_int8(network, pictures[:2])
    print(distance(got, expected))
    assert got.shape == (2, 49, 432)
    assert distance(got, expected).max() < most


@needs_exact
def test_features_are_near_those_in_float(network, pictures, floating):
    assert distance(run_int8(network, pictures), floating).max() < 0.1


@needs_exact
def test_correcting_biases_takes_a_fifth_of_the_error_at_least(network, pictures, floating, monkeypatch):
    corrected = distance(run_int8(network, pictures), floating).mean()
    as_is = lambda layer, arriving, scale: quantise(layer, torch.zeros_like(arriving), scale)
    monkeypatch.setattr(int8_graph, "quantise", as_is)
    assert corrected < 0.8 * distance(run_int8(network, pictures), floating).mean()


@needs_exact
def test_pieces_change_nothing(network, pictures):
    backend = OnnxBackend(network, threads=2, int8=True)
    assert torch.equal(backend.run(pictures), torch.cat([backend.run(one[None]) for one in pictures]))


def test_weights_are_rounded_to_the_nearest_of_their_outputs_steps(network):
    layer = network.blocks[3].expand
    steps, scales, _ = quantise(layer, torch.zeros(layer.in_channels).double(), 0.1)
    assert steps.dtype == torch.int8 and scales.shape == (layer.out_channels,)
    apart = (steps * scales[:, None, None, None] - layer.weight).abs()
    assert (apart <= scales[:, None, None, None] * 0.5001).all() and steps.abs().amax((1, 2, 3)).eq(127).all()


@pytest.mark.parametrize("part", ["expand", "depthwise", "project"])
def test_the_bias_gives_back_what_rounding_moves(network, part):
    """With inputs of the means it was told, the mean output is as before to half a step of the bias."""
    layer, scale = getattr(network.blocks[5], part), 0.02
    arriving = torch.rand(layer.in_channels, generator=torch.Generator().manual_seed(0)).double() * 3
    weight, scales, bias = quantise(layer, arriving, scale)
    flat = arriving[None, :, None, None].expand(1, -1, 9, 9)
    middle = lambda w, b: F.conv2d(flat, w, b, 1, 0, 1, layer.groups)[0, :, 2, 2]
    exact = middle(layer.weight.double(), layer.bias.double())
    rounded = middle(weight.double() * scales.double()[:, None, None, None], bias * scales.double() * scale)
    assert ((rounded - exact).abs() <= 0.51 * scales * scale + 1e-6).all()


def test_means_after_relu6_are_those_of_draws(network):
    layer = network.blocks[4].depthwise
    mean, spread = layer.usual
    draws = mean + spread * torch.randn(20_000, len(mean), generator=torch.Generator().manual_seed(0)).double()
    assert (mean_after_relu6(layer) - draws.clamp(0, 6).mean(0)).abs().max() < 0.06


def test_batch_norms_tell_what_outputs_are(network, pictures):
    """Over a few photographs most channels' means lie within two spreads of what the network's training found."""
    x = F.relu6(network.stem(normalise(pictures)))
    for block in network.blocks[:8]:
        mean, spread = block.depthwise.usual
        inside = block.depthwise(x if block.expand is None else F.relu6(block.expand(x))).mean((0, 2, 3))
        assert ((inside - mean).abs() < 2 * spread + 1e-3).float().mean() > 0.95
        x = block(x)


@pytest.mark.parametrize("low, high", [(0.0, 6.0), (-3.0, 5.0), (-7.1, 0.0)])
def test_levels_span_a_range_and_hold_zero(low, high):
    levels = Levels.of(low, high)
    ends = [levels.scale * (value - levels.zero) for value in (0, 255)]
    assert 0 <= levels.zero <= 255
    assert ends == pytest.approx([low, high], abs=levels.scale)


def test_spreads_of_a_sum():
    one = Usual(torch.tensor([1.0, -1.0]), torch.tensor([4.0, 9.0]))
    total = one + one
    assert total.mean.tolist() == [2, -2] and total.variance.tolist() == [8, 18]
    levels = Usual(torch.tensor([0.0]), torch.tensor([4.0])).levels()
    assert levels.scale * 255 == pytest.approx(20) and levels.zero in (127, 128)


def test_the_largest_products_need_more_than_16_bits():
    _, values, expected = largest_products()
    assert values.max() == 255 and 255 * 127 * 2 > 32767
    assert np.array_equal(expected, values)  # the mean of 64 equal products over 127


def test_a_cpu_that_rounds_sums_gets_float(network, monkeypatch, caplog):
    class Rounding:
        def run(self, wanted, given):
            return [np.minimum(given["values"], 129)]  # 32767 / 127 / 2, as AVX2 has it

    monkeypatch.setattr(backends, "session", lambda graph: Rounding())
    int8_is_exact.cache_clear()
    try:
        assert not int8_is_exact() and not runs_in_int8("efficientnet-lite0", "cpu")
        monkeypatch.undo()
        assert choose(network, int8=True).name == "onnxruntime"  # remembered, and no warning: float is no worse
        assert not caplog.records
    finally:
        int8_is_exact.cache_clear()


def test_only_the_embedded_encoder_on_a_cpu_runs_in_int8(monkeypatch):
    monkeypatch.setattr(backends, "int8_is_exact", lambda: True)
    assert runs_in_int8("efficientnet-lite0", "cpu")
    assert not runs_in_int8("efficientnet-lite0", "cuda") and not runs_in_int8("a/tower", "cpu")
    assert choose(load_network(), device="meta", int8=True).name == "torch"


@needs_exact
def test_it_is_loaded_by_name(pictures):
    encoder = load_encoder("efficientnet-lite0", threads=1, int8=True)
    assert encoder.backend.name == "onnxruntime int8" and encoder.encode(pictures[:1]).shape == (1, 49, 432)
