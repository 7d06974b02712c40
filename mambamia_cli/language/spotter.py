"""A single still view -> visual tokens: what a second look (pipeline/relook.py) names things with.

The compressor reads a view as a video of one frame, in which its state-space layers have nothing to carry from frame to
frame. Here learned attention pools the view's patches, several pools a view, each weighting patches by their content and
place, and two layers turn the pools into tokens of the language model's input space, as the projector's are.

Several readers, trained from different beginnings, read each view; what counts is the mean of their log-odds. Each is surer
of its mistakes than it should be, and they make different ones.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mambamia_cli.compressor.weights import load_weights, save_folder
from mambamia_cli.errors import ModelError
from mambamia_cli.language.lexicon import Lexicon


@dataclass(frozen=True)
class SpotterConfig:
    """Sizes: patches a view n, their width, pools and the width of what scores patches for them, hidden width, tokens a view,
    readers r."""

    patches: int = 49
    vision_width: int = 432
    pools: int = 12
    score_width: int = 128
    hidden_width: int = 768
    output_width: int = 576
    tokens: int = 2
    readers: int = 1


class ViewReader(nn.Module):
    """patches (..., n, d_vision) -> tokens (..., t, width), read as words at a temperature of their own."""

    def __init__(self, config: SpotterConfig):
        super().__init__()
        self.config = c = config
        self.norm = nn.LayerNorm(c.vision_width)
        self.score_in, self.score_out = nn.Linear(c.vision_width, c.score_width), nn.Linear(c.score_width, c.pools)
        self.place = nn.Parameter(torch.zeros(c.patches, c.pools))
        self.norm_pools = nn.LayerNorm(c.pools * c.vision_width)
        self.fc1 = nn.Linear(c.pools * c.vision_width, c.hidden_width)
        self.fc2 = nn.Linear(c.hidden_width, c.tokens * c.output_width)
        self.log_scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, patches: Tensor, drop: float = 0.0) -> Tensor:
        x = self.norm(patches)
        weights = (self.score_out(F.gelu(self.score_in(x))) + self.place).softmax(-2)  # (..., n, pools)
        pools = self.norm_pools((weights.transpose(-1, -2) @ x).flatten(-2))  # (..., pools * d_vision)
        hidden = F.gelu(self.fc1(F.dropout(pools, drop, self.training)))
        tokens = self.fc2(F.dropout(hidden, drop, self.training))
        return tokens.unflatten(-1, (self.config.tokens, self.config.output_width))

    def lexicon(self, words: Lexicon) -> Lexicon:
        """The words as these tokens are to be read."""
        own = Lexicon(words.words, words.table, words.centre, words.common)
        own.log_scale = self.log_scale
        return own


class Spotter(nn.Module):
    """patches (..., n, d_vision) -> tokens (..., r, t, width) of r readers."""

    def __init__(self, config: SpotterConfig):
        super().__init__()
        if config.readers < 1:
            raise ValueError(f"a spotter has at least one reader, not {config.readers}")
        self.config = config
        self.readers = nn.ModuleList(ViewReader(config) for _ in range(config.readers))

    def forward(self, patches: Tensor) -> Tensor:
        return torch.stack([reader(patches) for reader in self.readers], -3)

    def lexicons(self, words: Lexicon) -> list[Lexicon]:
        """The words as each reader's tokens are to be read."""
        return [reader.lexicon(words) for reader in self.readers]

    def save_pretrained(self, folder: Path | str) -> None:
        """Write config.json and model.safetensors, each whole or not at all. Raises OutputError."""
        save_folder(self, Path(folder), json.dumps(asdict(self.config), indent=2) + "\n")

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> "Spotter":
        """Read what save_pretrained wrote. Raises ModelError for a missing, damaged or wrongly shaped file."""
        folder = Path(folder)
        try:
            spotter = cls(SpotterConfig(**json.loads((folder / "config.json").read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise ModelError(f"the spotter's config.json in {folder} cannot be read ({error})", "fetch or train the model again") from None
        load_weights(spotter, folder / "model.safetensors")
        return spotter.eval().requires_grad_(False)


