"""Mamba-2 mixer, one direction or two, with the parameter names of the family's checkpoints.

in_proj packs [z, x, B, C, dt]. Forward branch: conv1d over [x, B, C] -> silu -> scan with (dt_bias, A_log, D) -> gated
norm. The backward branch reads the same projection from the right with its own conv1d_b, dt_bias_b, A_b_log, D_b and
norm_b. The two are added, then out_proj. Equations: h_t = A h_{t-1} + B x_t, y_t = C h_t (method, section 2).
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambamia_cli.compressor import kernels
from mambamia_cli.compressor.layers import GatedRMSNorm

_DT_MIN, _DT_MAX, _DT_FLOOR = 1e-3, 1e-1, 1e-4  # Mamba's range for the step size at the start
_A_MIN, _A_MAX = 1.0, 16.0  # Mamba-2's range for -A at the start


class MixerState(NamedTuple):
    """What one direction hands on to the next piece of a sequence."""

    conv_tail: Tensor  # (b, K - 1, conv width): the last inputs of the convolution
    ssm: Tensor | None  # Mamba-2: (b, h, p, s); Mamba-1: (b, d_inner, s)


class Projection(nn.Linear):
    """A linear layer without bias whose weight may be in fewer bits than its input, which is then rounded to it; the sums are float32's."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor, rows: slice = slice(None)) -> Tensor:
        """x (..., inputs) -> (..., outputs), or those of `rows`, in x's dtype."""
        weight = self.weight[rows]
        if weight.dtype == x.dtype or torch.is_autocast_enabled(x.device.type):
            return F.linear(x, weight)
        return F.linear(x.to(weight.dtype), weight).to(x.dtype)


class Mamba2Mixer(nn.Module):
    """u (b, l, width) -> (b, l, width). d_inner = expand * width must be a whole number of heads."""

    def __init__(
        self,
        width: int,
        *,
        state_size: int = 64,
        head_dim: int = 64,
        expand: float = 2,
        conv_kernel: int = 4,
        chunk_size: int = 64,
        norm_eps: float = 1e-5,
        bidirectional: bool = True,
    ):
        super().__init__()
        self.inner = round(expand * width)
        self.heads, remainder = divmod(self.inner, head_dim)
        if remainder or not self.heads:
            raise ValueError(f"expand * width = {self.inner} must be a multiple of head_dim = {head_dim}")
        self.head_dim, self.state_size, self.chunk_size = head_dim, state_size, chunk_size
        self.bidirectional = bidirectional
        self.conv_width = self.inner + 2 * state_size  # x, B and C pass the convolution together

        self.in_proj = Projection(width, self.inner + self.conv_width + self.heads)
        for suffix in ("", "_b") if bidirectional else ("",):
            conv = nn.Conv1d(self.conv_width, self.conv_width, conv_kernel, groups=self.conv_width)
            setattr(self, f"conv1d{suffix}", conv)
            setattr(self, f"dt_bias{suffix}", nn.Parameter(initial_dt_bias(self.heads)))
            A = torch.empty(self.heads).uniform_(_A_MIN, _A_MAX)
            setattr(self, "A_b_log" if suffix else "A_log", nn.Parameter(A.log()))
            setattr(self, f"D{suffix}", nn.Parameter(torch.ones(self.heads)))
            setattr(self, f"norm{suffix}", GatedRMSNorm(self.inner, norm_eps))
        self.out_proj = Projection(self.inner, width)

    def forward(self, u: Tensor, state: MixerState | None = None, *, every: int = 1) -> Tensor:
        """every: as the scan's, -> (b, l / every, width)."""
        return self._mixed(u, state, every, final=False)[0]

    def forward_with_state(self, u: Tensor, state: MixerState | None = None) -> tuple[Tensor, MixerState]:
        """`state` is the forward direction's, before u; the one after u is returned."""
        return self._mixed(u, state, 1, final=True)

    def _mixed(self, u: Tensor, state: MixerState | None, every: int, *, final: bool) -> tuple[Tensor, MixerState]:
        projected = self.project(u, every)
        y, state = self.branch(projected, state, every=every, final=final)  # (b, l / every, d_inner)
        if self.bidirectional:
            y = y + self.branch(projected, reverse=True, every=every, final=False)[0]
        return self.out_proj(y), state

    def project(self, u: Tensor, every: int = 1, *, gated: bool = True) -> tuple[Tensor | None, Tensor, Tensor]:
        """u (b, l, width) -> gate silu(z) (b, l, d_inner), xBC (b, l, d_inner + 2s), raw dt (b, l, h).

        every: the gate only of the last of so many tokens, (b, l / every, d_inner). gated: False leaves the gate out, None."""
        if gated and every == 1:
            z, xBC, dt = self.in_proj(u).split((self.inner, self.conv_width, self.heads), dim=-1)
            return F.silu(z), xBC, dt
        xBC, dt = self.in_proj(u, slice(self.inner, None)).split((self.conv_width, self.heads), dim=-1)
        gate = F.silu(self.in_proj(u[:, every - 1 :: every], slice(self.inner))) if gated else None
        return gate, xBC, dt

    def branch(
        self, projected: tuple[Tensor | None, Tensor, Tensor], state: MixerState | None = None, *, reverse: bool = False, every: int = 1,
        final: bool = True,
    ) -> tuple[Tensor, MixerState]:  # fmt: skip
        """One direction over a projected piece -> its normed output (b, l, d_inner) and the state it hands on.

        every, as in `project`: the output of the last of so many tokens alone, (b, l / every, d_inner). Projected without a gate,
        it is not normed: `finish` does both. final: as the scan's; False where the state after the piece is not read."""
        gate, xBC, dt = projected
        conv = self.conv1d_b if reverse else self.conv1d
        dt_bias = self.dt_bias_b if reverse else self.dt_bias
        A_log = self.A_b_log if reverse else self.A_log
        D = self.D_b if reverse else self.D
        norm = self.norm_b if reverse else self.norm

        tail, ssm = state if state is not None else (None, None)
        xBC, tail = kernels.conv_silu(xBC, conv.weight, conv.bias, tail=tail, reverse=reverse)
        x, B, C = xBC.split((self.inner, self.state_size, self.state_size), dim=-1)
        y, ssm = kernels.scan(
            x.unflatten(-1, (self.heads, self.head_dim)),  # (b, l, h, p)
            F.softplus(dt.float() + dt_bias.float()),  # (b, l, h)
            -torch.exp(A_log.float()),  # (h,)
            B.unsqueeze(2),  # (b, l, 1, s)
            C.unsqueeze(2),  # (b, l, 1, s)
            D,
            initial_state=ssm,
            chunk_size=self.chunk_size,
            reverse=reverse,
            every=every,
            final=final,
        )
        y = y.flatten(2)  # (b, l, d_inner)
        return (y if gate is None else norm(y, gate)), MixerState(tail, ssm)

    def finish(self, backward: Tensor, gate: Tensor) -> Tensor:
        """What `branch(..., reverse=True)` left without a gate -> its normed output, the same as with one. (b, l, d_inner) each"""
        return self.norm_b(backward, gate)


def initial_dt_bias(size: int) -> Tensor:
    """Biases whose softplus is log-uniform in [1e-3, 1e-1], as Mamba starts its step sizes."""
    log_dt = torch.empty(size).uniform_(math.log(_DT_MIN), math.log(_DT_MAX))
    dt = log_dt.exp().clamp(min=_DT_FLOOR)
    return dt + torch.log(-torch.expm1(-dt))  # the inverse of softplus
