"""The state-space scan of Mamba-2 (state-space duality, SSD), forward or backward in time, in plain torch.

The recurrence (method, section 2; Mamba-2 paper, equation 1, discretised), for each head with scalar decay:

    h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t^T          state  (p, s)
    y_t = h_t C_t + D x_t                               output (p,)

`ssd_reference` is that, token by token. `ssd_step` is one token of it. `ssd_scan` gives the same numbers in chunks of
matrix products, linear in the length in time and in memory. In all three `dt` is already softplus-ed and is *not*
folded into `x` or `A`: the functions do that.

Letters: b batch, l length, h heads, p head dim, s state size, c chunks, q tokens a chunk.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


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
) -> tuple[Tensor, Tensor]:
    """Scan a sequence chunk by chunk; exact for any length l >= 1 and any chunk size.

    x (b, l, h, p); dt (b, l, h), softplus-ed; A (h,), negative; B and C (b, l, 1, s); D (h,) skip weight or None.
    initial_state (b, h, p, s): the state before the first token (after the last one when `reverse`); zeros when None.
    reverse: run right to left. Nothing is flipped: outputs stand at their inputs' places.
    Returns y (b, l, h, p) in x's dtype and final_state (b, h, p, s) in float32 (float64 for float64 inputs), which is
    the next piece's initial_state. Raises ValueError for shapes that do not fit.
    """
    _check_shapes(x, dt, A, B, C, initial_state)
    b, l, h, p = x.shape
    s = B.shape[-1]
    q = min(chunk_size, l)
    c = -(-l // q)  # ceil

    # Decays are products of hundreds of factors near 1: their logarithms are summed in float32 whatever x is in.
    wide = torch.promote_types(x.dtype, torch.float32)
    dt = dt.to(wide)  # (b, l, h)

    # Padding tokens have dt = 0: decay exp(0) = 1 and no input, so the state passes through them untouched.
    x_c = _chunks(x, c, q)  # (b, c, q, h, p)
    dt_c = _chunks(dt, c, q)  # (b, c, q, h)
    B_c = _chunks(B.squeeze(2), c, q)  # (b, c, q, s)
    C_c = _chunks(C.squeeze(2), c, q)  # (b, c, q, s)

    # log_decay_t: logarithm of the decay from the chunk's entry to token t, t included. Never positive.
    log_decay = _cumsum(dt_c * A.to(wide), reverse)  # (b, c, q, h)
    total = log_decay[:, :, 0 if reverse else -1]  # (b, c, h), the whole chunk's

    # Step 1. Inside a chunk: y_i += sum_j (C_i . B_j) exp(log_decay_i - log_decay_j) dt_j x_j over the tokens j not after i.
    scores = C_c @ B_c.transpose(-1, -2)  # (b, c, q, q), shared by all heads
    weights = _decay_matrix(log_decay, reverse) * scores.unsqueeze(2)  # (b, c, h, q, q)
    x_dt = x_c * dt_c.to(x.dtype).unsqueeze(-1)  # (b, c, q, h, p)
    y_inside = weights.to(x.dtype) @ x_dt.transpose(2, 3)  # (b, c, h, q, p)

    # Step 2. What each chunk adds to the state: sum_j exp(total - log_decay_j) dt_j x_j B_j^T.
    to_exit = torch.exp(total.unsqueeze(2) - log_decay)  # (b, c, q, h)
    x_exit = (x_dt * to_exit.to(x.dtype).unsqueeze(-1)).flatten(3)  # (b, c, q, h*p)
    added = x_exit.transpose(-1, -2) @ B_c  # (b, c, h*p, s)
    added = added.view(b, c, h, p, s).to(wide)

    # Step 3. The state entering each chunk: one pass over the c chunks.
    if initial_state is None:
        initial_state = x.new_zeros(b, h, p, s, dtype=wide)
    entering, final_state = _ChunkRecurrence.apply(added, torch.exp(total), initial_state.to(wide), reverse)

    # Step 4. What the entering state gives: y_i += exp(log_decay_i) h_enter C_i.
    y_entered = C_c @ entering.to(x.dtype).flatten(2, 3).transpose(-1, -2)  # (b, c, q, h*p)
    y = y_entered.view(b, c, q, h, p) * torch.exp(log_decay).to(x.dtype).unsqueeze(-1)  # (b, c, q, h, p)

    y = (y + y_inside.transpose(2, 3)).reshape(b, c * q, h, p)[:, :l]  # (b, l, h, p)
    if D is not None:
        y = y + x * D.to(x.dtype).unsqueeze(-1)
    return y, final_state


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


class _ChunkRecurrence(torch.autograd.Function):
    """state_{i+1} = decay_i state_i + added_i over the chunks, linear in their number.

    added (b, c, h, p, s), decay (b, c, h), initial (b, h, p, s) -> entering (b, c, h, p, s), final (b, h, p, s).
    Written with its own backward because autograd would keep a graph node and two tensors for every chunk.
    """

    @staticmethod
    def forward(ctx, added: Tensor, decay: Tensor, initial: Tensor, reverse: bool) -> tuple[Tensor, Tensor]:
        decays = decay[..., None, None].unbind(1)  # c x (b, h, 1, 1)
        entering = torch.empty_like(added)
        state = initial
        order = range(added.shape[1])
        for i in reversed(order) if reverse else order:
            entering[:, i] = state
            state = torch.addcmul(added[:, i], decays[i], state)
        ctx.save_for_backward(entering, decay)
        ctx.reverse = reverse
        return entering, state

    @staticmethod
    def backward(ctx, d_entering: Tensor, d_final: Tensor):
        entering, decay = ctx.saved_tensors
        decays = decay[..., None, None].unbind(1)
        d_added = torch.empty_like(entering)
        d_state = d_final
        order = range(entering.shape[1])
        for i in order if ctx.reverse else reversed(order):  # against the scan's direction
            d_added[:, i] = d_state
            d_state = torch.addcmul(d_entering[:, i], decays[i], d_state)
        d_decay = (d_added * entering).sum((-1, -2))  # (b, c, h)
        return d_added, d_decay, d_state, None


def _decay_matrix(log_decay: Tensor, reverse: bool) -> Tensor:
    """log_decay (b, c, q, h) -> L (b, c, h, q, q), L_ij = decay from token j to token i, 0 where j comes after i.

    The mask goes in before exp: the differences it hides are positive and would overflow to inf (and nan in backward).
    """
    rows = log_decay.transpose(2, 3)  # (b, c, h, q)
    q = rows.shape[-1]
    ones = torch.ones(q, q, dtype=torch.bool, device=rows.device)
    after = ones.tril(-1) if reverse else ones.triu(1)  # (q, q), True where j comes after i
    difference = rows.unsqueeze(-1) - rows.unsqueeze(-2)  # (b, c, h, q, q)
    return torch.exp(difference.masked_fill_(after, float("-inf")))


def _cumsum(a: Tensor, reverse: bool) -> Tensor:
    """Inclusive cumulative sum over a chunk's tokens (dim 2), from the side the scan enters at."""
    return a.flip(2).cumsum(2).flip(2) if reverse else a.cumsum(2)


def _chunks(t: Tensor, c: int, q: int) -> Tensor:
    """(b, l, ...) -> (b, c, q, ...), zero-padded at the end."""
    missing = c * q - t.shape[1]
    if missing:
        t = F.pad(t, (0, 0) * (t.dim() - 2) + (0, missing))
    return t.unflatten(1, (c, q))


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
