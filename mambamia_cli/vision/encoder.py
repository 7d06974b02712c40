"""What every vision encoder promises, and the one door to load one by name."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor

EMBEDDED = "efficientnet-lite0"


@runtime_checkable
class Encoder(Protocol):
    """Frames in, a grid of patch features out. Frames arrive already scaled to `input_size`, not yet normalised."""

    name: str  # what `load_encoder` was given
    revision: str  # of the weights: changes when the features could
    input_size: tuple[int, int]  # pixels, (height, width)
    grid: tuple[int, int]  # patches, (rows, columns)
    width: int  # d_vision

    def encode(self, frames: Tensor) -> Tensor:
        """frames (m, 3, H, W) uint8 RGB -> patches (m, rows * columns, width) on the CPU or the encoder's device, in float32
        or in the half precision that the encoder was loaded in.

        Patches are row-major. Raises ValueError if the frames have another shape or type.
        """
        ...


def load_encoder(name: str, *, device: str = "cpu", threads: int | None = None, dtype: Any = None, int8: bool = False) -> Encoder:
    """Load an encoder: "efficientnet-lite0" (embedded), else a transformers folder or hub id.

    dtype: what a tower computes in (None: float32); the embedded one always takes float32, or with `int8` integers where
    that pays. `threads` bounds the CPU threads of the embedded one (None: torch's own setting). Raises ModelError with a remedy.
    """
    if name == EMBEDDED:
        from mambamia_cli.vision.embedded import EmbeddedEncoder

        return EmbeddedEncoder(device=device, threads=threads, int8=int8)
    from mambamia_cli.vision.tower import TowerEncoder

    return TowerEncoder(name, device=device) if dtype is None else TowerEncoder(name, device=device, dtype=dtype)


def runs_in_int8(name: str, device: str) -> bool:
    """Whether `load_encoder` with int8 gives another encoder than without."""
    if name != EMBEDDED or device != "cpu":
        return False
    from mambamia_cli.vision.backends import int8_is_exact

    return int8_is_exact()


def check_frames(frames: Tensor, size: tuple[int, int]) -> None:
    """Refuse anything but uint8 (m, 3, H, W) of the encoder's size: a float picture would be normalised twice."""
    import torch

    if frames.dtype != torch.uint8 or frames.ndim != 4 or tuple(frames.shape[1:]) != (3, *size):
        expected = f"(m, 3, {size[0]}, {size[1]}) uint8"
        raise ValueError(f"frames are {tuple(frames.shape)} {frames.dtype}, not {expected}: scale them when decoding")
