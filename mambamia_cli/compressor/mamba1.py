"""Mamba-1: the selective scan with one decay a channel and state, and its mixer, named as mamba-ssm names them.

    h_t = exp(dt_t A) * h_{t-1} + dt_t x_t B_t^T        state (d, s), A (d, s), elementwise
    y_t = h_t C_t + D x_t                               output (d,)

Unlike Mamba-2 the decay differs for every element of the state, so a chunk cannot be one masked matrix product: inside
a chunk the recurrence runs token by token, all channels at once, and only chunk boundaries are kept for backward.

Letters: b batch, l length, d inner channels, s state size, r rank of the step size's projection.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambamia_cli.compressor import kernels
from mambamia_cli.compressor.mixer import MixerState, initial_dt_bias


def selective_scan_reference(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    *,
    initial_state: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """x and dt (b, l, d), dt softplus-ed; A (d, s) negative; B and C (b, l, s); D (d,) -> y (b, l, d), state (b, d, s)."""
    b, l, d = x.shape
    wide = torch.promote_types(x.dtype, torch.float32)
    A = A.to(wide)
    state = x.new_zeros(b, d, A.shape[-1], dtype=wide) if initial_state is None else initial_state.to(wide)
    ys: list[Tensor] = [x.new_empty(0)] * l
    for t in reversed(range(l)) if reverse else range(l):
        dt_t = dt[:, t].to(wide).unsqueeze(-1)  # (b, d, 1)
        entering = dt_t * x[:, t].to(wide).unsqueeze(-1) * B[:, t].to(wide).unsqueeze(1)  # (b, d, s)
        state = torch.exp(dt_t * A) * state + entering
        ys[t] = (state @ C[:, t].to(wide).unsqueeze(-1)).squeeze(-1)  # (b, d)
    y = torch.stack(ys, dim=1)
    if D is not None:
        y = y + x.to(wide) * D.to(wide)
    return y.to(x.dtype), state


def selective_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    *,
    initial_state: Tensor | None = None,
    chunk_size: int = 64,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """The same numbers as `selective_scan_reference`, in memory of one chunk: (b, q, d, s) instead of (b, l, d, s)."""
    b, l, d = x.shape
    wide = torch.promote_types(x.dtype, torch.float32)
    s = A.shape[-1]
    state = x.new_zeros(b, d, s, dtype=wide) if initial_state is None else initial_state.to(wide)
    inputs = [t.to(wide) for t in (x, dt, B, C)]
    ys: list[Tensor] = []
    starts = range(0, l, chunk_size)
    for start in reversed(starts) if reverse else starts:
        pieces = [t[:, start : start + chunk_size] for t in inputs]
        y, state = _SelectiveChunk.apply(*pieces, A.to(wide), state, reverse)
        ys.append(y)
    y = torch.cat(ys[::-1] if reverse else ys, dim=1)  # (b, l, d)
    if D is not None:
        y = y + inputs[0] * D.to(wide)
    return y.to(x.dtype), state


class _SelectiveChunk(torch.autograd.Function):
    """One chunk of the selective scan. Saves the state it entered with, recomputes the states inside in backward."""

    @staticmethod
    def _states(x, dt, B, A, state, reverse):
        decay = torch.exp(dt.unsqueeze(-1) * A)  # (b, q, d, s)
        states = (dt * x).unsqueeze(-1) * B.unsqueeze(2)  # (b, q, d, s): what each token adds, then the state after it
        order = range(x.shape[1])
        for t in reversed(order) if reverse else order:
            state = states[:, t].addcmul_(decay[:, t], state)
        return decay, states

    @staticmethod
    def forward(ctx, x, dt, B, C, A, state, reverse):
        _, states = _SelectiveChunk._states(x, dt, B, A, state, reverse)
        ctx.save_for_backward(x, dt, B, C, A, state)
        ctx.reverse = reverse
        y = (states @ C.unsqueeze(-1)).squeeze(-1)  # (b, q, d)
        return y, states[:, 0 if reverse else -1].clone()

    @staticmethod
    def backward(ctx, dy, d_final):
        x, dt, B, C, A, state = ctx.saved_tensors
        decay, states = _SelectiveChunk._states(x, dt, B, A, state, ctx.reverse)
        q = x.shape[1]
        order = list(range(q))
        if ctx.reverse:
            order.reverse()
        d_states = dy.unsqueeze(-1) * C.unsqueeze(2)  # (b, q, d, s), from the outputs alone at first
        flowing = d_final
        for t in reversed(order):  # against the scan's direction
            d_states[:, t] += flowing
            flowing = d_states[:, t] * decay[:, t]
        entered = torch.empty_like(states)  # the state before each token
        entered[:, order[0]] = state
        entered[:, order[1:]] = states[:, order[:-1]]
        d_log_decay = d_states * entered * decay  # (b, q, d, s)
        d_input = (d_states @ B.unsqueeze(-1)).squeeze(-1)  # (b, q, d), gradient of dt * x
        d_dt = (d_log_decay * A).sum(-1) + d_input * x
        d_A = torch.einsum("bqds,bqd->ds", d_log_decay, dt)
        d_B = torch.einsum("bqds,bqd->bqs", d_states, dt * x)
        d_C = torch.einsum("bqds,bqd->bqs", states, dy)
        return d_input * dt, d_dt, d_B, d_C, d_A, flowing, None


class Mamba1Mixer(nn.Module):
    """u (b, l, width) -> (b, l, width), Mamba-1, one direction or two (twins `_b`, sharing in_proj and out_proj)."""

    def __init__(
        self,
        width: int,
        *,
        state_size: int = 16,
        expand: float = 2,
        conv_kernel: int = 4,
        chunk_size: int = 64,
        bidirectional: bool = True,
    ):
        super().__init__()
        self.inner = round(expand * width)
        self.conv_width = self.inner
        self.rank = math.ceil(width / 16)
        self.state_size, self.chunk_size, self.bidirectional = state_size, chunk_size, bidirectional
        self.in_proj = nn.Linear(width, 2 * self.inner, bias=False)  # [x, z]
        for suffix in ("", "_b") if bidirectional else ("",):
            conv = nn.Conv1d(self.inner, self.inner, conv_kernel, groups=self.inner)
            setattr(self, f"conv1d{suffix}", conv)
            setattr(self, f"x_proj{suffix}", nn.Linear(self.inner, self.rank + 2 * state_size, bias=False))
            setattr(self, f"dt_proj{suffix}", self._initial_dt_proj())
            # Mamba starts A at -1..-s in every channel (S4D-real).
            A = torch.arange(1, state_size + 1, dtype=torch.float32).repeat(self.inner, 1)
            setattr(self, "A_b_log" if suffix else "A_log", nn.Parameter(A.log()))
            setattr(self, f"D{suffix}", nn.Parameter(torch.ones(self.inner)))
        self.out_proj = nn.Linear(self.inner, width, bias=False)

    def _initial_dt_proj(self) -> nn.Linear:
        dt_proj = nn.Linear(self.rank, self.inner)
        nn.init.uniform_(dt_proj.weight, -(self.rank**-0.5), self.rank**-0.5)
        with torch.no_grad():
            dt_proj.bias.copy_(initial_dt_bias(self.inner))
        return dt_proj

    def forward(self, u: Tensor) -> Tensor:
        projected = self.project(u)
        y, _ = self.branch(projected)  # (b, l, d_inner)
        if self.bidirectional:
            y = y + self.branch(projected, reverse=True)[0]
        return self.out_proj(y)

    def project(self, u: Tensor, *, gated: bool = True) -> tuple[Tensor | None, Tensor]:
        """u (b, l, width) -> gate silu(z) and x, both (b, l, d_inner). gated: False leaves the gate out, None."""
        if not gated:
            return None, F.linear(u, self.in_proj.weight[: self.inner])
        x, z = self.in_proj(u).chunk(2, dim=-1)
        return F.silu(z), x

    def branch(
        self, projected: tuple[Tensor | None, Tensor], state: MixerState | None = None, *, reverse: bool = False
    ) -> tuple[Tensor, MixerState]:
        """One direction over a projected piece -> its gated output (b, l, d_inner) and the state it hands on. Projected without
        a gate, it is not gated: `finish` does that."""
        gate, x = projected
        suffix = "_b" if reverse else ""
        conv, x_proj, dt_proj, D = (getattr(self, name + suffix) for name in ("conv1d", "x_proj", "dt_proj", "D"))
        A_log = self.A_b_log if reverse else self.A_log
        tail, ssm = state if state is not None else (None, None)
        x, tail = kernels.conv_silu(x, conv.weight, conv.bias, tail=tail, reverse=reverse)
        dt, B, C = x_proj(x).split((self.rank, self.state_size, self.state_size), dim=-1)
        y, ssm = selective_scan(
            x,  # (b, l, d)
            F.softplus(dt_proj(dt).float()),  # (b, l, d)
            -torch.exp(A_log.float()),  # (d, s)
            B,  # (b, l, s)
            C,  # (b, l, s)
            D,
            initial_state=ssm,
            chunk_size=self.chunk_size,
            reverse=reverse,
        )
        return (y if gate is None else y * gate), MixerState(tail, ssm)

    def finish(self, backward: Tensor, gate: Tensor) -> Tensor:
        """What `branch(..., reverse=True)` left without a gate -> its gated output. (b, l, d_inner) each"""
        return backward * gate
