"""Several processes as one: under torchrun or accelerate each computes gradients of its share, and all take the same step.

Gradients are summed once a step, after the last micro-batch, rather than by DistributedDataParallel: a row without a
medium or with broken media gives some processes no gradient for parts of the model, and the mean over answer tokens is a
mean over all processes' tokens, which are known only then.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, nn

BUCKET = 1 << 26  # numbers summed at a time
PATIENCE = timedelta(minutes=60)  # one process may validate or write while the others wait


@dataclass(frozen=True)
class World:
    """This process among `size`. Rank 0 writes files and progress."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def main(self) -> bool:
        return self.rank == 0

    def barrier(self) -> None:
        if self.size > 1:
            torch.distributed.barrier()

    def sum(self, values: Tensor) -> Tensor:
        """values, added up over the processes, in place."""
        if self.size > 1:
            torch.distributed.all_reduce(values)
        return values

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Every parameter's gradient becomes the sum over the processes; one that none has becomes zeros."""
        if self.size == 1:
            return
        bucket: list[nn.Parameter] = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            bucket.append(parameter)
            if sum(p.numel() for p in bucket) >= BUCKET:
                self._sum(bucket)
                bucket = []
        self._sum(bucket)

    def _sum(self, bucket: list[nn.Parameter]) -> None:
        if not bucket:
            return
        flat = self.sum(torch.cat([p.grad.flatten().float() for p in bucket]))
        at = 0
        for p in bucket:
            p.grad.copy_(flat[at : at + p.numel()].view_as(p))
            at += p.numel()

    def close(self) -> None:
        if self.size > 1:
            torch.distributed.destroy_process_group()


def join(device: str) -> World:
    """This process's place by the variables that torchrun and accelerate set; alone without them.

    device: "cpu", "cuda" or "mps"; with several processes each takes the card of its local rank.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if size == 1:
        return World(device=device)
    if device.startswith("cuda"):
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=PATIENCE)
    return World(rank, size, device)
