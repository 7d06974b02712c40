"""Small parts the mixers share: RMS norms and the short depthwise convolution, forward or backward in time.

Each is one autograd function that goes over the sequence a few rows at a time: on a CPU these parts are bound by memory,
so what matters is that every large tensor is read once and written once, and that backward recomputes, from rows in the
cache, what autograd would have stored.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Elements of a block of rows. On a CPU it stays in a core's cache; elsewhere float32 copies of it are kept from filling
# the device's memory: 64 MiB each, where all rows of a chunk at the paper's sizes would take half a GiB, twice.
_BLOCK_ELEMENTS = 1 << 18
_BLOCK_ELEMENTS_DEVICE = 1 << 24
_ONEDNN = torch.backends.mkldnn.is_available()  # asked here, as torch.compile cannot look into it


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dim, the rms taken in float32 whatever x is in."""

    def __init__(self, width: int, eps: float = 1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return _RMSNorm.apply(x, None, self.weight, self.eps)


class GatedRMSNorm(RMSNorm):
    """Mamba-2's norm before out_proj: the gate goes in first, RMSNorm(y * gate)."""

    def forward(self, y: Tensor, gate: Tensor) -> Tensor:
        """y (b, l, d), gate = silu(z) (b, l, d) -> (b, l, d). The gate is shared by both directions."""
        return _RMSNorm.apply(y, gate, self.weight, self.eps)


class _RMSNorm(torch.autograd.Function):
    """v = x * gate; y = v r weight with r = (mean(v^2) + eps)^(-1/2). x, gate (..., d), weight (d,)."""

    @staticmethod
    def forward(ctx, x: Tensor, gate: Tensor | None, weight: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, gate, weight)
        ctx.eps = eps
        rows = x.reshape(-1, x.shape[-1])
        gates = None if gate is None else gate.reshape(rows.shape)
        y = torch.empty(rows.shape, dtype=x.dtype, device=x.device)
        for a, e in _blocks(len(rows), rows.shape[1], x.device):
            v, scale = _gated_and_scale(rows, gates, a, e, eps)
            torch.mul(v.mul_(scale).to(x.dtype), weight, out=y[a:e])
        return y.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor):
        x, gate, weight = ctx.saved_tensors
        rows, dys = x.reshape(-1, x.shape[-1]), dy.reshape(-1, x.shape[-1])
        gates = None if gate is None else gate.reshape(rows.shape)
        dx = torch.empty(rows.shape, dtype=x.dtype, device=x.device)
        d_gate = None if gate is None else torch.empty_like(dx)
        d_weight = torch.zeros_like(weight)
        for a, e in _blocks(len(rows), rows.shape[1], x.device):
            v, scale = _gated_and_scale(rows, gates, a, e, ctx.eps)
            v.mul_(scale)  # the normed rows
            d_weight += (dys[a:e] * v).sum(0)
            d_normed = dys[a:e] * weight
            # What lies along v is undone by the norm: only the rest comes through.
            dv = (d_normed - v * (d_normed * v).mean(-1, keepdim=True)).mul_(scale)
            if gates is None:
                dx[a:e] = dv
            else:
                torch.mul(dv, gates[a:e], out=dx[a:e])
                torch.mul(dv, rows[a:e], out=d_gate[a:e])
        return dx.view(x.shape), None if gate is None else d_gate.view(x.shape), d_weight, None


def _gated_and_scale(rows: Tensor, gates: Tensor | None, a: int, e: int, eps: float) -> tuple[Tensor, Tensor]:
    """Rows a .. e times their gates, in float32 at least, a fresh tensor; and 1 / rms (e - a, 1)."""
    wide = torch.promote_types(rows.dtype, torch.float32)
    v = rows[a:e].to(wide, copy=True) if gates is None else (rows[a:e] * gates[a:e]).to(wide)
    # The norm and its square: four times as fast as the product of v with itself.
    return v, torch.linalg.vector_norm(v, dim=-1, keepdim=True).square_().div_(v.shape[-1]).add_(eps).rsqrt_()


def depthwise_conv_silu(
    x: Tensor, weight: Tensor, bias: Tensor, *, tail: Tensor | None = None, reverse: bool = False
) -> tuple[Tensor, Tensor]:
    """silu of a causal depthwise convolution, y_t = bias + sum_i w_i x_{t-K+1+i}; anti-causal when `reverse`.

    x (b, l, d); weight (d, 1, K) and bias (d,) as nn.Conv1d keeps them; tail (b, K-1, d): the inputs just before x (just
    after it when `reverse`), zeros when None. Returns y (b, l, d) and the next piece's tail.

    K shifted multiply-adds over (b, l, d): nn.Conv1d wants (b, d, l) and would transpose a large tensor twice.
    """
    kernel = weight.shape[-1]
    if tail is None:
        tail = x.new_zeros(x.shape[0], kernel - 1, x.shape[2])
    padded = torch.cat((x, tail) if reverse else (tail, x), dim=1)  # (b, l + K - 1, d)
    taps = weight.squeeze(1).t()  # (K, d), in time order; seen from the right when the sequence is read right to left
    if reverse:
        taps = taps.flip(0)
    y = _ShiftedConvSilu.apply(padded, taps, bias)  # (b, l, d)
    next_tail = padded[:, : kernel - 1] if reverse else padded[:, padded.shape[1] - kernel + 1 :]
    return y, next_tail.clone()  # a view would keep the whole of `padded` alive until the next piece


