"""Small parts the mixers share: RMS norms and the short depthwise convolution, forward or backward in time."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dim, the rms taken in float32 whatever x is in."""

    def __init__(self, width: int, eps: float = 1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        return F.rms_norm(x.to(wide), x.shape[-1:], None, self.eps).to(x.dtype) * self.weight


class GatedRMSNorm(RMSNorm):
    """Mamba-2's norm before out_proj: the gate goes in first, RMSNorm(y * silu(z))."""

    def forward(self, y: Tensor, gate: Tensor) -> Tensor:
        """y (b, l, d), gate = silu(z) (b, l, d) -> (b, l, d). The gate is shared by both directions."""
        return super().forward(y * gate)


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
    y = _ShiftedConv.apply(padded, taps, bias)  # (b, l, d)
    next_tail = padded[:, : kernel - 1] if reverse else padded[:, padded.shape[1] - kernel + 1 :]
    return F.silu(y), next_tail


class _ShiftedConv(torch.autograd.Function):
    """padded (b, l + K - 1, d), taps (K, d), bias (d,) -> (b, l, d). Own backward: autograd would make a full-size zero
    tensor for each shifted slice."""

    @staticmethod
    def forward(ctx, padded: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(padded, taps)
        length = padded.shape[1] - taps.shape[0] + 1
        y = torch.addcmul(bias, padded[:, :length], taps[0])
        for i in range(1, taps.shape[0]):
            y.addcmul_(padded[:, i : i + length], taps[i])
        return y

    @staticmethod
    def backward(ctx, dy: Tensor):
        padded, taps = ctx.saved_tensors
        length = dy.shape[1]
        d_padded = torch.zeros_like(padded)
        d_taps = torch.empty_like(taps)
        for i in range(taps.shape[0]):
            d_padded[:, i : i + length].addcmul_(dy, taps[i])
            d_taps[i] = (dy * padded[:, i : i + length]).sum((0, 1))
        return d_padded, d_taps, dy.sum((0, 1))
