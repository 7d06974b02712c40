"""The models of a training at full size: inference's own encoder and language model, frozen or adapted, and the parts in between."""

from dataclasses import replace
from pathlib import Path

import torch

from mambamia_cli.compressor.config import CompressorConfig
from mambamia_cli.compressor.model import MambaMiaCompressor
from mambamia_cli.errors import ModelError
from mambamia_cli.language import lora
from mambamia_cli.language.projector import Projector, ProjectorConfig
from mambamia_cli.training.distributed import World
from mambamia_cli.training.full_config import FullRecipe
from mambamia_cli.training.full_model import VideoModel


def build(recipe: FullRecipe, stage: str, start: Path | None, world: World) -> tuple[VideoModel, dict[str, lora.LoraLinear]]:
    """-> the chain with what the stage trains requiring gradients, in float32, and the adapters by name (none in align).

    Raises ModelError when a part is missing or parts do not fit together.
    """
    on_card = not world.device.startswith("cpu")
    precision = {"bf16": torch.bfloat16, "fp32": torch.float32}.get(recipe.precision, torch.bfloat16 if on_card else torch.float32)
    whole = stage == "tune" and recipe.lora.rank == 0
    encoder = _encoder(recipe.vision, world.device, precision if on_card else torch.float32)
    lm = _language_model(recipe, world.device, "fp32" if whole else recipe.quant)
    compressor, projector = _parts(recipe, encoder, lm.width, start)
    lm.model.requires_grad_(whole)
    adapters = {}
    if stage == "tune" and not whole:
        adapters = lora.attach(lm.model, lora.LoraConfig(recipe.lora.rank, recipe.lora.alpha, tuple(recipe.lora.targets)))
        for adapter in adapters.values():  # beside the layer they adapt; that itself is not moved, 4-bit layers forbid it
            adapter.lora_A.data, adapter.lora_B.data = adapter.lora_A.data.to(world.device), adapter.lora_B.data.to(world.device)
    if recipe.gradient_checkpointing and lm.model.supports_gradient_checkpointing:
        lm.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model = VideoModel(encoder, compressor.to(world.device), projector.to(world.device), lm, precision=precision,
                       max_length=recipe.max_length, checkpointing=recipe.gradient_checkpointing)  # fmt: skip
    lm.model.train()  # transformers checkpoints only then
    return model.train(), adapters


def _encoder(name: str, device: str, dtype: torch.dtype):
    from mambamia_cli.vision.encoder import EMBEDDED, load_encoder
    from mambamia_cli.vision.tower import TowerEncoder

    return load_encoder(name, device=device) if name == EMBEDDED else TowerEncoder(name, device=device, dtype=dtype)


def _language_model(recipe: FullRecipe, device: str, quant: str):
    """Through transformers, since the CPU decoder cannot be differentiated; the same tokens and chat template either way."""
    from mambamia_cli.language.model import local_folder
    from mambamia_cli.language.transformers_lm import TransformersLanguageModel

    name = recipe.language_model
    if quant == "auto" and device == "cpu":
        quant = "fp32"
    lm = TransformersLanguageModel(local_folder(name) or name, name=name, quant=quant, device=device)
    for module in lm.model.modules():
        # Packed for the CPU's 4-bit kernel, a layer has no gradient; bitsandbytes packs at the first pass without one.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return lm


def _parts(recipe: FullRecipe, encoder, width: int, start: Path | None) -> tuple[MambaMiaCompressor, Projector]:
    """Read from `start`, or new ones of the paper's sizes with the recipe's over them."""
    rows, columns = encoder.grid
    if start is not None:
        compressor = MambaMiaCompressor.from_pretrained(start / "compressor")
        projector = Projector.from_pretrained(start / "projector")
    else:
        fixed = {"vision_width": encoder.width, "grid_rows": rows, "patches_per_row": columns, "output_size": None}
        sizes = replace(CompressorConfig.paper(), **(fixed | recipe.compressor))
        compressor = MambaMiaCompressor(sizes)
        fixed = {"input_width": sizes.anchor_width, "anchors": rows, "hidden_width": width, "output_width": width,
                 "tokens_per_frame": rows, "mode": "anchor"}  # fmt: skip
        projector = Projector(ProjectorConfig(**(fixed | recipe.projector)))
    sizes, out = compressor.config, projector.config
    if (sizes.grid_rows, sizes.patches_per_row, sizes.vision_width) != (rows, columns, encoder.width):
        raise ModelError(f"the compressor takes {sizes.grid_rows} x {sizes.patches_per_row} patches {sizes.vision_width} wide and {recipe.vision} "
                         f"gives {rows} x {columns}, {encoder.width} wide", "use the encoder that the compressor was made for")  # fmt: skip
    if (out.input_width, out.anchors, out.output_width) != (sizes.anchor_width, rows, width):
        raise ModelError(f"the projector does not fit between the compressor and {recipe.language_model}", "begin with other parts or none")
    return compressor.requires_grad_(True), projector.requires_grad_(True)
