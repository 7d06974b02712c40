"""Run by test_kernels_oracle.py in a process of its own, with mamba-ssm and triton on the path: compares, prints JSON.

    python oracle_probe.py reference|kernels

reference: our adapter's argument layout through mamba-ssm's ssd_chunk_scan_combined_ref, on the CPU.
kernels: mamba_chunk_scan_combined itself, its Triton kernels in Triton's interpreter (TRITON_INTERPRET=1). The interpreter
knows neither CUDA devices nor tuning: torch.cuda.device is stood in for, and each autotuner runs its first configuration.
"""

import contextlib
import importlib.util
import json
import sys
import types

import torch

from mambamia_cli.compressor.kernels import fused_scan
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


if __name__ == "__main__":
    if sys.argv[1] == "kernels":
        stand_in_for_cuda()
    module = import_mamba_ssm()
    compare = compare_kernels if sys.argv[1] == "kernels" else compare_reference
    print(json.dumps(compare(module)))
