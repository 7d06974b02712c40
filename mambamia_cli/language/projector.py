"""Anchors of the compressor -> input embeddings of the language model (the last box of the paper's figure 1)."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mambamia_cli.compressor.weights import load_weights, save_folder
from mambamia_cli.errors import ModelError

MODES = ("anchor", "frame")


@dataclass(frozen=True)
class ProjectorConfig:
    """Sizes of a projector.

    mode "anchor" maps every anchor to one token, as the paper does (t = g). mode "frame" lets the g anchors of a frame
    speak together: their concatenation (g * d) is mapped to `tokens_per_frame` tokens, which a small language model on
    a CPU needs, since prefill is what its user waits for.
    """

    input_width: int = 192
    anchors: int = 7
    hidden_width: int = 768
    output_width: int = 576
    tokens_per_frame: int = 2
    mode: str = "frame"

    def __post_init__(self):
        if self.mode not in MODES:
            raise ModelError(f"projector mode {self.mode!r} is unknown", f"use one of {', '.join(MODES)}")
        if self.mode == "anchor" and self.tokens_per_frame != self.anchors:
            raise ModelError("an anchor-wise projector makes one token an anchor", "set tokens_per_frame to anchors")


class Projector(nn.Module):
    """anchors (..., g, d) -> visual tokens (..., t, output_width): Linear, GELU, Linear after a LayerNorm."""

    def __init__(self, config: ProjectorConfig):
        super().__init__()
        self.config = config
        wide = config.input_width * (config.anchors if config.mode == "frame" else 1)
        out = config.output_width * (config.tokens_per_frame if config.mode == "frame" else 1)
        self.norm = nn.LayerNorm(wide)
        self.fc1 = nn.Linear(wide, config.hidden_width)
        self.fc2 = nn.Linear(config.hidden_width, out)

    def forward(self, anchors: Tensor) -> Tensor:
        if self.config.mode == "frame":
            anchors = anchors.flatten(-2)  # (..., g * d)
        tokens = self.fc2(nn.functional.gelu(self.fc1(self.norm(anchors))))
        if self.config.mode == "frame":
            tokens = tokens.unflatten(-1, (self.config.tokens_per_frame, self.config.output_width))
        return tokens  # (..., t, output_width)

    def save_pretrained(self, folder: Path | str) -> None:
        """Write config.json and model.safetensors, each whole or not at all. Raises OutputError."""
        save_folder(self, Path(folder), json.dumps(asdict(self.config), indent=2) + "\n")

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> "Projector":
        """Read what save_pretrained wrote. Raises ModelError for a missing, damaged or wrongly shaped file."""
        folder = Path(folder)
        try:
            config = ProjectorConfig(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ModelError(f"the projector's config.json in {folder} cannot be read ({error})", "fetch or train the model again") from None
        projector = cls(config)
        load_weights(projector, folder / "model.safetensors")
        return projector.eval()


def frozen_tokens(projector: Projector, anchors: Tensor) -> Tensor:
    """Projector outputs in float32 without gradients: what inference asks for."""
    with torch.inference_mode():
        return projector(anchors.float())
