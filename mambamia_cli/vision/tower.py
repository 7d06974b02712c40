"""Any transformers vision tower as an Encoder: SigLIP, SigLIP2, CLIP, CLIP-ConvNeXt, DINOv2 and their like.

What a tower needs is read from its own files: the class from config.json, size, mean and std from
preprocessor_config.json. Vision-language papers take the patches before the last layer (LLaVA's layer -2), whose last
layer was trained for the pooled vector only; the layers that nobody reads are dropped after loading.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from mambamia_cli.errors import ModelError
from mambamia_cli.vision import preprocess
from mambamia_cli.vision.encoder import check_frames

log = logging.getLogger(__name__)

# Checkpoints of an image-text pair: only the image half is built. Others go by AutoModel.
_PAIRS = {
    "siglip": "SiglipVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
    "siglip2": "Siglip2VisionModel",
    "siglip2_vision_model": "Siglip2VisionModel",
    "clip": "CLIPVisionModel",
    "clip_vision_model": "CLIPVisionModel",
}
_UNUSED = ("pooler.", "head.", "visual_projection.")  # may be absent from a checkpoint: patches do not pass through them
BATCH = 8  # frames a pass


class TowerEncoder:
    """A transformers vision tower. Frames (m, 3, H, W) uint8 -> patches (m, n, d_vision) in `dtype` on `device`.

    name: a folder or a hub id. select_layer: which hidden state, counted as transformers does (0 = embeddings,
    -2 = before the last layer); "auto" = -2 where all layers have one shape, else the last; None = the tower's own
    output, final norm included. Raises ModelError for a missing folder, unknown name, damaged or ill-shaped weights.
    """

    def __init__(
        self,
        name: str,
        *,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        select_layer: int | str | None = "auto",
    ):
        self.name, self.device, self.dtype = name, torch.device(device), dtype
        self.model, config = _load(name, dtype)
        self.config = config
        self.preprocess = preprocess.read(_preprocess_path(name, config))
        self.input_size = self.preprocess.size or _square(config.image_size)
        stride = _stride(config, name)
        self.grid = (self.input_size[0] // stride, self.input_size[1] // stride)
        if 0 in self.grid:
            raise ModelError(f"{name} wants frames smaller than one of its patches", "check its preprocessor_config.json")
        self._flexible = config.model_type == "siglip2_vision_model"
        self._stride = stride
        layers = _layers(self.model, config)
        if select_layer == "auto":
            select_layer = None if layers is None or len(layers) < 2 else -2
        self._selected: Tensor | None = None
        if select_layer is not None:
            self._cut(layers, select_layer)
        self.width = _width(config)
        self.revision = f"{_fingerprint(name, config)}-{select_layer}-{str(dtype).removeprefix('torch.')}"
        self.model.to(self.device)

    def _cut(self, layers: nn.ModuleList | None, select_layer: int) -> None:
        """Drop the layers after the selected hidden state and catch it before any final norm."""
        if layers is None:
            raise ModelError(f"{self.name} has no flat list of layers to select from", "use select_layer=None")
        keep = select_layer if select_layer >= 0 else len(layers) + 1 + select_layer  # layers that run
        if not 1 <= keep <= len(layers):
            raise ModelError(f"{self.name} has {len(layers)} layers, none is hidden state {select_layer}", "use -2")
        del layers[keep:]

        def catch(module: nn.Module, inputs: tuple, output: Tensor | tuple) -> None:
            self._selected = output if isinstance(output, Tensor) else output[0]  # (m, l, d_vision)

        layers[-1].register_forward_hook(catch)

    @torch.inference_mode()
    def encode(self, frames: Tensor) -> Tensor:
        """frames (m, 3, H, W) uint8 -> patches (m, rows * columns, d_vision) in `dtype`, row-major, class token dropped."""
        check_frames(frames, self.input_size)
        rows, columns = self.grid
        patches = torch.empty(len(frames), rows * columns, self.width, device=self.device, dtype=self.dtype)  # (m, n, d_vision)
        for start in range(0, len(frames), BATCH):
            part = slice(start, start + BATCH)
            patches[part] = self._run(frames[part])
        return patches

    def _run(self, frames: Tensor) -> Tensor:
        pixels = self.preprocess.normalise(frames, device=self.device, dtype=self.dtype)  # (m, 3, H, W)
        self._selected = None
        inputs = _flexible_inputs(pixels, self._stride) if self._flexible else {"pixel_values": pixels}
        hidden = self.model(**inputs).last_hidden_state
        if self._selected is not None:
            hidden, self._selected = self._selected, None
        if hidden.ndim == 4:  # a convolutional map (m, d_vision, rows, columns)
            hidden = hidden.flatten(2).transpose(1, 2)  # (m, n, d_vision)
        n = self.grid[0] * self.grid[1]
        if hidden.shape[1] < n:
            raise ModelError(
                f"{self.name} gave {hidden.shape[1]} patches a frame where {n} were expected",
                "its preprocessor_config.json does not fit its config.json",
            )
        return hidden[:, -n:].to(self.dtype)  # class and register tokens stand before the patches


def _load(name: str, dtype: torch.dtype) -> tuple[nn.Module, object]:
    """The vision tower in eval mode on the CPU, and its vision config. safetensors only: pickles are never opened."""
    import transformers
    from safetensors import SafetensorError

    remedy = "give a transformers folder with config.json and safetensors weights, a hub id, or efficientnet-lite0"
    if _looks_local(name) and not Path(name).is_dir():
        raise ModelError(f"there is no folder {name}", remedy)
    try:
        config = transformers.AutoConfig.from_pretrained(name)
        kind = getattr(transformers, _PAIRS.get(config.model_type, "AutoModel"))
        model, info = kind.from_pretrained(
            name, dtype=dtype, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except SafetensorError as error:
        raise ModelError(f"the weights of {name} are damaged ({error})", "download them again") from None
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, ImportError) as error:
        detail = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"cannot load the vision tower {name} ({detail})", remedy) from None
    if mismatched := sorted(str(m[0] if isinstance(m, tuple) else m) for m in info["mismatched_keys"]):
        raise ModelError(f"{mismatched[0]} in {name} has another shape than its config.json says", "download it again")
    # transformers fills what is missing with random numbers: features of noise, without a word
    if missing := sorted(k for k in info["missing_keys"] if not k.removeprefix("vision_model.").startswith(_UNUSED)):
        raise ModelError(f"the weights of {name} lack {missing[0]}", "download them again")
    return model.eval().requires_grad_(False), model.config


def _looks_local(name: str) -> bool:
    return Path(name).exists() or name.startswith((".", "/", "~")) or name.count("/") != 1


def _preprocess_path(name: str, config: object) -> Path:
    if Path(name).is_dir():
        beside = Path(name) / "processor_config.json"
        path = Path(name) / preprocess.CONFIG_NAME
        return beside if beside.exists() and not path.exists() else path
    from transformers.utils import cached_file

    try:
        revision = getattr(config, "_commit_hash", None)
        return Path(cached_file(name, preprocess.CONFIG_NAME, revision=revision))
    except OSError:
        raise ModelError(f"{name} has no {preprocess.CONFIG_NAME}", "choose a checkpoint that has one") from None


def _square(size: int | list[int] | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _stride(config: object, name: str) -> int:
    """Pixels a patch, the same both ways."""
    patch = getattr(config, "patch_size", None)
    if not patch:
        raise ModelError(f"the config.json of {name} gives no patch_size", "use a vision tower of the ViT or ConvNeXt kind")
    patch = _square(patch)[0]
    # a staged network halves its map before each stage but the first
    return patch * 2 ** (len(config.hidden_sizes) - 1) if getattr(config, "hidden_sizes", None) else patch


def _width(config: object) -> int:
    sizes = getattr(config, "hidden_sizes", None)
    return int(sizes[-1] if sizes else config.hidden_size)


def _layers(model: nn.Module, config: object) -> nn.ModuleList | None:
    """The list of transformer layers, None for a staged network (whose hidden states differ in size)."""
    if getattr(config, "hidden_sizes", None):
        return None
    count = getattr(config, "num_hidden_layers", None)
    found = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == count]
    return found[0] if found else None


def _flexible_inputs(pixels: Tensor, patch: int) -> dict[str, Tensor]:
    """SigLIP2 takes flattened patches (m, n, patch * patch * 3), channels last within each, none of them padding."""
    m, channels, height, width = pixels.shape
    rows, columns = height // patch, width // patch
    cells = pixels[:, :, : rows * patch, : columns * patch].reshape(m, channels, rows, patch, columns, patch)
    flat = cells.permute(0, 2, 4, 3, 5, 1).reshape(m, rows * columns, -1)  # (m, n, patch * patch * 3)
    mask = torch.ones(m, rows * columns, dtype=torch.int64, device=pixels.device)  # (m, n)
    # In host memory wherever the pixels are: the tower reads these numbers frame by frame, and would wait for each.
    shapes = torch.tensor([[rows, columns]] * m)  # (m, 2)
    return {"pixel_values": flat, "pixel_attention_mask": mask, "spatial_shapes": shapes}


def _fingerprint(name: str, config: object) -> str:
    """The hub's commit, or a hash of everything in the folder that decides the features."""
    if commit := getattr(config, "_commit_hash", None):
        return str(commit)[:12]
    digest = hashlib.sha256()
    for path in sorted(p for p in Path(name).iterdir() if p.suffix in (".json", ".safetensors")):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]
