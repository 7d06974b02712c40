"""The chunked form of the scan (Mamba-2 paper, section 6) on one block of chunks, and its gradient.

Steps 1 to 4 are those of the paper's listing 1; step 3 is a loop over chunks, so that everything is linear in l.
Letters: b batch, c chunks of the block, q tokens a chunk, h heads, p head dim, s state size. i and j are tokens of one
chunk; "j after i" is meant along the scan, which runs right to left when `reverse`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

# Elements of a block's (b, c, h, q, q) matrices. On a CPU a few of them stay in a core's cache; elsewhere they are only
# kept from filling the device's memory: a few times 256 MiB, where all chunks of the paper's sizes would take 10 GiB.
_BLOCK_ELEMENTS = 1 << 18
_BLOCK_ELEMENTS_DEVICE = 1 << 26


class Block(NamedTuple):
    """Tokens start .. start + chunks * size of the sequence, as whole chunks."""

    start: int
    chunks: int
    size: int

    def of(self, t: Tensor) -> Tensor:
        """View (b, l, ...) -> (b, c, q, ...)."""
        return t[:, self.start : self.start + self.chunks * self.size].unflatten(1, (self.chunks, self.size))


def split_blocks(x: Tensor, chunk_size: int) -> list[Block]:
    """Cut x (b, l, h, p) into blocks of whole chunks; what is left over is one shorter chunk, so nothing is padded."""
    b, l, h, _ = x.shape
    whole, rest = divmod(l, chunk_size)
    a_block = max(1, _elements(x) // (b * h * chunk_size**2))
    blocks = [Block(i * chunk_size, min(a_block, whole - i), chunk_size) for i in range(0, whole, a_block)]
    return blocks + ([Block(whole * chunk_size, 1, rest)] if rest else [])


def sequences_a_block(x: Tensor) -> int:
    """How many sequences x (b, l, h, p), each of them one chunk, go through a block."""
    return max(1, _elements(x) // (x.shape[2] * x.shape[1] ** 2))


def _elements(x: Tensor) -> int:
    return _BLOCK_ELEMENTS if x.device.type == "cpu" else _BLOCK_ELEMENTS_DEVICE


def block_forward(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, reverse: bool, every: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """x (b, c, q, h, p), dt (b, c, q, h), A (h,), B and C (b, c, q, s), state (b, h, p, s) before the block.

    Returns y (b, c, q, h, p) without the skip, the states entering each chunk (b, c, h, p, s), the state after the block.
    every: y only at the last of so many tokens, (b, c, q / every, h, p).
    """
    b, c, _, h, p = x.shape
    rows = slice(every - 1, None, every)
    x, B, C = (t.to(dt.dtype) for t in (x, B, C))
    log_decay, total = _log_decays(dt, A, reverse)  # (b, c, q, h), (b, c, h)

    # Step 1.
    C = C[:, :, rows]  # (b, c, q', s), q' = q / every
    y_inside = _inside(x, dt, B, C, log_decay, reverse, rows)

    # Step 2. What each chunk adds to the state: sum_j exp(total - log_decay_j) dt_j x_j B_j^T.
    to_exit = dt * torch.exp(total.unsqueeze(2) - log_decay)  # (b, c, q, h)
    added = _flat(x * to_exit.unsqueeze(-1)).transpose(-1, -2) @ B  # (b, c, h*p, s)
    added = added.view(b, c, h, p, -1)

    # Step 3. The state entering each chunk, one after the other.
    decay = torch.exp(total)[..., None, None]  # (b, c, h, 1, 1)
    entering = torch.empty_like(added)
    for i in reversed(range(c)) if reverse else range(c):
        entering[:, i] = state
        state = torch.addcmul(added[:, i], decay[:, i], state)

    # Step 4. What the entering state gives: y_i += exp(log_decay_i) h_entering C_i.
    y = (C @ entering.flatten(2, 3).transpose(-1, -2)).view(b, c, -1, h, p)
    torch.addcmul(y_inside.transpose(2, 3), y, torch.exp(log_decay[:, :, rows]).unsqueeze(-1), out=y)
    return y, entering, state


def block_backward(
    x: Tensor, dt: Tensor, B: Tensor, C: Tensor, y: Tensor, dy: Tensor, A: Tensor, D: Tensor | None, entering: Tensor, d_state: Tensor,
    reverse: bool,
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor | None], Tensor]:  # fmt: skip
    """Gradient of `block_forward` with its skip. y, dy (b, c, q, h, p); entering (b, c, h, p, s); d_state (b, h, p, s) of
    the state after the block. Returns (dx, d_dt, dB, dC), (dA (h,), dD (h,)) and d_state of the state before the block.

    log_decay_i scales all of y_i (without the skip), and divides what token j gives to others; so its gradient needs no
    q x q matrix: dy_i . y_i - (dt_j x_j) . d(dt_j x_j).
    """
    b, c, q, h, p = x.shape
    x, B, C, y, dy = (t.to(dt.dtype) for t in (x, B, C, y, dy))
    log_decay, total = _log_decays(dt, A, reverse)

    dy_x, d_log = _skip_and_decays(x, y, dy, D)

    # Step 1.
    dx_inside, d_scores = _inside_backward(x, dt, B, C, dy, log_decay, reverse)

    # Step 4.
    dy_entered = _flat(dy * torch.exp(log_decay).unsqueeze(-1))  # (b, c, q, h*p)
    dC = dy_entered @ entering.flatten(2, 3)  # (b, c, q, s)
    dC.add_(d_scores @ B)
    d_entering = (dy_entered.transpose(-1, -2) @ C).view_as(entering)  # (b, c, h, p, s)

    # Step 3.
    decay = torch.exp(total)  # (b, c, h)
    d_added = torch.empty_like(entering)
    for i in range(c) if reverse else reversed(range(c)):
        d_added[:, i] = d_state
        d_state = torch.addcmul(d_entering[:, i], decay[:, i, :, None, None], d_state)
    d_total = decay * torch.einsum("bchps,bchps->bch", d_added, entering)

    # Step 2.
    exit_decay = torch.exp(total.unsqueeze(2) - log_decay)  # (b, c, q, h)
    to_exit = dt * exit_decay
    d_added = d_added.flatten(2, 3)  # (b, c, h*p, s)
    dB = _flat(x * to_exit.unsqueeze(-1)) @ d_added  # (b, c, q, s)
    dB.add_(d_scores.transpose(-1, -2) @ C)
    dx_exit = (B @ d_added.transpose(-1, -2)).view(b, c, q, h, p)  # of exit_decay_j dt_j x_j

    # Together: what left token j inside the chunk (step 1) and at its exit (step 2).
    inside = (x * dx_inside).sum(-1)  # (b, c, q, h)
    at_exit = (x * dx_exit).sum(-1) * exit_decay  # (b, c, q, h)
    dx = dx_exit.mul_(to_exit.unsqueeze(-1)).addcmul_(dx_inside, dt.unsqueeze(-1))
    if D is not None:
        dx.addcmul_(dy, D.to(dt.dtype).unsqueeze(-1))
    d_dt = inside + at_exit
    d_log -= dt * d_dt
    d_total += (dt * at_exit).sum(2)

    d_decay, dA = _through_decays(d_log, d_total, dt, A, reverse)
    return (dx, d_dt.add_(d_decay), dB, dC), (dA, None if D is None else dy_x.sum((0, 1, 2))), d_state


def chunk_forward(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, reverse: bool, every: int = 1) -> Tensor:
    """`block_forward` of one chunk with nothing before it and nothing after it: step 1 alone. y (b, 1, q / every, h, p) without the
    skip."""
    rows = slice(every - 1, None, every)
    x, B, C = (t.to(dt.dtype) for t in (x, B, C))
    return _inside(x, dt, B, C[:, :, rows], _log_decays(dt, A, reverse)[0], reverse, rows).transpose(2, 3)


def chunk_backward(
    x: Tensor, dt: Tensor, B: Tensor, C: Tensor, y: Tensor, dy: Tensor, A: Tensor, D: Tensor | None, reverse: bool, every: int = 1
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor | None]]:
    """Gradient of `chunk_forward` with its skip: `block_backward` without states. y, dy (b, 1, q / every, h, p)."""
    rows = slice(every - 1, None, every)
    x, B, C, y, dy = (t.to(dt.dtype) for t in (x, B, C, y, dy))
    log_decay, total = _log_decays(dt, A, reverse)
    dy_x, d_log_rows = _skip_and_decays(x[:, :, rows], y, dy, D)
    dx_inside, d_scores = _inside_backward(x, dt, B, C[:, :, rows], dy, log_decay, reverse, rows)  # of dt_j x_j, (b, 1, q', q)
    d_dt = (x * dx_inside).sum(-1)  # (b, 1, q, h)
    dx = dx_inside * dt.unsqueeze(-1)
    if D is not None:
        dx[:, :, rows].addcmul_(dy, D.to(dt.dtype).unsqueeze(-1))
    d_log = -dt * d_dt
    d_log[:, :, rows] += d_log_rows
    d_decay, dA = _through_decays(d_log, torch.zeros_like(total), dt, A, reverse)
    dB, dC = d_scores.transpose(-1, -2) @ C[:, :, rows], torch.zeros_like(C)
    dC[:, :, rows] = d_scores @ B
    return (dx, d_dt.add_(d_decay), dB, dC), (dA, None if D is None else dy_x.sum((0, 1, 2)))


def _inside(x: Tensor, dt: Tensor, B: Tensor, C: Tensor, log_decay: Tensor, reverse: bool, rows: slice = slice(None)) -> Tensor:
    """Step 1, inside a chunk: y_i = sum_j (C_i . B_j) exp(log_decay_i - log_decay_j) dt_j x_j over the j not after i.

    C (b, c, q', s) of the tokens i that `rows` names. -> (b, c, h, q', p)."""
    scores = C @ B.transpose(-1, -2)  # (b, c, q', q), shared by all heads
    weights = _decay_matrix(log_decay, reverse, rows).mul_(scores.unsqueeze(2))  # (b, c, h, q', q)
    return weights @ _by_head(x, dt)


def _inside_backward(
    x: Tensor, dt: Tensor, B: Tensor, C: Tensor, dy: Tensor, log_decay: Tensor, reverse: bool, rows: slice = slice(None)
) -> tuple[Tensor, Tensor]:
    """Step 1's gradients of dt_j x_j (b, c, q, h, p) and of the scores C_i . B_j (b, c, q', q). C and dy of `rows`, as in `_inside`."""
    scores = C @ B.transpose(-1, -2)  # (b, c, q', q)
    decays = _decay_matrix(log_decay, reverse, rows)  # (b, c, h, q', q)
    dy_heads = _by_head(dy)  # (b, c, h, q', p)
    d_scores = dy_heads @ _by_head(x, dt).transpose(-1, -2)  # (b, c, h, q', q)
    d_scores = d_scores.mul_(decays).sum(2)  # (b, c, q', q)
    weights = decays.mul_(scores.unsqueeze(2))
    return (weights.transpose(-1, -2) @ dy_heads).transpose(2, 3), d_scores


def _skip_and_decays(x: Tensor, y: Tensor, dy: Tensor, D: Tensor | None) -> tuple[Tensor, Tensor]:
    """dy_i . x_i, D's gradient token by token, and that of what log_decay_i scales: all of y_i but the skip. (b, c, q, h) each."""
    dy_x, d_log = (dy * x).sum(-1), (dy * y).sum(-1)
    if D is not None:
        d_log -= dy_x * D.to(dy.dtype)
    return dy_x, d_log


