"""Mixers and their parts: Mamba-1's scan against its recurrence, the convolution against nn.Conv1d, the two directions."""

import pytest
import torch
import torch.nn.functional as F

from mambamia_cli.compressor import layers
from mambamia_cli.compressor.layers import GatedRMSNorm, RMSNorm, depthwise_conv_silu
from mambamia_cli.compressor.mamba1 import Mamba1Mixer, selective_scan, selective_scan_reference
from mambamia_cli.compressor.mixer import Mamba2Mixer, Projection, initial_dt_bias


@pytest.fixture(params=[1 << 18, 40], ids=["one block", "small blocks"])
def blocks(request, monkeypatch):
    monkeypatch.setattr(layers, "_BLOCK_ELEMENTS", request.param)


DIRECTIONS = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "backward"])


def selective_inputs(l, b=2, d=6, s=4):
    g = torch.Generator().manual_seed(0)
    x, dt = torch.randn(b, l, d, generator=g), torch.rand(b, l, d, generator=g)
    A = -torch.rand(d, s, generator=g) * 2
    B, C = torch.randn(b, l, s, generator=g), torch.randn(b, l, s, generator=g)
    D, state = torch.randn(d, generator=g), torch.randn(b, d, s, generator=g)
    return [t.double().requires_grad_() for t in (x, dt, A, B, C, D, state)]


@DIRECTIONS
@pytest.mark.parametrize(("l", "chunk_size"), [(1, 4), (9, 4), (16, 4), (13, 64), (5, 1)])
def test_selective_scan_equals_reference_with_gradients(l, chunk_size, reverse):
    args = selective_inputs(l)
    results = []
    for scan in (lambda *a, **k: selective_scan(*a, chunk_size=chunk_size, **k), selective_scan_reference):
        y, final = scan(*args[:-1], initial_state=args[-1], reverse=reverse)
        loss = (y * y.detach().cos()).sum() + (final * final.detach().sin()).sum()
        results.append([y, final, *torch.autograd.grad(loss, args)])
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-10, rtol=1e-10)


@DIRECTIONS
@pytest.mark.parametrize("l", [1, 2, 3, 17])
def test_convolution_equals_conv1d_with_gradients(l, reverse, blocks):
    torch.manual_seed(0)
    conv = torch.nn.Conv1d(6, 6, 4, groups=6).double()
    x = torch.randn(2, l, 6, dtype=torch.float64, requires_grad=True)
    tail = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    wanted = [x, tail, conv.weight, conv.bias]
    y, next_tail = depthwise_conv_silu(x, conv.weight, conv.bias, tail=tail, reverse=reverse)
    line = torch.cat((x, tail) if reverse else (tail, x), 1)
    seen = line.flip(1) if reverse else line
    expected = F.silu(conv(seen.transpose(1, 2))).transpose(1, 2)
    expected = expected.flip(1) if reverse else expected
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(next_tail, line[:, :3] if reverse else line[:, -3:])
    for ours, reference in zip(
        torch.autograd.grad(y.square().sum(), wanted), torch.autograd.grad(expected.square().sum(), wanted), strict=True
    ):
        torch.testing.assert_close(ours, reference)


