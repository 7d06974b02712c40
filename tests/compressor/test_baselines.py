"""The compressors of the paper's figures 3 and 4: one interface, and what each can and cannot see."""

import pytest
import torch

from mambamia_cli.compressor.baselines import COMPRESSORS, build_compressor
from mambamia_cli.compressor.config import CompressorConfig
from mambamia_cli.compressor.select import select_frames

TINY = CompressorConfig(
    vision_width=12, hidden_size=16, output_size=10, grid_rows=3, patches_per_row=5, num_layers=2, state_size=8,
    head_dim=8, chunk_size=16, taa_state_size=8,
)  # fmt: skip
ANCHORS = {"proposed": 3, "bimba": 3, "self-attention": 3, "pooling": 6, "vanilla": 15, "attention-pool": 3}


def build(kind):
    torch.manual_seed(0)
    return build_compressor(kind, TINY).eval()


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_one_interface(kind):
    model = build(kind)
    out = model(torch.randn(2, 4, 15, 12))
    assert out.anchors.shape == (2, 4, ANCHORS[kind], 10) and out.delta.shape == (2, 4)
    assert model.anchors_per_frame == ANCHORS[kind]
    (out.anchors.square().sum() + out.delta.sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    with pytest.raises(ValueError, match="patches must be"):
        model(torch.randn(2, 4, 14, 12))


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_who_sees_other_frames(kind):
    model = build(kind)
    a = torch.randn(1, 6, 15, 12)
    b = a.clone()
    b[:, 0] += 1
    with torch.no_grad():
        change = (model(a).anchors - model(b).anchors)[0, 5].abs().max() > 0
    assert change == (kind in ("proposed", "bimba", "self-attention"))


def test_bimba_query_is_the_3d_average():
    """With the mixers silenced the anchors are the normed pools themselves."""
    model = build("bimba")
    with torch.no_grad():
        for mixer in model.mixers:
            mixer.out_proj.weight.zero_()
        patches = torch.randn(1, 4, 15, 12)
        rows = model.input_proj(patches).view(1, 4, 3, 5, 16)
        pools = [rows[:, max(0, t - 1) : t + 2].mean((1, 3)) for t in range(4)]
        expected = model.output_proj(model.norm_f(torch.stack(pools, 1)))
        torch.testing.assert_close(model(patches).anchors, expected)


def test_pooling_averages_two_by_two_and_odd_edges_alone():
    model = build("pooling")
    with torch.no_grad():
        patches = torch.randn(1, 2, 15, 12)
        grid = model.mlp(patches).view(1, 2, 3, 5, 16)
        first, corner = grid[:, :, :2, :2].mean((2, 3)), grid[:, :, 2, 4]
        anchors = model(patches).anchors
        torch.testing.assert_close(anchors[:, :, 0], model.output_proj(first))
        torch.testing.assert_close(anchors[:, :, 5], model.output_proj(corner))


def test_constant_delta_samples_uniformly():
    delta = build("pooling")(torch.randn(1, 8, 15, 12)).delta[0]
    assert select_frames(delta, 2.0) == [1, 3, 5, 7]


def test_unknown_kind_is_named():
    with pytest.raises(ValueError, match="resampler"):
        build_compressor("resampler", TINY)