def _through_decays(d_log: Tensor, d_total: Tensor, dt: Tensor, A: Tensor, reverse: bool) -> tuple[Tensor, Tensor]:
    """Gradients of log_decay (b, c, q, h) and of its end (b, c, h) -> of dt (b, c, q, h) and A (h,). log_decay is the cumulative
    sum of dt A, so its gradient comes back as the sum from the other side."""
    d_log[:, :, 0 if reverse else -1] += d_total
    d_log = _cumsum(d_log, not reverse)
    return d_log * A, (d_log * dt).sum((0, 1, 2))


def _log_decays(dt: Tensor, A: Tensor, reverse: bool) -> tuple[Tensor, Tensor]:
    """Logarithms of the decay from the chunk's entry to each token, that token included (b, c, q, h), and to its exit
    (b, c, h). Never positive."""
    log_decay = _cumsum(dt * A, reverse)
    return log_decay, log_decay[:, :, 0 if reverse else -1]


def _decay_matrix(log_decay: Tensor, reverse: bool, which: slice = slice(None)) -> Tensor:
    """log_decay (b, c, q, h) -> L (b, c, h, q', q), L_ij = decay from token j to token i of `which`, 0 where j comes after i.

    The mask goes in before exp: the differences it hides are positive and would overflow to inf, and to nan later.
    """
    q = log_decay.shape[2]
    hidden = torch.full((q, q), float("-inf"), dtype=log_decay.dtype, device=log_decay.device)
    hidden = hidden.tril(-1) if reverse else hidden.triu(1)  # (q, q), -inf where j comes after i, else 0
    rows = log_decay.transpose(2, 3).contiguous()  # (b, c, h, q)
    return torch.sub(rows[..., which].unsqueeze(-1), rows.unsqueeze(-2)).add_(hidden[which]).exp_()


def _cumsum(a: Tensor, reverse: bool) -> Tensor:
    """Inclusive cumulative sum over a chunk's tokens (dim 2), from the side the scan enters at."""
    return a.flip(2).cumsum(2).flip(2) if reverse else a.cumsum(2)


def _by_head(t: Tensor, scale: Tensor | None = None) -> Tensor:
    """t (b, c, q, h, p), times scale (b, c, q, h) -> contiguous (b, c, h, q, p), in one pass."""
    if scale is None:
        return t.transpose(2, 3).contiguous()
    b, c, q, h, p = t.shape
    return torch.mul(t.transpose(2, 3), scale.transpose(2, 3).unsqueeze(-1), out=t.new_empty(b, c, h, q, p))


def _flat(t: Tensor) -> Tensor:
    """(b, c, q, h, p) -> (b, c, q, h*p)."""
    return t.flatten(3)