def test_norms_equal_their_formula_with_gradients(blocks):
    torch.manual_seed(0)
    x, gate = (torch.randn(2, 300, 8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    for norm, args, gated in ((RMSNorm(8), (x,), x), (GatedRMSNorm(8), (x, gate), x * gate)):
        norm.double()
        torch.nn.init.normal_(norm.weight)
        expected = gated / (gated.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight
        y = norm(*args)
        torch.testing.assert_close(y, expected)
        wanted = [*args, norm.weight]
        grads = [torch.autograd.grad((out * x.detach().cos()).sum(), wanted) for out in (y, expected)]
        for ours, reference in zip(*grads, strict=True):
            torch.testing.assert_close(ours, reference)


@pytest.mark.parametrize(
    "make", [lambda: Mamba1Mixer(16, state_size=4), lambda: Mamba2Mixer(16, state_size=4, head_dim=8)]
)
def test_backward_branch_is_the_forward_one_on_the_flipped_sequence(make):
    torch.manual_seed(0)
    mixer = make()
    with torch.no_grad():
        for name, parameter in mixer.named_parameters():
            twin = {"A_log": "A_b_log"}.get(name) or name.replace(name.split(".")[0], name.split(".")[0] + "_b")
            if twin in dict(mixer.named_parameters()):
                dict(mixer.named_parameters())[twin].copy_(parameter)
    projected = mixer.project(torch.randn(2, 11, 16))
    backward, state = mixer.branch(projected, reverse=True)
    forward, flipped_state = mixer.branch(tuple(t.flip(1) for t in projected))
    torch.testing.assert_close(backward, forward.flip(1))
    torch.testing.assert_close(state.ssm, flipped_state.ssm)


@pytest.mark.parametrize(
    "make, some", [(lambda: Mamba1Mixer(16, state_size=4), {}), (lambda: Mamba2Mixer(16, state_size=4, head_dim=8), {}),
                   (lambda: Mamba2Mixer(16, state_size=4, head_dim=8), {"every": 4})], ids=["mamba1", "mamba2", "some outputs"],
)  # fmt: skip
def test_a_gate_that_comes_later_is_the_same(make, some):
    torch.manual_seed(0)
    mixer, u = make(), torch.randn(2, 12, 16)
    with torch.no_grad():
        projected = mixer.project(u, **some)
        whole, state = mixer.branch(projected, reverse=True, **some)
        bare = mixer.project(u, gated=False, **some)
        later, other = mixer.branch(bare, reverse=True, **some)
        assert bare[0] is None and not torch.allclose(later, whole)
        torch.testing.assert_close(mixer.finish(later, projected[0]), whole)
    torch.testing.assert_close(other.ssm, state.ssm)


def test_mamba1_names():
    names = set(dict(Mamba1Mixer(16, state_size=4, bidirectional=False).named_parameters()))
    assert names == {
        "A_log", "D", "in_proj.weight", "conv1d.weight", "conv1d.bias", "x_proj.weight", "dt_proj.weight",
        "dt_proj.bias", "out_proj.weight",
    }  # fmt: skip


def test_initial_steps_are_in_mambas_range():
    dt = F.softplus(initial_dt_bias(10_000))
    assert dt.min() >= 1e-3 * 0.999 and dt.max() <= 0.1 * 1.001
    assert 0.005 < dt.median() < 0.02  # log-uniform: the middle is 0.01


def test_width_that_is_no_whole_number_of_heads():
    with pytest.raises(ValueError, match="head_dim"):
        Mamba2Mixer(20, head_dim=64)


@pytest.mark.parametrize("rows", [slice(None), slice(3), slice(5, None)])
def test_a_projection_in_fewer_bits_rounds_its_input_and_keeps_its_type(rows):
    layer = Projection(40, 8)
    x = torch.randn(2, 5, 40)
    exact = F.linear(x, layer.weight[rows])
    assert torch.equal(layer(x, rows), exact)
    layer.to(torch.bfloat16)
    rounded = layer(x, rows)
    expected = F.linear(x.bfloat16().double(), layer.weight[rows].double())
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded.double(), expected, rtol=2**-8, atol=1e-3)  # its sums are rounded once more
    assert 0 < (rounded - exact).abs().max() < 0.05


def test_a_projection_under_autocast_is_autocasts_own():
    layer, x = Projection(40, 8), torch.randn(2, 5, 40)
    plain = torch.nn.Linear(40, 8, bias=False)
    plain.load_state_dict(layer.state_dict())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x), plain(x)) and layer(x).dtype == torch.bfloat16
        assert torch.equal(layer(x.bfloat16()), plain(x.bfloat16()))
