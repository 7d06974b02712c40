"""How many bytes of tensors are alive, op by op: what a memory plan is compared with, where no card can count.

It sees every tensor that torch hands to Python or takes from it, on any device, real or fake (FakeTensorMode counts a
paper-sized model on "cuda" without holding a byte). It does not see what a kernel allocates and frees within one call,
nor a GPU allocator's rounding and fragments, nor the CUDA context.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@functools.cache
def composed(func: Any) -> bool:
    """Whether an op is written in terms of others, which are what allocates. Under inference_mode torch does not take it apart
    before a mode sees it. Attention is left whole: one kernel does it."""
    if getattr(func, "namespace", "") != "aten" or str(func).startswith("aten.scaled_dot_product_attention"):
        return False
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")


class TensorBytes(TorchDispatchMode):
    """Counts while it is active. `live` and `peak`: bytes by device type ("cpu", "cuda"); `marks`: peaks of named stages."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[str, int] = {}
        self.peak: dict[str, int] = {}
        self.marks: dict[str, dict[str, int]] = {}
        self._known: dict[int, weakref.ref] = {}
        self.ops: dict[str, str] = {}  # device -> the op at which it peaked

    def hold(self, *held: nn.Module | Tensor | Iterable[Tensor]) -> Self:
        """Count what was there before: a module's parameters and buffers, or tensors."""
        for thing in held:
            if isinstance(thing, nn.Module):
                tensors: Iterable[Tensor] = (*thing.parameters(), *thing.buffers())
            else:
                tensors = (thing,) if isinstance(thing, Tensor) else thing
            for tensor in tensors:
                self._see(tensor, "held")
        return self

    def mark(self, stage: str) -> None:
        """Close a stage: its peak goes to `marks`, and the next one's begins at what is alive now."""
        self.marks[stage] = dict(self.peak)
        self.peak = dict(self.live)

    def total(self, stage: str) -> int:
        """Peak bytes of a stage over all devices (exact where there is one)."""
        return sum(self.marks[stage].values())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if composed(func):
            with self:
                return func.decompose(*args, **(kwargs or {}))
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._see(tensor, str(func))
        return result

    def _see(self, tensor: Tensor, op: str) -> None:
        storage, device = tensor.untyped_storage(), tensor.device.type
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()

        def gone(_: weakref.ref) -> None:
            del self._known[key]
            self.live[device] -= size

        self._known[key] = weakref.ref(storage, gone)
        self.live[device] = self.live.get(device, 0) + size
        if self.live[device] > self.peak.get(device, 0):
            self.peak[device] = self.live[device]
            self.ops[device] = op
