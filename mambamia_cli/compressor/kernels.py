"""One door to the scan and the convolution: fused CUDA kernels where they are installed, plain torch where not.

The kernels are mamba-ssm's mamba_chunk_scan_combined and causal-conv1d's causal_conv1d_fn. Both run left to right only:
for the backward direction inputs and outputs are flipped here. What is used, and why, is said in one log line a device.
"""

import importlib
import logging
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from mambamia_cli.compressor import layers, ssd

_LOG = logging.getLogger(__name__)


class Kernel(NamedTuple):
    """function is None when plain torch is used; reason then says why."""

    function: Callable | None
    reason: str


class Kernels(NamedTuple):
    scan: Kernel
    conv: Kernel


_chosen: dict[str, Kernels] = {}
"""By kind of device. A plain dict: torch.compile looks a choice up in it, where it would make it anew behind functools.cache."""


def kernels_for(device_type: str) -> Kernels:
    """What will be used on a kind of device ("cpu", "cuda"). The first call for each says so in the log."""
    if device_type not in _chosen:
        _chosen[device_type] = _choose(device_type)
    return _chosen[device_type]


def _choose(device_type: str) -> Kernels:
    if device_type != "cuda":
        why = Kernel(None, f"tensors are on {device_type}, not cuda")
        kernels = Kernels(why, why)
    else:
        kernels = Kernels(
            _find("mamba_ssm.ops.triton.ssd_combined", "mamba_chunk_scan_combined"),
            _find("causal_conv1d", "causal_conv1d_fn"),
        )
    parts = [
        f"{name}: {'fused kernel' if kernel.function else f'plain torch ({kernel.reason})'}"
        for name, kernel in zip(("scan", "convolution"), kernels, strict=True)
    ]
    _LOG.info("; ".join(parts))
    return kernels


def scan(
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
    """`ssd.ssd_scan`, by the fused kernel where there is one. Same shapes, same numbers up to rounding."""
    fused = kernels_for(x.device.type).scan.function
    if fused is None:
        return ssd.ssd_scan(x, dt, A, B, C, D, initial_state=initial_state, chunk_size=chunk_size, reverse=reverse, every=every, final=final)
    y, state = fused_scan(fused, x, dt, A, B, C, D, initial_state=initial_state, chunk_size=chunk_size, reverse=reverse)
    return y[:, every - 1 :: every], state


def fused_scan(
    fused: Callable,
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
    """The arguments of `ssd_scan` in the layout of mamba_chunk_scan_combined, and its results back.

    The layouts agree: x (b, l, h, p), dt (b, l, h), B and C (b, l, groups, s), states (b, h, p, s). dt goes in
    softplus-ed, so dt_softplus stays off; chunks are powers of two of at least 16, as Triton wants its tiles.
    """
    if reverse:
        x, dt, B, C = (t.flip(1) for t in (x, dt, B, C))
    chunk_size = max(16, 1 << (chunk_size - 1).bit_length())
    y, state = fused(
        x, dt, A, B, C, chunk_size, D=D, initial_states=initial_state, dt_softplus=False, return_final_states=True
    )
    return y.flip(1) if reverse else y, state.float()


def conv_silu(
    x: Tensor, weight: Tensor, bias: Tensor, *, tail: Tensor | None = None, reverse: bool = False
) -> tuple[Tensor, Tensor]:
    """`layers.depthwise_conv_silu`, by the fused kernel where there is one."""
    fused = kernels_for(x.device.type).conv.function
    if fused is None or x.shape[-1] % 8 or not 2 <= weight.shape[-1] <= 4:  # which is what the kernel takes
        return layers.depthwise_conv_silu(x, weight, bias, tail=tail, reverse=reverse)
    return fused_conv_silu(fused, x, weight, bias, tail=tail, reverse=reverse)


def fused_conv_silu(
    fused: Callable, x: Tensor, weight: Tensor, bias: Tensor, *, tail: Tensor | None = None, reverse: bool = False
) -> tuple[Tensor, Tensor]:
    """The arguments of `depthwise_conv_silu` in the layout of causal_conv1d_fn: x (b, d, l), weight (d, K). The tail is
    put in front of x and its outputs cut off, which every version of the kernel allows."""
    kept = weight.shape[-1] - 1
    if reverse:
        x = x.flip(1)
        tail = None if tail is None else tail.flip(1)
    if tail is None:
        tail = x.new_zeros(x.shape[0], kept, x.shape[2])
    line = torch.cat((tail, x), dim=1)  # (b, K - 1 + l, d)
    y = fused(line.transpose(1, 2), weight.squeeze(1), bias, activation="silu")
    y = y.transpose(1, 2)[:, kept:]  # (b, l, d)
    next_tail = line[:, line.shape[1] - kept :].clone()  # a view would keep all of `line` alive
    return (y.flip(1), next_tail.flip(1)) if reverse else (y, next_tail)


def _find(module: str, name: str) -> Kernel:
    try:
        return Kernel(getattr(importlib.import_module(module), name), "")
    except ModuleNotFoundError as error:
        return Kernel(None, f"{error.name} is not installed")
    except (ImportError, AttributeError, OSError, RuntimeError) as error:  # built for another torch or CUDA
        return Kernel(None, f"{module} does not load: {type(error).__name__}: {error}")
