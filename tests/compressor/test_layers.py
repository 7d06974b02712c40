"""The short convolution against nn.Conv1d: outputs and gradients, both ways, by oneDNN and by shifted rows."""

import pytest
import torch
from torch.nn import functional as F

from mambamia_cli.compressor import layers


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("with_tail", [False, True])
def test_convolution_and_its_gradients_are_conv1ds(onednn, reverse, with_tail, monkeypatch):
    monkeypatch.setattr(layers, "_ONEDNN", onednn and layers._ONEDNN)
    monkeypatch.setattr(layers, "_BLOCK_ELEMENTS", 64)  # blocks of a few rows
    torch.manual_seed(0)
    b, length, d, kernel = 3, 17, 8, 4
    x, weight, bias = torch.randn(b, length, d), torch.randn(d, 1, kernel), torch.randn(d)
    tail = torch.randn(b, kernel - 1, d) if with_tail else torch.zeros(b, kernel - 1, d)
    wanted = [t.requires_grad_() for t in ([x, weight, bias, tail] if with_tail else [x, weight, bias])]
    ours, _ = layers.depthwise_conv_silu(x, weight, bias, tail=tail if with_tail else None, reverse=reverse)
    line = torch.cat((x, tail) if reverse else (tail, x), 1).transpose(1, 2)  # (b, d, l + K - 1)
    theirs = F.silu(F.conv1d(line, weight.flip(2) if reverse else weight, bias, groups=d)).transpose(1, 2)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    way = torch.linspace(-1, 2, ours.numel()).view_as(ours)
    for mine, reference in zip(*(torch.autograd.grad((y * way).sum(), wanted) for y in (ours, theirs)), strict=True):
        torch.testing.assert_close(mine, reference, atol=1e-4, rtol=1e-4)