class _ShiftedConvSilu(torch.autograd.Function):
    """padded (b, l + K - 1, d), taps (K, d), bias (d,) -> silu(conv) (b, l, d)."""

    @staticmethod
    def forward(ctx, padded: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(padded, taps, bias)
        if _takes_onednn(padded):
            return F.silu(_unpictured(F.conv2d(_pictured(padded), _filters(taps), bias, groups=padded.shape[2])), inplace=True).contiguous()
        b, length, d = padded.shape[0], padded.shape[1] - len(taps) + 1, padded.shape[2]
        y = torch.empty(b, length, d, dtype=padded.dtype, device=padded.device)
        for a, e in _blocks(length, b * d, padded.device):
            y[:, a:e] = F.silu(_convolve(padded, taps, bias, a, e), inplace=True)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor):
        padded, taps, bias = ctx.saved_tensors
        if _takes_onednn(padded):
            return _backward_by_onednn(padded, taps, bias, dy)
        d_padded = torch.zeros_like(padded)
        d_taps, d_bias = torch.zeros_like(taps), torch.zeros_like(bias)
        for a, e in _blocks(dy.shape[1], dy.shape[0] * dy.shape[2], dy.device):
            convolved = _convolve(padded, taps, bias, a, e)
            d_convolved = torch.ops.aten.silu_backward(dy[:, a:e], convolved)  # (b, e - a, d)
            d_bias += d_convolved.sum((0, 1))
            for i in range(len(taps)):
                d_padded[:, a + i : e + i].addcmul_(d_convolved, taps[i])
                d_taps[i] += torch.mul(d_convolved, padded[:, a + i : e + i], out=convolved).sum((0, 1))
        return d_padded, d_taps, d_bias


def _takes_onednn(padded: Tensor) -> bool:
    """Whether (b, l, d) is what oneDNN calls channels last, and computes in one pass without a copy, in half the time."""
    return padded.device.type == "cpu" and padded.dtype == torch.float32 and _ONEDNN


def _backward_by_onednn(padded: Tensor, taps: Tensor, bias: Tensor, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of padded, taps and bias. That of `padded` is the convolution of dy with the taps turned round."""
    filters, length, d = _filters(taps), dy.shape[1], padded.shape[2]
    convolved = F.conv2d(_pictured(padded), filters, bias, groups=d)  # before its silu
    d_pictures = torch.ops.aten.silu_backward(_pictured(dy), convolved)  # (b, d, 1, l)
    d_padded = F.conv2d(d_pictures, filters.flip(3), padding=(0, len(taps) - 1), groups=d)
    d_convolved = _unpictured(d_pictures)  # (b, l, d)
    d_taps = [(d_convolved * padded[:, i : i + length]).sum((0, 1)) for i in range(len(taps))]
    return _unpictured(d_padded), torch.stack(d_taps), d_convolved.sum((0, 1))


def _pictured(t: Tensor) -> Tensor:
    """(b, l, d) -> (b, d, 1, l), channels last as it lies."""
    return t.transpose(1, 2).unsqueeze(2)


def _unpictured(t: Tensor) -> Tensor:
    return t.squeeze(2).transpose(1, 2)


def _filters(taps: Tensor) -> Tensor:
    """(K, d) -> (d, 1, 1, K)."""
    return taps.t()[:, None, None]


def _convolve(padded: Tensor, taps: Tensor, bias: Tensor, a: int, e: int) -> Tensor:
    """Rows a .. e of the convolution, before its silu: (b, e - a, d)."""
    y = torch.addcmul(bias, padded[:, a:e], taps[0])
    for i in range(1, len(taps)):
        y.addcmul_(padded[:, a + i : e + i], taps[i])
    return y


def _blocks(rows: int, width: int, device: torch.device) -> Iterator[tuple[int, int]]:
    """0 .. rows in blocks of a bounded number of elements."""
    size = max(1, (_BLOCK_ELEMENTS if device.type == "cpu" else _BLOCK_ELEMENTS_DEVICE) // width)
    for a in range(0, rows, size):
        yield a, min(a + size, rows)
