"""The adapter without a GPU: what it chooses, what it says, and its flips and layouts with a stand-in kernel that keeps
to the published signature. Against mamba-ssm itself: test_kernels_oracle.py."""

import logging
import sys
import types

import pytest
import torch
import torch.nn.functional as F

from mambamia_cli.compressor import kernels
from mambamia_cli.compressor.layers import depthwise_conv_silu
from mambamia_cli.compressor.ssd import ssd_scan

DIRECTIONS = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "backward"])


@pytest.fixture(autouse=True)
def fresh():
    kernels._chosen.clear()
    yield
    kernels._chosen.clear()


def test_cpu_says_once_why_it_uses_torch(caplog):
    with caplog.at_level(logging.INFO, logger="mambamia_cli.compressor.kernels"):
        assert kernels.kernels_for("cpu").scan.function is None
        kernels.kernels_for("cpu")
    assert len(caplog.records) == 1
    assert "plain torch (tensors are on cpu, not cuda)" in caplog.text


def test_missing_packages_are_named(caplog, monkeypatch):
    for name in ("mamba_ssm", "causal_conv1d"):
        monkeypatch.setitem(sys.modules, name, None)
    with caplog.at_level(logging.INFO, logger="mambamia_cli.compressor.kernels"):
        found = kernels.kernels_for("cuda")
    assert found.scan.function is None and found.conv.function is None
    assert "mamba_ssm" in found.scan.reason and "causal_conv1d" in found.conv.reason
    assert len(caplog.records) == 1


def test_installed_packages_are_used(monkeypatch):
    scan, conv = (lambda: None), (lambda: None)
    for name in ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.triton"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    module = types.ModuleType("mamba_ssm.ops.triton.ssd_combined")
    module.mamba_chunk_scan_combined = scan
    monkeypatch.setitem(sys.modules, module.__name__, module)
    module = types.ModuleType("causal_conv1d")
    module.causal_conv1d_fn = conv
    monkeypatch.setitem(sys.modules, "causal_conv1d", module)
    found = kernels.kernels_for("cuda")
    assert found.scan.function is scan and found.conv.function is conv


def test_broken_package_is_not_fatal(tmp_path, monkeypatch):
    (tmp_path / "causal_conv1d.py").write_text("raise OSError('undefined symbol')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "causal_conv1d", raising=False)
    assert "undefined symbol" in kernels.kernels_for("cuda").conv.reason


@DIRECTIONS
def test_scan_layout(reverse):
    def chunk_scan(x, dt, A, B, C, chunk_size, D=None, z=None, dt_bias=None, initial_states=None, seq_idx=None,
                   cu_seqlens=None, dt_softplus=False, dt_limit=(0.0, float("inf")), return_final_states=False):  # fmt: skip
        assert chunk_size >= 16 and chunk_size & (chunk_size - 1) == 0 and return_final_states and not dt_softplus
        return ssd_scan(x, dt, A, B, C, D, initial_state=initial_states, chunk_size=chunk_size)

    torch.manual_seed(0)
    args = (torch.randn(2, 37, 3, 8), torch.rand(2, 37, 3), -torch.rand(3), torch.randn(2, 37, 1, 4))
    args += (torch.randn(2, 37, 1, 4), torch.randn(3))
    state = torch.randn(2, 3, 8, 4)
    expected = ssd_scan(*args, initial_state=state, reverse=reverse)
    got = kernels.fused_scan(chunk_scan, *args, initial_state=state, chunk_size=10, reverse=reverse)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@DIRECTIONS
@pytest.mark.parametrize("with_tail", [False, True])
def test_conv_layout(with_tail, reverse):
    def causal_conv1d(x, weight, bias=None, activation=None):
        assert weight.dim() == 2 and activation == "silu"
        kept = weight.shape[1] - 1
        return F.silu(F.conv1d(F.pad(x, (kept, 0)), weight.unsqueeze(1), bias, groups=len(weight)))

    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 9, 6), torch.randn(6, 1, 4), torch.randn(6)
    tail = torch.randn(2, 3, 6) if with_tail else None
    expected = depthwise_conv_silu(x, weight, bias, tail=tail, reverse=reverse)
    got = kernels.fused_conv_silu(causal_conv1d, x, weight, bias, tail=tail, reverse=reverse)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("channels", "kernel", "used"), [(16, 4, True), (12, 4, False), (16, 5, False)])
def test_sizes_that_the_convolution_kernel_refuses_go_to_torch(monkeypatch, channels, kernel, used):
    """It takes channels in multiples of eight and kernels of two to four."""
    called = []

    def causal_conv1d(x, weight, bias=None, activation=None):
        called.append(x.shape)
        return F.silu(F.conv1d(F.pad(x, (kernel - 1, 0)), weight.unsqueeze(1), bias, groups=len(weight)))[..., : x.shape[-1]]

    monkeypatch.setitem(kernels._chosen, "cpu", kernels.Kernels(kernels.Kernel(None, ""), kernels.Kernel(causal_conv1d, "")))
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 9, channels), torch.randn(channels, 1, kernel), torch.randn(channels)
    y, _ = kernels.conv_silu(x, weight, bias)
    assert bool(called) == used
    torch.testing.assert_close(y, depthwise_conv_silu(x, weight, bias)[0])


def test_both_doors_lead_to_the_same_scan():
    torch.manual_seed(0)
    args = (torch.randn(1, 9, 2, 4), torch.rand(1, 9, 2), -torch.rand(2), torch.randn(1, 9, 1, 3))
    args += (torch.randn(1, 9, 1, 3), torch.randn(2))
    for a, b in zip(kernels.scan(*args, chunk_size=4), ssd_scan(*args, chunk_size=4), strict=True):
        assert torch.equal(a, b)
