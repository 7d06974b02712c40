"""Anchors of the compressor -> input embeddings of the language model (the last box of the paper's figure 1)."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

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
        """Write config.json and model.safetensors."""
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(asdict(self.config), indent=2) + "\n")
        save_file({k: v.contiguous() for k, v in self.state_dict().items()}, folder / "model.safetensors")

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> "Projector":
        """Read what save_pretrained wrote. Raises ModelError for a missing, damaged or wrongly shaped file."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(folder)
        try:
            projector = cls(ProjectorConfig(**json.loads((folder / "config.json").read_text())))
            state = {k: v.float() for k, v in load_file(folder / "model.safetensors").items()}
            projector.load_state_dict(state)
        except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
            first = " ".join(str(error).split())[:200]
            raise ModelError(f"the projector in {folder} cannot be read ({first})", "fetch or train the model again") from error
        return projector.eval()


def frozen_tokens(projector: Projector, anchors: Tensor) -> Tensor:
    """Projector outputs in float32 without gradients: what inference asks for."""
    with torch.inference_mode():
        return projector(anchors.float())
