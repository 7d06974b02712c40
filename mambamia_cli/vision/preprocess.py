"""A checkpoint's preprocessor_config.json: the size its frames have, and how pixels become numbers."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mambamia_cli.errors import ModelError

CONFIG_NAME = "preprocessor_config.json"


@dataclass(frozen=True)
class Preprocess:
    """Size in pixels (height, width), None where the file gives none; mean and std after `scale` is applied."""

    size: tuple[int, int] | None
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def normalise(self, frames: Tensor, *, device: torch.device, dtype: torch.dtype) -> Tensor:
        """frames (m, 3, H, W) uint8 -> (m, 3, H, W) in dtype on device; the arithmetic is in float32."""
        mean, std = _on(self.mean, device), _on(self.std, device)  # (1, 3, 1, 1)
        pixels = frames.to(device).float() * self.scale  # (m, 3, H, W)
        return ((pixels - mean) / std).to(dtype)


@functools.lru_cache(maxsize=8)
def _on(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Three numbers as (1, 3, 1, 1) on a device, sent there once and not with every batch."""
    return torch.tensor(values, device=device).view(1, 3, 1, 1)


def read(path: Path) -> Preprocess:
    """Parse a preprocessor_config.json. Raises ModelError if it is missing, no JSON or lacks mean and std."""
    remedy = f"put the {CONFIG_NAME} published with these weights beside them"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise TypeError("not an object")
        config = config.get("image_processor", config)  # a processor_config.json holds it one level down
        mean, std = config.get("image_mean"), config.get("image_std")
        if not config.get("do_normalize", True):
            mean, std = (0.0,) * 3, (1.0,) * 3
        if mean is None or std is None:
            raise ModelError(f"{path} does not give image_mean and image_std", remedy)
        mean, std = _three(mean), _three(std)
        scale = float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0
        if 0.0 in std or not all(map(math.isfinite, (*mean, *std, scale))):
            raise ValueError("mean, std or scale is not usable")
        return Preprocess(_size(config), scale, mean, std)
    except FileNotFoundError:
        raise ModelError(f"there is no {path}", remedy) from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{path} cannot be read ({error})", remedy) from None


def _three(value: float | list[float]) -> tuple[float, ...]:
    values = (value,) * 3 if isinstance(value, int | float) else tuple(value)
    if len(values) != 3:
        raise ValueError(f"{len(values)} channels, not 3")
    return tuple(float(v) for v in values)


def _size(config: dict) -> tuple[int, int] | None:
    """What reaches the network: the crop where there is one, else the resize; a bare number or an edge is a square."""
    if config.get("max_num_patches") and config.get("patch_size"):
        # SigLIP2's flexible resolution has a budget of patches and no size: the largest square within it
        side = math.isqrt(int(config["max_num_patches"])) * int(config["patch_size"])
        return side, side
    for key in ("crop_size", "size") if config.get("do_center_crop") else ("size", "crop_size"):
        value = config.get(key)
        if isinstance(value, int):
            return value, value
        if isinstance(value, dict) and "height" in value:
            return int(value["height"]), int(value["width"])
        if isinstance(value, dict) and "shortest_edge" in value:
            return int(value["shortest_edge"]), int(value["shortest_edge"])
    return None
