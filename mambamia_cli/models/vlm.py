"""What the folder of an image-text-to-text model says of itself, read without torch: its pictures' size and their tokens.

Tokens a frame depend on the family. Those listed are counted here as their processors count them (the tests compare); of
others only the processor itself can say.
"""

import json
from math import ceil, floor, sqrt
from pathlib import Path
from typing import Any

from mambamia_cli.errors import ModelError

GRIDS = {"qwen2_vl": 14, "qwen2_5_vl": 14, "qwen3_vl": 16}
"""Families whose tokens grow with the picture, and the side of their patches in pixels; 2 x 2 patches make a token."""
TILES = ("smolvlm", "idefics3")
"""Families that cut a large picture into tiles. Frames are shown whole: a tile's worth of tokens each."""
FAMILIES = (*GRIDS, *TILES, "llava_onevision", "gemma3")
"""What is read in pieces of a few frames, each with its pictures. Others are read at once, as transformers does."""

LONGEST = 448
"""Pixels of a frame's longer side where tokens grow with the picture: 144 tokens of 28 x 28 pixels for 16:9."""

TOKEN_BUDGET = 16_384
"""Visual tokens that are shown unless --token-budget says otherwise: contexts of 128 k would take minutes to read."""

REMEDY = "fetch the model again, with all its files"
_PICTURES, _PROCESSOR = "preprocessor_config.json", "processor_config.json"


def picture_config(folder: Path, name: str) -> dict[str, Any]:
    """How pictures are prepared: preprocessor_config.json, or the part of processor_config.json that newer folders have.

    Raises:
        ModelError: neither is there, or they cannot be read.
    """
    found = _json(folder / _PICTURES) or _json(folder / _PROCESSOR).get("image_processor")
    if not isinstance(found, dict) or not found:
        raise ModelError(f"{name} has no {_PICTURES}, which says how pictures are prepared for it", REMEDY)
    return found


def processor_config(folder: Path) -> dict[str, Any]:
    """processor_config.json, empty where there is none."""
    return _json(folder / _PROCESSOR)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error})", REMEDY) from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} does not hold a JSON object", REMEDY)
    return found


def picture_size(kind: str, height: int, width: int, longest: int | None) -> tuple[int, int] | None:
    """(height, width) in which frames of a video are handed to a model of a family, None = as they are.

    longest: pixels of the longer side, as the user gave it; None = LONGEST where tokens depend on it.
    """
    longest = longest or (LONGEST if kind in GRIDS else None)
    if longest is None or max(height, width) <= longest:
        return None
    scale = longest / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def overrides(kind: str, pictures: dict[str, Any]) -> dict[str, Any]:
    """Settings of the image processor that keep a frame's tokens few."""
    if kind not in TILES:
        return {}
    tile = pictures.get("max_image_size")
    return {"do_image_splitting": False} | ({"size": dict(tile)} if isinstance(tile, dict) else {})


def frame_tokens(config: dict[str, Any], pictures: dict[str, Any], processor: dict[str, Any], size: tuple[int, int]) -> int | None:
    """Visual tokens of a frame of `size` (height, width); None for a family that is not known here.

    config, pictures, processor: config.json, picture_config, processor_config. Raises ModelError where they lack a size.
    """
    kind, vision = str(config.get("model_type")), config.get("vision_config") or {}
    try:
        if kind in GRIDS:
            rows, columns = grid(kind, pictures, size)
            return rows * columns // int(pictures.get("merge_size", 2)) ** 2
        if kind in TILES:
            side = int(vision["image_size"]) // int(vision["patch_size"])
            return int(processor.get("image_seq_len") or side**2 // int(config["scale_factor"]) ** 2)
        if kind == "llava_onevision":
            side = int(vision["image_size"]) // int(vision["patch_size"])
            return int(processor.get("num_image_tokens") or side**2) + 1  # and what ends a picture
        if kind == "gemma3":
            return int(config["mm_tokens_per_image"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ModelError(f"the config.json of this {kind} model does not give the size of its pictures ({error})", REMEDY) from None
    return None


def grid(kind: str, pictures: dict[str, Any], size: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of patches into which a Qwen model's processor makes a picture of `size` (height, width): both sides
    rounded to whole tokens, and scaled until the number of pixels is within its bounds."""
    patch, given = int(pictures.get("patch_size") or GRIDS[kind]), pictures.get("size") or {}
    step = patch * int(pictures.get("merge_size") or 2)
    least = int(pictures.get("min_pixels") or given.get("shortest_edge") or 56 * 56)
    most = int(pictures.get("max_pixels") or given.get("longest_edge") or 28 * 28 * 1280)
    height, width = size
    rows, columns = (max(1, round(side / step)) if least else round(side / step) for side in size)
    pixels = rows * columns * step * step
    if pixels > most:
        shrink = sqrt(height * width / most)
        rows, columns = (max(1, floor(side / shrink / step)) for side in size)
    elif pixels < least:
        grow = sqrt(least / (height * width))
        rows, columns = (ceil(side * grow / step) for side in size)
    return rows * step // patch, columns * step // patch
