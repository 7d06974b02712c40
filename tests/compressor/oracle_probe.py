"""Run by test_kernels_oracle.py in a process of its own, with mamba-ssm, causal-conv1d and triton on the path: compares, prints JSON.

    python oracle_probe.py reference|conv|kernels|layouts

reference: our adapter's argument layout through mamba-ssm's ssd_chunk_scan_combined_ref, on the CPU.
kernels: mamba_chunk_scan_combined itself, its Triton kernels in Triton's interpreter (TRITON_INTERPRET=1). The interpreter
knows neither CUDA devices nor tuning: torch.cuda.device is stood in for, and each autotuner runs its first configuration.
layouts: the same kernels as the mixer calls them: bf16 beside float32 decays and states, x, B and C as views of one wide row, and
a sequence in pieces that hand their states on.
conv: causal_conv1d_fn with its own checks, its CUDA function stood in by its own reference and by what the CUDA source demands.
"""

import contextlib
import importlib.util
import json
import sys
import types

import torch

from mambamia_cli.compressor.kernels import fused_conv_silu, fused_scan
from mambamia_cli.compressor.layers import depthwise_conv_silu
from mambamia_cli.compressor.ssd import ssd_reference


def import_mamba_ssm():
    """mamba_ssm.ops.triton.ssd_combined, past what the package's __init__ wants: a compiled CUDA module, every model."""
    sys.modules["selective_scan_cuda"] = types.ModuleType("selective_scan_cuda")
    package = types.ModuleType("mamba_ssm")
    package.__path__ = list(importlib.util.find_spec("mamba_ssm").submodule_search_locations)
    sys.modules["mamba_ssm"] = package
    from mamba_ssm.ops.triton import ssd_combined

    return ssd_combined


def inputs(l, *, b, h, p, s, seed=0):
    g = torch.Generator().manual_seed(seed)
    x, dt = torch.randn(b, l, h, p, generator=g), torch.rand(b, l, h, generator=g) * 0.2
    A = -torch.rand(h, generator=g) * 8
    B, C = (torch.randn(b, l, 1, s, generator=g) for _ in range(2))
    return (x, dt, A, B, C, torch.randn(h, generator=g)), torch.randn(b, h, p, s, generator=g)


def largest(a, b):
    return (a - b).abs().max().item()


