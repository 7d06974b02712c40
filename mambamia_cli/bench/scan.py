"""`ssd_scan` against other torch implementations of the same scan, on the same tensors, in one run.

Rivals: the torch path of transformers' Mamba-2 (what its Mamba2Mixer runs without kernels) and mamba-ssm's
ssd_chunk_scan_combined_ref; each is left out, with the reason, when it cannot be imported.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mambamia_cli.compressor.ssd import ssd_scan

# The compressor of mambamia-tiny over 128 frames of 7 rows, 7 patches and a query each.
DEFAULT_SHAPE = {"b": 1, "l": 128 * 56, "h": 6, "p": 64, "s": 64}
OURS = "mambamia ssd_scan"


def bench_scan(
    *, shape: dict[str, int] | None = None, chunk_sizes: tuple[int, ...] = (64, 256), repeats: int = 3, seed: int = 0
) -> dict[str, Any]:
    """Time every implementation at every chunk size; its best is compared with our best.

    Returns {"shape", "threads", "torch", "rows": [{"name", "chunk", "forward_ms", "train_ms", "tokens_per_s",
    "speedup", "train_speedup", "difference"}], "left_out": {name: reason}}. forward_ms is without gradients, train_ms
    forward and backward; both the fastest of `repeats`, the implementations taking turns. speedup is ours over theirs
    (above 1: ours is faster); difference is the largest absolute one from our output.
    """
    shape = shape or DEFAULT_SHAPE
    inputs = _inputs(shape, seed)
    implementations, left_out = _implementations()
    timed: dict[tuple[str, int], dict[str, float]] = {}
    with torch.no_grad():
        expected = ssd_scan(*inputs)[0]
    for _ in range(repeats):
        for name, function in implementations.items():
            for chunk in chunk_sizes:
                times = timed.setdefault((name, chunk), {})
                for key, seconds in zip(("forward_ms", "train_ms"), _time(function, inputs, chunk), strict=True):
                    times[key] = min(times.get(key, float("inf")), seconds * 1e3)
    rows = []
    for name, function in implementations.items():
        chunk = min(chunk_sizes, key=lambda chunk: timed[name, chunk]["forward_ms"])
        best = {key: min(timed[name, chunk][key] for chunk in chunk_sizes) for key in ("forward_ms", "train_ms")}
        with torch.no_grad():
            difference = (function(*inputs, chunk) - expected).abs().max().item()
        tokens = shape["b"] * shape["l"] / best["forward_ms"] * 1e3
        rows.append({"name": name, "chunk": chunk, **best, "tokens_per_s": tokens, "difference": difference})
    ours = rows[0]
    for row in rows:
        row["speedup"] = row["forward_ms"] / ours["forward_ms"]
        row["train_speedup"] = row["train_ms"] / ours["train_ms"]
    return {
        "shape": shape,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rows": rows,
        "left_out": left_out,
    }


def format_scan(result: dict[str, Any]) -> str:
    """The result of `bench_scan` as a table for the terminal."""
    shape = " ".join(f"{letter}={size}" for letter, size in result["shape"].items())
    lines = [f"scan of {shape}, float32, {result['threads']} threads, torch {result['torch']}", ""]
    lines.append(f"{'implementation':<34}{'chunk':>6}{'forward':>12}{'fwd + bwd':>12}{'ours is':>10}{'difference':>13}")
    for row in result["rows"]:
        lines.append(
            f"{row['name']:<34}{row['chunk']:>6}{row['forward_ms']:>9.1f} ms{row['train_ms']:>9.1f} ms"
            f"{row['speedup']:>8.1f} x{row['difference']:>13.1e}"
        )
    lines += [f"left out: {name}: {reason}" for name, reason in result["left_out"].items()]
    return "\n".join(lines)


def _inputs(shape: dict[str, int], seed: int) -> tuple[Tensor, ...]:
    """x, dt, A, B, C, D as Mamba-2 starts with: dt in [1e-3, 1e-1], A in [-16, -1]."""
    g = torch.Generator().manual_seed(seed)
    b, l, h, p, s = (shape[letter] for letter in "blhps")
    x = torch.randn(b, l, h, p, generator=g)
    dt = torch.exp(torch.empty(b, l, h).uniform_(-6.9, -2.3, generator=g))
    A = -torch.empty(h).uniform_(1, 16, generator=g)
    B, C = (torch.randn(b, l, 1, s, generator=g) for _ in range(2))
    return x, dt, A, B, C, torch.ones(h)


def _implementations() -> tuple[dict[str, Callable[..., Tensor]], dict[str, str]]:
    """name -> function(x, dt, A, B, C, D, chunk) -> y; ours first. And what is left out, with the reason."""
    found = {OURS: lambda x, dt, A, B, C, D, chunk: ssd_scan(x, dt, A, B, C, D, chunk_size=chunk)[0]}
    left_out = {}
    for name, load in (("transformers Mamba2, torch path", _transformers), ("mamba-ssm reference", _mamba_ssm)):
        try:
            found[name] = load()
        except (ImportError, AttributeError, OSError, RuntimeError) as error:  # missing, or built for another torch
            left_out[name] = f"{type(error).__name__}: {error}"
    return found, left_out


def _transformers() -> Callable[..., Tensor]:
    """The scan inside transformers' Mamba2Mixer, which versions before 5 do not have as a function of its own."""
    from transformers.models.mamba2 import modeling_mamba2

    scan = modeling_mamba2.mamba2_chunk_scan
    scan = getattr(scan, "__wrapped__", scan)
    return lambda x, dt, A, B, C, D, chunk: scan(x, dt, A, B, C, chunk, D=D)


def _mamba_ssm() -> Callable[..., Tensor]:
    from mamba_ssm.ops.triton.ssd_combined import ssd_chunk_scan_combined_ref

    def run(x, dt, A, B, C, D, chunk):
        missing = -x.shape[1] % chunk  # it takes whole chunks only
        x_p, B_p, C_p = (F.pad(t, (0, 0, 0, 0, 0, missing)) for t in (x, B, C))
        y = ssd_chunk_scan_combined_ref(x_p, F.pad(dt, (0, 0, 0, missing)), A, B_p, C_p, chunk, D=D)
        return y[:, : x.shape[1]]

    return run


def _time(function: Callable[..., Tensor], inputs: tuple[Tensor, ...], chunk: int) -> tuple[float, float]:
    """Seconds of one forward without gradients, and of one forward and backward."""
    with torch.no_grad():
        start = time.perf_counter()
        function(*inputs, chunk)
        forward = time.perf_counter() - start
    leaves = [t.clone().requires_grad_() for t in inputs]
    start = time.perf_counter()
    function(*leaves, chunk).sum().backward()
    return forward, time.perf_counter() - start
