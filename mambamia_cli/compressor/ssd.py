"""The state-space scan of Mamba-2 (state-space duality, SSD), forward or backward in time, in plain torch.

The recurrence (method, section 2; Mamba-2 paper, equation 1, discretised), for each head with scalar decay:

    h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t^T          state  (p, s)
    y_t = h_t C_t + D x_t                               output (p,)

`ssd_reference` is that, token by token. `ssd_step` is one token of it. `ssd_scan` gives the same numbers in chunks of
matrix products, linear in the length in time and in memory. In all three `dt` is already softplus-ed and is *not*
folded into `x` or `A`: the functions do that.

Letters: b batch, l length, h heads, p head dim, s state size, c chunks, q tokens a chunk. The four steps of a chunk are in
ssd_block.py.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mambamia_cli.compressor.ssd_block import (
    block_backward,
    block_forward,
    chunk_backward,
    chunk_forward,
    sequences_a_block,
    split_blocks,
)


def ssd_scan(
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
    every: int = 1,
    final: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """Scan a sequence chunk by chunk; exact for any length l >= 1 and any chunk size.

    x (b, l, h, p); dt (b, l, h), softplus-ed; A (h,), negative; B and C (b, l, 1, s); D (h,) skip weight or None.
    initial_state (b, h, p, s): the state before the first token (after the last one when `reverse`); zeros when None.
    reverse: run right to left. Nothing is flipped: outputs stand at their inputs' places.
    every: compute y only at the last of so many tokens, (b, l / every, h, p); l is a multiple of it. Without gradients, but for
    sequences of one chunk whose states nobody reads.
    final: False where nobody reads the state after the scan, which may then be None. Many sequences of one chunk each, single
    frames say, are twice as quick without states.
    Returns y (b, l, h, p) in x's dtype and final_state (b, h, p, s) in float32 (float64 for float64 inputs), which is
    the next piece's initial_state. Raises ValueError for shapes that do not fit.
    """
    _check_shapes(x, dt, A, B, C, initial_state)
    wide = torch.promote_types(x.dtype, torch.float32)
    if x.shape[1] % every:
        raise ValueError(f"the length {x.shape[1]} is no multiple of every = {every}")
    if initial_state is None and not final and x.shape[1] <= chunk_size:
        with torch.autocast(x.device.type, enabled=False):
            return _SSDChunk.apply(x, dt.to(wide), A.to(wide), B.squeeze(2), C.squeeze(2), D, reverse, every), None
    if initial_state is None:
        initial_state = x.new_zeros(x.shape[0], *x.shape[2:], B.shape[-1], dtype=wide)
    # Decays are products of hundreds of factors near 1: they are computed in float32 whatever x is in.
    dt, A, initial_state = dt.to(wide), A.to(wide), initial_state.to(wide)
    with torch.autocast(x.device.type, enabled=False):  # which would take the float32 states down to 16 bits
        if every > 1:
            return _scan_some(x, dt, A, B.squeeze(2), C.squeeze(2), D, initial_state, chunk_size, reverse, every)
        return _SSDScan.apply(x, dt, A, B.squeeze(2), C.squeeze(2), D, initial_state, chunk_size, reverse)


def ssd_reference(
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
    """The recurrence itself, token by token: the slow truth `ssd_scan` is tested against. Same shapes and errors."""
    _check_shapes(x, dt, A, B, C, initial_state)
    b, l, h, p = x.shape
    wide = torch.promote_types(x.dtype, torch.float32)
    state = x.new_zeros(b, h, p, B.shape[-1], dtype=wide) if initial_state is None else initial_state.to(wide)
    ys: list[Tensor] = [x.new_empty(0)] * l
    for t in reversed(range(l)) if reverse else range(l):
        ys[t], state = ssd_step(x[:, t], dt[:, t], A, B[:, t], C[:, t], D, state=state)
    return torch.stack(ys, dim=1), state


def ssd_step(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None, *, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One token: x (b, h, p), dt (b, h) softplus-ed, A (h,), B and C (b, 1, s), state (b, h, p, s) -> y (b, h, p), state."""
    wide = state.dtype
    x_w, dt_w = x.to(wide), dt.to(wide)
    decay = torch.exp(dt_w * A.to(wide))[..., None, None]  # (b, h, 1, 1)
    entering = (x_w * dt_w.unsqueeze(-1)).unsqueeze(-1) * B.to(wide).unsqueeze(2)  # (b, h, p, s)
    state = decay * state + entering
    y = (state * C.to(wide).unsqueeze(2)).sum(-1)  # (b, h, p)
    if D is not None:
        y = y + x_w * D.to(wide).unsqueeze(-1)
    return y.to(x.dtype), state


