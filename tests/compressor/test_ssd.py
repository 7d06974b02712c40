"""The chunked scan against the token-by-token recurrence: outputs, states, gradients, splits, both directions."""

import pytest
import torch

from mambamia_cli.compressor.ssd import ssd_reference, ssd_scan, ssd_step

DIRECTIONS = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "backward"])


def inputs(l, *, b=2, h=3, p=8, s=5, seed=0, dtype=torch.float32):
    """Random x, dt, A, B, C, D and an initial state. dt and A span Mamba-2's own range of decays and more."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(b, l, h, p, generator=g)
    dt = torch.rand(b, l, h, generator=g) * 0.2
    A = -torch.rand(h, generator=g) * 8
    B, C = (torch.randn(b, l, 1, s, generator=g) for _ in range(2))
    D, state = torch.randn(h, generator=g), torch.randn(b, h, p, s, generator=g)
    return [t.to(dtype) for t in (x, dt, A, B, C, D, state)]


@DIRECTIONS
@pytest.mark.parametrize("chunk_size", [1, 3, 16, 64, 256])
@pytest.mark.parametrize("l", [1, 2, 63, 64, 65, 131])
def test_scan_equals_reference(l, chunk_size, reverse):
    *args, state = inputs(l)
    y, final = ssd_scan(*args, initial_state=state, chunk_size=chunk_size, reverse=reverse)
    y_ref, final_ref = ssd_reference(*args, initial_state=state, reverse=reverse)
    assert y.shape == y_ref.shape and final.shape == state.shape
    torch.testing.assert_close(y, y_ref, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(final, final_ref, atol=1e-5, rtol=1e-5)


@DIRECTIONS
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize(("l", "chunk_size"), [(37, 8), (64, 64), (65, 16), (5, 64)])
def test_gradients_equal_reference(l, chunk_size, with_state, reverse):
    args = [t.requires_grad_() for t in inputs(l, dtype=torch.float64)]
    state = args[-1] if with_state else None
    wanted = args if with_state else args[:-1]
    g = torch.Generator().manual_seed(1)
    grads = []
    for scan in (lambda *a, **k: ssd_scan(*a, chunk_size=chunk_size, **k), ssd_reference):
        y, final = scan(*args[:-1], initial_state=state, reverse=reverse)
        g.manual_seed(1)
        loss = (y * torch.randn(y.shape, generator=g)).sum() + (final * torch.randn(final.shape, generator=g)).sum()
        grads.append(torch.autograd.grad(loss, wanted))
    for ours, reference in zip(*grads, strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-10, rtol=1e-10)


@DIRECTIONS
def test_gradients_in_float32(reverse):
    args = [t.requires_grad_() for t in inputs(131)]
    grads = []
    for scan in (ssd_scan, ssd_reference):
        y, final = scan(*args[:-1], initial_state=args[-1], reverse=reverse)
        grads.append(torch.autograd.grad(y.square().mean() + final.square().mean(), args))
    for ours, reference in zip(*grads, strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-5, rtol=1e-5)


@DIRECTIONS
@pytest.mark.parametrize("split", [1, 2, 30, 64, 99])
def test_split_points_hand_the_state_on(split, reverse):
    *args, state = inputs(100)
    whole, final = ssd_scan(*args, initial_state=state, chunk_size=16, reverse=reverse)
    x, dt, A, B, C, D = args
    pieces = [slice(0, split), slice(split, None)]
    ys = {}
    for i in (1, 0) if reverse else (0, 1):
        at = pieces[i]
        ys[i], state = ssd_scan(
            x[:, at], dt[:, at], A, B[:, at], C[:, at], D, initial_state=state, chunk_size=16, reverse=reverse
        )
    torch.testing.assert_close(torch.cat((ys[0], ys[1]), 1), whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state, final, atol=1e-5, rtol=1e-5)


def test_steps_equal_scan():
    x, dt, A, B, C, D, state = inputs(20)
    whole, final = ssd_scan(x, dt, A, B, C, D, initial_state=state, chunk_size=8)
    for t in range(20):
        y, state = ssd_step(x[:, t], dt[:, t], A, B[:, t], C[:, t], D, state=state)
        torch.testing.assert_close(y, whole[:, t], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state, final, atol=1e-5, rtol=1e-5)


def test_hand_worked_case():
    """One head, one channel, one state: h = 1, then 0.5 * 1 + 2 = 2.5; y = h C + D x."""

    def column(*values):
        return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)

    A = torch.tensor([torch.tensor(0.5).log()])  # halves in a unit of time
    y, final = ssd_scan(column(1, 2), column(1, 1)[..., 0], A, column(1, 1), column(3, 4), torch.tensor([10.0]))
    assert y.flatten().tolist() == pytest.approx([13.0, 30.0])
    assert final.item() == pytest.approx(2.5)


def test_strong_decay_stays_finite():
    """exp of the masked (positive) differences would be inf, and nan in backward."""
    x, dt, A, B, C, D, _ = inputs(64)
    dt = (dt + 50).requires_grad_()
    y, final = ssd_scan(x, dt, A - 1, B, C, D)
    y.sum().backward()
    assert torch.isfinite(y).all() and torch.isfinite(final).all() and torch.isfinite(dt.grad).all()


def test_bfloat16_keeps_decay_in_float32():
    *args, state = inputs(200)
    low = [t.bfloat16() for t in args]
    low[1], low[2] = args[1], args[2]  # dt and A come in float32, as the mixer makes them
    y, final = ssd_scan(*low, initial_state=state)
    y_ref, _ = ssd_reference(*[t.float() for t in low], initial_state=state)
    assert y.dtype == torch.bfloat16 and final.dtype == torch.float32
    assert (y.float() - y_ref).abs().max() / y_ref.abs().max() < 1e-2


@pytest.mark.parametrize("wrong", ["x", "dt", "A", "B", "C", "state"])
def test_wrong_shapes_are_named(wrong):
    names = ["x", "dt", "A", "B", "C", "D", "state"]
    args = dict(zip(names, inputs(10), strict=True))
    args[wrong] = args[wrong][:, :0] if wrong == "x" else args[wrong][..., :-1] if wrong != "B" else args["B"][:, 1:]
    state = args.pop("state")
    with pytest.raises(ValueError, match="C must" if wrong == "C" else {"state": "initial_state"}.get(wrong, wrong)):
        ssd_scan(*args.values(), initial_state=state)


def test_autocast_leaves_the_scan_alone():
    """A training in bfloat16 hands in what it has; decays and states stay in float32, in the backward pass too."""
    x, dt, A, B, C, D, _ = (t.requires_grad_() for t in inputs(37))
    results = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y, state = ssd_scan(x, dt, A, B, C, D, chunk_size=8)
        results.append((y, state, *torch.autograd.grad(y.sum() + state.sum(), (x, dt, A, B, C, D))))
    for plain, cast in zip(*results, strict=True):
        assert plain.dtype == cast.dtype and torch.equal(plain, cast)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_few_outputs_are_those_of_the_whole_scan(reverse):
    """Where only every eighth output is read, only those are computed, over whole and left-over chunks alike."""
    g = torch.Generator().manual_seed(4)
    b, l, h, p, s, every = 2, 23 * 8, 3, 5, 4, 8
    x, B, C = (torch.randn(*shape, generator=g) for shape in ((b, l, h, p), (b, l, 1, s), (b, l, 1, s)))
    dt, A, D = torch.rand(b, l, h, generator=g) * 0.2, -torch.rand(h, generator=g) * 4, torch.randn(h, generator=g)
    state = torch.randn(b, h, p, s, generator=g)
    options = {"initial_state": state, "reverse": reverse}
    y, after = ssd_scan(x, dt, A, B, C, D, chunk_size=64, **options)
    for chunk_size in (64, 20, 3):  # 20 and 3 are no multiples of eight
        some, also_after = ssd_scan(x, dt, A, B, C, D, chunk_size=chunk_size, every=every, **options)
        torch.testing.assert_close(some, y[:, every - 1 :: every], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(also_after, after, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="no multiple"):
        ssd_scan(x[:, :-1], dt[:, :-1], A, B[:, :-1], C[:, :-1], D, every=every)


@DIRECTIONS
@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("together", [1 << 18, 30 * 30 * 3 * 2, 1])
def test_many_short_sequences_need_no_states(reverse, skip, together, monkeypatch):
    """One chunk a sequence, nothing before and nobody after it: outputs and gradients are the recurrence's, however many sequences go
    together, and no state is made."""
    monkeypatch.setattr("mambamia_cli.compressor.ssd_block._BLOCK_ELEMENTS", together)
    *args, _ = (t.requires_grad_() for t in inputs(30, b=5, dtype=torch.float64))
    wanted, args = args if skip else args[:-1], args if skip else [*args[:-1], None]
    results = []
    for scan in (lambda *a, **k: ssd_scan(*a, chunk_size=32, final=False, **k), ssd_reference):
        y, final = scan(*args, reverse=reverse)
        results.append((y, *torch.autograd.grad((y * torch.linspace(-1, 2, y.numel()).view_as(y)).sum(), wanted)))
        assert (final is None) is (scan is not ssd_reference)
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-10, rtol=1e-10)


def test_short_sequences_in_bfloat16_and_under_autocast():
    *args, _ = inputs(30)
    low = [t.bfloat16() for t in args]
    low[1], low[2] = args[1], args[2]
    y, _ = ssd_scan(*low, final=False)
    y_ref, _ = ssd_reference(*[t.float() for t in low])
    assert y.dtype == torch.bfloat16 and (y.float() - y_ref).abs().max() / y_ref.abs().max() < 1e-2
    with torch.autocast("cpu", torch.bfloat16):
        cast, _ = ssd_scan(*args, final=False)
    assert torch.equal(cast, ssd_scan(*args, final=False)[0])


@DIRECTIONS
@pytest.mark.parametrize("skip", [True, False])
def test_short_sequences_of_which_some_outputs_are_read(reverse, skip):
    """Where only every sixth output is read, they and the gradients through them are those of the whole."""
    *args, _ = (t.requires_grad_() for t in inputs(30, b=4, dtype=torch.float64))
    wanted, args = args if skip else args[:-1], args if skip else [*args[:-1], None]
    results = []
    for every in (1, 6):
        y = ssd_scan(*args, chunk_size=32, final=False, reverse=reverse, every=every)[0]
        y = y[:, 5::6] if every == 1 else y
        results.append((y, *torch.autograd.grad((y * torch.linspace(-1, 2, y.numel()).view_as(y)).sum(), wanted)))
    for some, whole in zip(*reversed(results), strict=True):
        torch.testing.assert_close(some, whole, atol=1e-10, rtol=1e-10)
    with pytest.raises(ValueError, match="no multiple"):
        ssd_scan(*args, chunk_size=32, final=False, every=7)