def compare_reference(ssd_combined):
    from mamba_ssm.ops.triton.ssd_chunk_state import chunk_state_ref
    from mamba_ssm.ops.triton.ssd_state_passing import state_passing_ref

    def reference(
        x, dt, A, B, C, chunk_size, D=None, initial_states=None, dt_softplus=False, return_final_states=False
    ):
        """The reference of the combined scan, with the final state from the references of its two steps."""
        assert return_final_states and initial_states is None
        b, l, h, p = x.shape
        y = ssd_combined.ssd_chunk_scan_combined_ref(x, dt, A, B, C, chunk_size, D=D, dt_softplus=dt_softplus)
        chunks = dt.view(b, l // chunk_size, chunk_size, h).permute(0, 3, 1, 2)  # (b, h, c, q)
        log_decay = torch.cumsum(chunks * A[:, None, None], -1)
        states = chunk_state_ref(B, x, chunks, log_decay)
        final = state_passing_ref(states.flatten(-2), log_decay[..., -1])[1]
        return y, final.view(b, h, p, -1)

    results = {}
    for l, h in ((64, 2), (192, 3), (256, 6)):
        args, _ = inputs(l, b=2, h=h, p=16, s=8)
        for reverse in (False, True):
            y, final = fused_scan(reference, *args, chunk_size=64, reverse=reverse)
            y_ours, final_ours = ssd_reference(*args, reverse=reverse)
            results[f"l={l} h={h} reverse={reverse}"] = [largest(y, y_ours), largest(final, final_ours)]
    return results


def compare_kernels(ssd_combined):
    results = {}
    for l in (48, 33):
        for reverse in (False, True):
            for with_state in (False, True):
                args, state = inputs(l, b=1, h=2, p=16, s=16)
                leaves = [t.clone().requires_grad_() for t in (*args, state)]
                state_leaf = leaves[-1] if with_state else None
                wanted = leaves if with_state else leaves[:-1]
                out = []
                for scan in (
                    lambda *a, **k: fused_scan(ssd_combined.mamba_chunk_scan_combined, *a, chunk_size=16, **k),
                    ssd_reference,
                ):
                    y, final = scan(*leaves[:-1], initial_state=state_leaf, reverse=reverse)
                    out.append([y, final, *torch.autograd.grad((y * y.detach().cos()).sum(), wanted)])
                differences = [largest(a, b) / max(1.0, b.abs().max().item()) for a, b in zip(*out, strict=True)]
                results[f"l={l} reverse={reverse} state={with_state}"] = [max(differences[:2]), max(differences[2:])]
    return results


def relative(a, b):
    return largest(a.float(), b.float()) / max(1.0, b.float().abs().max().item())


def compare_layouts(ssd_combined):
    """-> by case, the largest differences of outputs and final states, relative to the largest value."""
    seen = []

    def kernel(x, dt, A, B, C, *rest, **named):
        seen.append((x, dt, A, B, C, named))
        return ssd_combined.mamba_chunk_scan_combined(x, dt, A, B, C, *rest, **named)

    results = {}
    b, h, p, s = 1, 2, 16, 16
    for dtype in (torch.float32, torch.bfloat16):
        for reverse in (False, True):
            (x, dt, A, B, C, D), state = inputs(40, b=b, h=h, p=p, s=s, seed=3)
            rows = torch.cat((x.flatten(2), B.squeeze(2), C.squeeze(2), dt), -1).to(dtype)  # one row a token, as in_proj gives it
            x, B, C, _ = rows.split((h * p, s, s, h), -1)
            x, B, C = x.unflatten(-1, (h, p)), B.unsqueeze(2), C.unsqueeze(2)  # views with the stride of the whole row
            expected = ssd_reference(x, dt, A, B, C, D, initial_state=state, reverse=reverse)
            whole = fused_scan(kernel, x, dt, A, B, C, D, initial_state=state, chunk_size=16, reverse=reverse)
            assert (whole[0].dtype, whole[1].dtype) == (dtype, torch.float32)
            name = f"{str(dtype).removeprefix('torch.')} reverse={reverse}"
            results[f"{name} strided"] = [relative(a, e) for a, e in zip(whole, expected, strict=True)]

            pieces, at = [slice(0, 24), slice(24, 40)], state
            outputs = {}
            for piece in reversed(pieces) if reverse else pieces:
                y, at = fused_scan(kernel, x[:, piece], dt[:, piece], A, B[:, piece], C[:, piece], D, initial_state=at, chunk_size=16, reverse=reverse)
                outputs[piece.start] = y
            joined = torch.cat([outputs[0], outputs[24]], 1), at
            results[f"{name} handed on"] = [relative(a, e) for a, e in zip(joined, expected, strict=True)]
    for x, dt, A, B, C, named in seen:
        assert x.stride(-1) == B.stride(-1) == C.stride(-1) == 1  # else the kernel copies them
        assert {t.dtype for t in (dt, A, named["D"], named["initial_states"])} == {torch.float32}
        assert x.dtype == B.dtype == C.dtype
    return results


def import_causal_conv1d():
    """causal_conv1d_fn, its CUDA function stood in by its reference after the checks of its CUDA source."""
    sys.modules["causal_conv1d_cuda"] = types.ModuleType("causal_conv1d_cuda")
    from causal_conv1d import causal_conv1d_interface as interface

    def forward(x, weight, bias, seq_idx, initial_states, final_states_out, silu):
        assert seq_idx is None and initial_states is None and final_states_out is None and silu
        width, channels = weight.shape[1], x.shape[1]
        assert 2 <= width <= 4 and weight.shape == (channels, width) and bias.shape == (channels,)
        assert weight.is_contiguous() or weight.stride(-1) == 1
        assert x.dtype == weight.dtype == bias.dtype
        if x.stride(1) == 1 and x.stride(2) > 1:  # channels last, as ours is
            assert channels % 8 == 0 and x.stride(0) % 8 == 0 and x.stride(2) % 8 == 0
        return interface.causal_conv1d_ref(x, weight, bias, activation="silu")

    interface.causal_conv1d_fwd_function = forward
    return interface


def compare_conv(interface):
    """-> by case, differences of outputs and tails, of ours in plain torch and of the reference's own state, from the adapter's."""
    results = {}
    g = torch.Generator().manual_seed(0)
    for dtype in (torch.float32, torch.bfloat16):
        for reverse in (False, True):
            for with_tail in (False, True):
                x, tail = (torch.randn(2, l, 24, generator=g).to(dtype) for l in (21, 3))
                weight, bias = torch.randn(24, 1, 4, generator=g).to(dtype), torch.randn(24, generator=g).to(dtype)
                tail = tail if with_tail else None
                got = fused_conv_silu(interface.causal_conv1d_fn, x, weight, bias, tail=tail, reverse=reverse)
                ours = depthwise_conv_silu(x, weight, bias, tail=tail, reverse=reverse)
                along = (lambda t: t.flip(1)) if reverse else (lambda t: t)
                state = torch.zeros(2, 3, 24, dtype=dtype) if tail is None else along(tail)
                y, final = interface.causal_conv1d_ref(along(x).transpose(1, 2), weight.squeeze(1), bias, initial_states=state.transpose(1, 2),
                                                       return_final_states=True, activation="silu")  # fmt: skip
                theirs = along(y.transpose(1, 2)), along(final.transpose(1, 2))
                name = f"{str(dtype).removeprefix('torch.')} reverse={reverse} tail={with_tail}"
                results[name] = [max(relative(a, e) for a, e in zip(got, other, strict=True)) for other in (ours, theirs)]
    return results


def stand_in_for_cuda():
    from triton.runtime.autotuner import Autotuner

    torch.cuda.device = lambda index: contextlib.nullcontext()
    torch.cuda.get_device_properties = lambda device: types.SimpleNamespace(multi_processor_count=2)

    def run(self, *args, **kwargs):
        config = self.best_config = self.configs[0]
        self.nargs = dict(zip(self.arg_names, args, strict=False))
        if config.pre_hook is not None:
            config.pre_hook({**self.nargs, **kwargs, **config.all_kwargs()})
        return self.fn.run(*args, **kwargs, **config.all_kwargs())

    Autotuner.run = run
    _mend_bfloat16()


def _mend_bfloat16():
    """The interpreter keeps bf16 as its bits, and its dot multiplies these as whole numbers: it is given their values."""
    import numpy as np
    import triton.language as tl
    from triton.runtime import interpreter

    plain = interpreter.InterpreterBuilder.create_dot

    def value(handle):
        if handle.dtype.scalar != tl.bfloat16:
            return handle
        return interpreter.TensorHandle((handle.data.astype(np.uint32) << 16).view(np.float32), tl.float32)

    interpreter.InterpreterBuilder.create_dot = lambda self, a, b, *rest: plain(self, value(a), value(b), *rest)


if __name__ == "__main__":
    mode = sys.argv[1]
    if mode in ("kernels", "layouts"):
        stand_in_for_cuda()
    module = import_causal_conv1d() if mode == "conv" else import_mamba_ssm()
    compare = {"reference": compare_reference, "kernels": compare_kernels, "layouts": compare_layouts, "conv": compare_conv}[mode]
    print(json.dumps(compare(module)))
