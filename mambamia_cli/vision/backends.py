"""What runs the embedded network: ONNX Runtime on a CPU, torch elsewhere or where ONNX Runtime is missing.

Every backend takes frames (m, 3, 224, 224) uint8 and gives patches (m, 49, 432) and logits (m, 1000), the same to
about 5e-5. `bench.encode` times them in one run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mambamia_cli.vision.efficientnet import INPUT_SIZE, EfficientNetLite0

log = logging.getLogger(__name__)

# The package does not say how pictures were normalised. Measured on photographs: with these the activations match the
# stored batch-norm statistics (stem: mean KL divergence 0.10), with ImageNet's mean and std they do not (0.64).
PIXEL_MEAN, PIXEL_STD = 127.0, 128.0
PIECE = 2  # frames that one thread takes at once: two are as fast as eight and share out more evenly


class Backend(Protocol):
    """One way to run the network."""

    name: str
    batch: int  # frames a call: more only takes more memory
    device: torch.device
    apart: bool  # it computes in threads of its own, not torch's

    def run(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """frames (m, 3, 224, 224) uint8, m > 0 -> patches (m, 49, 432) and logits (m, 1000), float32, on `device`."""
        ...


class TorchBackend:
    """Plain torch, channels last: any device, no further package."""

    name = "torch"
    batch = 8
    apart = False

    def __init__(self, model: EfficientNetLite0, *, device: str = "cpu", threads: int | None = None):
        self.device, self.threads = torch.device(device), threads
        self.model = model.to(self.device, memory_format=torch.channels_last)

    @torch.inference_mode()
    def run(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        with _torch_threads(self.threads):
            patches, logits = self.model(normalise(frames.to(self.device)))
        return patches, logits


class OnnxBackend:
    """ONNX Runtime on the CPU: blocked channels, clips fused into the convolutions.

    Each thread takes whole frames, a few at a time: the layers are too small to be worth sharing one between threads
    (which also waits for the slowest at every layer, and so suffers most from whatever else the machine is doing).
    """

    name = "onnxruntime"
    batch = 32
    device = torch.device("cpu")
    apart = True

    def __init__(self, model: EfficientNetLite0, *, threads: int | None = None):
        import onnxruntime

        from mambamia_cli.vision.onnx_graph import build

        onnxruntime.disable_telemetry_events()  # nobody asked for a device id in the home folder
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # the calling thread does the work
        options.enable_cpu_mem_arena = False  # as fast, and gives the memory back after a piece
        options.log_severity_level = 3  # errors only: its warnings mean nothing to a user
        graph = build(model, size=INPUT_SIZE, mean=PIXEL_MEAN, std=PIXEL_STD)
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.pool = ThreadPoolExecutor(threads or torch.get_num_threads(), "mambamia-vision")

    def run(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        pixels = frames.cpu().contiguous().numpy()  # (m, 3, H, W)
        pieces = [pixels[start : start + PIECE] for start in range(0, len(pixels), PIECE)]
        results = list(self.pool.map(self._piece, pieces)) if len(pieces) > 1 else [self._piece(p) for p in pieces]
        patches, logits = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*results, strict=True))
        return patches, logits

    def _piece(self, pixels: np.ndarray) -> list[np.ndarray]:
        return self.session.run(["patches", "logits"], {"frames": pixels})


def choose(model: EfficientNetLite0, *, device: str = "cpu", threads: int | None = None) -> Backend:
    """The fastest backend there is for a device; says in one log line why, if that is not ONNX Runtime on a CPU."""
    if torch.device(device).type != "cpu":
        return TorchBackend(model, device=device)
    try:
        return OnnxBackend(model, threads=threads)
    except ImportError as error:
        log.warning("the vision encoder runs in torch, at less than half the speed: %s; install onnx and onnxruntime", error)
        return TorchBackend(model, threads=threads)


def normalise(frames: Tensor) -> Tensor:
    """(m, 3, H, W) uint8 -> float32 of about -1 to 1, channels last."""
    return frames.to(torch.float32, memory_format=torch.channels_last).sub_(PIXEL_MEAN).div_(PIXEL_STD)


@contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    """torch's thread count is one for the whole process: put back after us, for the language model's sake."""
    before = torch.get_num_threads()
    if threads is None or threads == before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
