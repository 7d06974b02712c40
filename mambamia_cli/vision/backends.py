"""What runs the embedded network: ONNX Runtime on a CPU, torch elsewhere or where ONNX Runtime is missing.

Every backend takes frames (m, 3, 224, 224) uint8 and gives patches (m, 49, 432), the same to about 5e-5; the one in int8
(`int8_graph`) to about 7 parts in 100. `bench.encode` times them in one run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from mambamia_cli.vision.efficientnet import INPUT_SIZE, EfficientNetLite0

if TYPE_CHECKING:
    import onnxruntime

log = logging.getLogger(__name__)

# The package does not say how pictures were normalised. Measured on photographs: with these the activations match the
# stored batch-norm statistics (stem: mean KL divergence 0.10), with ImageNet's mean and std they do not (0.64).
PIXEL_MEAN, PIXEL_STD = 127, 128
PIECE = 2  # frames that one thread takes at once: two are as fast as eight and share out more evenly


class Backend(Protocol):
    """One way to run the network."""

    name: str
    batch: int  # frames a call: more only takes more memory
    device: torch.device
    apart: bool  # it computes in threads of its own, not torch's

    def run(self, frames: Tensor) -> Tensor:
        """frames (m, 3, 224, 224) uint8, m > 0 -> patches (m, 49, 432) float32, on `device`."""
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
    def run(self, frames: Tensor) -> Tensor:
        with _torch_threads(self.threads):
            return self.model(normalise(frames.to(self.device)))


class OnnxBackend:
    """ONNX Runtime on the CPU: blocked channels, clips fused into the convolutions.

    Each thread takes whole frames, a few at a time: the layers are too small to be worth sharing one between threads
    (which also waits for the slowest at every layer, and so suffers most from whatever else the machine is doing).
    int8: in 8-bit integers; ask `int8_is_exact` first.
    """

    batch = 32
    device = torch.device("cpu")
    apart = True

    def __init__(self, model: EfficientNetLite0, *, threads: int | None = None, int8: bool = False):
        from mambamia_cli.vision import int8_graph, onnx_graph

        self.name = "onnxruntime int8" if int8 else "onnxruntime"
        build = int8_graph.build if int8 else onnx_graph.build
        self.session = session(build(model, size=INPUT_SIZE, mean=PIXEL_MEAN, std=PIXEL_STD))
        self.threads = threads or torch.get_num_threads()
        self.pool = ThreadPoolExecutor(self.threads, "mambamia-vision")

    def run(self, frames: Tensor) -> Tensor:
        pixels = frames.cpu().contiguous().numpy()  # (m, 3, H, W)
        pieces = [pixels[start : start + PIECE] for start in range(0, len(pixels), PIECE)]
        work = self._run_piece
        results = list(self.pool.map(work, pieces)) if len(pieces) > 1 and self.threads > 1 else [work(one) for one in pieces]
        return torch.from_numpy(np.concatenate(results))

    def _run_piece(self, pixels: np.ndarray) -> np.ndarray:
        """pixels (m, 3, H, W) uint8 -> patches (m, n, 432)."""
        return self.session.run(["patches"], {"frames": pixels})[0]

    @contextmanager
    def sharing(self, part: int) -> Iterator[None]:
        """Held to one of `part` of its threads."""
        threads, pool = self.threads, self.pool
        self.threads = max(1, threads // part)
        self.pool = ThreadPoolExecutor(self.threads, "mambamia-vision")
        try:
            yield
        finally:
            self.pool.shutdown()
            self.threads, self.pool = threads, pool


def session(graph: bytes, *, threads: int = 1) -> onnxruntime.InferenceSession:
    """An ONNX graph made ready to run on the CPU. threads: that share a layer; with 1 the calling thread does the work.

    Raises:
        ImportError: there is no ONNX Runtime.
    """
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # nobody asked for a device id in the home folder
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.enable_cpu_mem_arena = False  # as fast, and gives the memory back after a piece
    options.log_severity_level = 3  # errors only: its warnings mean nothing to a user
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


@cache
def int8_is_exact() -> bool:
    """Whether ONNX Runtime is here and multiplies integers exactly on this CPU. Where x86 has no VNNI instructions it adds
    two products in 16 bits, which do not always hold them."""
    try:
        from mambamia_cli.vision.int8_graph import largest_products

        graph, value, expected = largest_products()
        return bool((session(graph).run(["sums"], {"values": value})[0] == expected).all())
    except ImportError:
        return False


def choose(model: EfficientNetLite0, *, device: str = "cpu", threads: int | None = None, int8: bool = False) -> Backend:
    """The fastest backend there is for a device; says in one log line why, if that is not ONNX Runtime on a CPU.

    int8: the one in 8-bit integers, on a CPU where these are exact."""
    if torch.device(device).type != "cpu":
        return TorchBackend(model, device=device)
    try:
        return OnnxBackend(model, threads=threads, int8=int8 and int8_is_exact())
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
