"""A single still view -> visual tokens: what a second look (pipeline/relook.py) names things with.

A reader gathers a view's patches and two layers turn what it gathered into tokens of the language model's input space, as
the projector's are. Several read each view, and what counts is the mean of their log-odds: each is surer of its mistakes than
it should be, and they make different ones.

| kind                              | gathers                                                                             |
|-----------------------------------|-------------------------------------------------------------------------------------|
| view-pools                        | learned pools over all of the encoder's own features, by content and place          |
| proposed                          | stage 1 of the compressor, bi-directional Mamba with GPA: a view is a video of one frame |
| attention-pool, bimba, pooling, ... | a baseline of compressor/baselines.py in its place, to be compared with it        |
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mambamia_cli.compressor.baselines import COMPRESSORS, build_compressor
from mambamia_cli.compressor.config import CompressorConfig
from mambamia_cli.compressor.model import AnchorStage
from mambamia_cli.compressor.weights import load_weights, save_folder
from mambamia_cli.errors import ModelError
from mambamia_cli.language.lexicon import Lexicon


@dataclass(frozen=True)
class SpotterConfig:
    """Sizes: the stage 1 of a "proposed" reader, and with it the patches a view and their width; pools and the width of what
    scores patches for them; hidden width, output width, tokens a view; the kind of each reader (READERS)."""

    compressor: CompressorConfig = field(default_factory=CompressorConfig)
    pools: int = 12
    score_width: int = 128
    hidden_width: int = 768
    output_width: int = 576
    tokens: int = 2
    readers: tuple[str, ...] = ("view-pools",)

    @property
    def patches(self) -> int:
        return self.compressor.grid_rows * self.compressor.patches_per_row

    @property
    def vision_width(self) -> int:
        return self.compressor.vision_width

    @classmethod
    def from_dict(cls, values: dict) -> "SpotterConfig":
        """Raises TypeError, ValueError or ModelError for what is not such a configuration."""
        given = {"compressor": CompressorConfig.from_dict(values["compressor"]), "readers": tuple(values["readers"])}
        return cls(**{**values, **given})


POOLS, PROPOSED = "view-pools", "proposed"
READERS = (POOLS, *COMPRESSORS)


class ViewReader(nn.Module):
    """patches (..., n, d_vision) -> tokens (..., t, width), read as words at a temperature of their own."""

    def __init__(self, config: SpotterConfig, gathered: int):
        """gathered: width of what `gather` makes of a view."""
        super().__init__()
        self.config = c = config
        self.norm_pools = nn.LayerNorm(gathered)
        self.fc1 = nn.Linear(gathered, c.hidden_width)
        self.fc2 = nn.Linear(c.hidden_width, c.tokens * c.output_width)
        self.log_scale = nn.Parameter(torch.tensor(3.0))

    def gather(self, patches: Tensor) -> Tensor:
        """patches (..., n, d_vision) -> (..., gathered)."""
        raise NotImplementedError

    def forward(self, patches: Tensor, drop: float = 0.0) -> Tensor:
        gathered = self.norm_pools(self.gather(patches))
        hidden = F.gelu(self.fc1(F.dropout(gathered, drop, self.training)))
        tokens = self.fc2(F.dropout(hidden, drop, self.training))
        return tokens.unflatten(-1, (self.config.tokens, self.config.output_width))

    def lexicon(self, words: Lexicon) -> Lexicon:
        """The words as these tokens are to be read."""
        own = Lexicon(words.words, words.table, words.centre, words.common)
        own.log_scale = self.log_scale
        return own


class PoolReader(ViewReader):
    """Attention pools over all patches of the view: weights of patches by what they show and where they are."""

    def __init__(self, config: SpotterConfig):
        super().__init__(config, config.pools * config.vision_width)
        c = config
        self.norm = nn.LayerNorm(c.vision_width)
        self.score_in, self.score_out = nn.Linear(c.vision_width, c.score_width), nn.Linear(c.score_width, c.pools)
        self.place = nn.Parameter(torch.zeros(c.patches, c.pools))

    def gather(self, patches: Tensor) -> Tensor:
        x = self.norm(patches)
        weights = (self.score_out(F.gelu(self.score_in(x))) + self.place).softmax(-2)  # (..., n, pools)
        return (weights.transpose(-1, -2) @ x).flatten(-2)  # (..., pools * d_vision)


class AnchorReader(ViewReader):
    """A compressor's anchors of a view. Of the proposed one, stage 1 alone: each row's query gathers the row's patches (equations 2
    and 3), over bi-directional Mamba."""

    def __init__(self, config: SpotterConfig, kind: str = PROPOSED):
        c = config.compressor
        stage = AnchorStage(c) if kind == PROPOSED else build_compressor(kind, c)
        gathered = c.grid_rows * c.hidden_size if kind == PROPOSED else stage.anchors_per_frame * c.anchor_width
        super().__init__(config, gathered)
        self.stage = stage

    def gather(self, patches: Tensor) -> Tensor:
        views = patches.reshape(-1, 1, *patches.shape[-2:])  # (b, 1, n, d_vision)
        anchors = self.stage.gather(views) if isinstance(self.stage, AnchorStage) else self.stage(views).anchors
        return anchors.reshape(*patches.shape[:-2], -1)  # (..., g' * d)


def build_reader(kind: str, config: SpotterConfig) -> ViewReader:
    """Raises ValueError for a kind that is not in READERS."""
    if kind not in READERS:
        raise ValueError(f"a reader must be one of {', '.join(READERS)}, not {kind!r}")
    return PoolReader(config) if kind == POOLS else AnchorReader(config, kind)


class Spotter(nn.Module):
    """patches (..., n, d_vision) -> tokens (..., r, t, width) of r readers."""

    def __init__(self, config: SpotterConfig):
        super().__init__()
        if not config.readers:
            raise ValueError("a spotter has one reader or more")
        self.config = config
        self.readers = nn.ModuleList(build_reader(kind, config) for kind in config.readers)

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
            spotter = cls(SpotterConfig.from_dict(json.loads((folder / "config.json").read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, ModelError) as error:
            raise ModelError(f"the spotter's config.json in {folder} cannot be read ({error})", "fetch or train the model again") from None
        load_weights(spotter, folder / "model.safetensors")
        return spotter.eval().requires_grad_(False)