@torch.no_grad()
def _scan_some(x, dt, A, B, C, D, state, chunk_size, reverse, every) -> tuple[Tensor, Tensor]:
    """The scan with outputs at the last of every `every` tokens only: what no one reads is not computed."""
    blocks = split_blocks(x, max(1, chunk_size // every) * every)
    y = torch.empty(x.shape[0], x.shape[1] // every, *x.shape[2:], dtype=x.dtype, device=x.device)  # (b, l / every, h, p)
    for block in reversed(blocks) if reverse else blocks:
        x_c, dt_c, B_c, C_c = (block.of(t) for t in (x, dt, B, C))  # (b, c, q, ...)
        y_c, _, state = block_forward(x_c, dt_c, A, B_c, C_c, state, reverse, every)
        if D is not None:
            y_c.addcmul_(x_c[:, :, every - 1 :: every], D.to(y_c.dtype).unsqueeze(-1))
        y[:, block.start // every :][:, : y_c.shape[1] * y_c.shape[2]].copy_(y_c.flatten(1, 2))
    return y, state


class _SSDScan(torch.autograd.Function):
    """The scan over blocks of chunks: a block's q x q matrices stay in the cache, and working memory does not grow with l.

    Backward (ssd_block.block_backward) walks the blocks the other way and recomputes what it needs from the inputs, the
    outputs and the state that entered each chunk.
    """

    @staticmethod
    def forward(ctx, x, dt, A, B, C, D, state, chunk_size, reverse):
        blocks = split_blocks(x, chunk_size)
        y = torch.empty(x.shape, dtype=x.dtype, device=x.device)  # (b, l, h, p)
        entering = []
        for block in reversed(blocks) if reverse else blocks:
            x_c, dt_c, B_c, C_c = (block.of(t) for t in (x, dt, B, C))  # (b, c, q, ...)
            y_c, states, state = block_forward(x_c, dt_c, A, B_c, C_c, state, reverse)
            if D is not None and y.dtype == y_c.dtype:
                torch.addcmul(y_c, x_c, D.to(y_c.dtype).unsqueeze(-1), out=block.of(y))  # the skip and the copy in one pass
            else:
                block.of(y).copy_(y_c if D is None else y_c.addcmul_(x_c, D.to(y_c.dtype).unsqueeze(-1)))
            entering.append(states)  # (b, c, h, p, s)
        ctx.save_for_backward(x, dt, A, B, C, D, y, *entering)
        ctx.blocks, ctx.reverse = blocks, reverse
        return y, state

    @staticmethod
    @once_differentiable
    def backward(ctx, dy, d_state):
        x, dt, A, B, C, D, y, *entering = ctx.saved_tensors
        dx, d_dt = torch.empty_like(x), torch.empty_like(dt)
        dB, dC = torch.empty_like(B), torch.empty_like(C)
        dA = torch.zeros_like(A)
        dD = None if D is None else torch.zeros_like(A)
        blocks = ctx.blocks if ctx.reverse else ctx.blocks[::-1]  # against the scan's direction
        for block, states in zip(blocks, reversed(entering), strict=True):
            inputs = [block.of(t) for t in (x, dt, B, C, y, dy)]
            grads, (dA_c, dD_c), d_state = block_backward(*inputs, A, D, states, d_state, ctx.reverse)
            for whole, part in zip((dx, d_dt, dB, dC), grads, strict=True):
                block.of(whole).copy_(part)
            dA += dA_c
            if D is not None:
                dD += dD_c
        return dx, d_dt, dA, dB, dC, None if D is None else dD.to(D.dtype), d_state, None, None


class _SSDChunk(torch.autograd.Function):
    """The scan of sequences of one chunk each, no state before and none after; a few sequences at a time, as _SSDScan's blocks."""

    @staticmethod
    def forward(ctx, x, dt, A, B, C, D, reverse, every):
        y = torch.empty(x.shape[0], x.shape[1] // every, *x.shape[2:], dtype=x.dtype, device=x.device)  # (b, l / every, h, p)
        ctx.save_for_backward(x, dt, A, B, C, D, y)
        ctx.reverse, ctx.every = reverse, every
        for x_c, dt_c, B_c, C_c, out in _sequences(x, dt, B, C, y):
            y_c = chunk_forward(x_c, dt_c, A, B_c, C_c, reverse, every)
            if D is not None:
                y_c = torch.addcmul(y_c, x_c[:, :, every - 1 :: every].to(y_c.dtype), D.to(y_c.dtype).unsqueeze(-1))
            out.copy_(y_c)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, dt, A, B, C, D, y = ctx.saved_tensors
        grads = dx, d_dt, dB, dC = [torch.empty_like(t) for t in (x, dt, B, C)]
        dA, dD = torch.zeros_like(A), None if D is None else torch.zeros_like(A)
        for *inputs, dx_c, d_dt_c, dB_c, dC_c in _sequences(x, dt, B, C, y, dy, *grads):
            parts, (dA_c, dD_c) = chunk_backward(*inputs, A, D, ctx.reverse, ctx.every)
            for whole, part in zip((dx_c, d_dt_c, dB_c, dC_c), parts, strict=True):
                whole.copy_(part)
            dA += dA_c
            if D is not None:
                dD += dD_c
        return dx, d_dt, dA, dB, dC, None if D is None else dD.to(D.dtype), None, None


def _sequences(x: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Tensors (b, l, ...) a few sequences at a time, each as one chunk (b', 1, l, ...)."""
    some = sequences_a_block(x)
    for a in range(0, len(x), some):
        yield tuple(t[a : a + some].unsqueeze(1) for t in (x, *others))


def _check_shapes(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, initial_state: Tensor | None) -> None:
    if x.dim() != 4 or x.shape[1] < 1:
        raise ValueError(f"x must be (b, l >= 1, h, p), got {tuple(x.shape)}")
    b, l, h, p = x.shape
    s = B.shape[-1]
    expected = {"dt": (dt, (b, l, h)), "A": (A, (h,)), "B": (B, (b, l, 1, s)), "C": (C, (b, l, 1, s))}
    if initial_state is not None:
        expected["initial_state"] = (initial_state, (b, h, p, s))
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must be {shape} beside x {tuple(x.shape)}, got {tuple(tensor.shape)}")
