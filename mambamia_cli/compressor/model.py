"""The MambaMia compressor: patch grids of a video in, per-frame anchors and delta out.

Stage 1: one learned query is put after each row of k patches; Mamba blocks, each starting with gated patch
aggregation, run over all frames as one sequence; only the queries are kept (the anchors).
Stage 2: the time-axis aggregator runs along the frames and gives delta, from which frames are selected (select.py).

Letters: b batch, m frames, n patches a frame, g rows = anchors a frame, k patches a row, d width, l = m * g * (k + 1).
"""

from pathlib import Path
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from mambamia_cli.compressor.config import CompressorConfig
from mambamia_cli.compressor.gpa import GatedPatchAggregation
from mambamia_cli.compressor.layers import RMSNorm
from mambamia_cli.compressor.mamba1 import Mamba1Mixer
from mambamia_cli.compressor.mixer import Mamba2Mixer
from mambamia_cli.compressor.taa import TimeAxisAggregator, taa_width
from mambamia_cli.compressor.weights import load_weights, save_folder

_QUERY_STD = 0.02  # as word embeddings start
_SMALL = 512  # hidden size
FLOAT32 = ("A_log", "A_b_log", "dt_bias", "D")  # parameters, and their `_b` twins, that no dtype but float32 is given


class CompressorOutput(NamedTuple):
    anchors: Tensor  # (b, m, g, d), or (m, g, d) out of a stream
    delta: Tensor  # (b, m) float32, non-negative, or (m,)


class CompressorBlock(GatedPatchAggregation):
    """norm -> the rows' queries become GPA's f -> mixer -> residual. Input and output (b, m, g, k + 1, d), query last.

    It is a GatedPatchAggregation, rather than holding one, because in the family's checkpoints weight_fc and gate_fc
    stand beside norm and mixer.
    """

    def __init__(self, config: CompressorConfig):
        super().__init__(
            config.hidden_size,
            config.patches_per_row,
            gate_min=config.gate_min,
            gate_max=config.gate_max,
            query_dropout=config.query_dropout,
            init_scale=config.gpa_init_scale,
        )
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.mixer = build_mixer(config, config.hidden_size, config.expand, config.state_size, config.bidirectional)
        self.gpa = config.gpa

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.mixer(self.aggregate(hidden)).view_as(hidden)

    def queries(self, hidden: Tensor) -> Tensor:
        """(b, m, g, d): what `forward` makes of the queries. Where it can be, nothing else is computed."""
        k, length = hidden.shape[-2], hidden.shape[1] * hidden.shape[2] * hidden.shape[3]
        mixer = self.mixer
        if not isinstance(mixer, Mamba2Mixer) or torch.is_grad_enabled() and length > mixer.chunk_size:
            return self(hidden)[..., -1, :]
        queries = hidden[..., -1, :]
        return queries + mixer(self.aggregate(hidden), every=k).view_as(queries)

    def aggregate(self, hidden: Tensor) -> Tensor:
        """What the mixer reads: normed hidden (b, m, g, k + 1, d) with the queries replaced, as (b, l, d)."""
        u = self.norm(hidden)
        if self.gpa:
            patches, queries = u[..., :-1, :], u[..., -1, :]  # (b, m, g, k, d), (b, m, g, d)
            queries = super().forward(queries, patches)
            u = torch.cat((patches, queries.unsqueeze(-2)), dim=-2)  # (b, m, g, k + 1, d)
        return u.flatten(1, 3)


class AnchorStage(nn.Module):
    """Stage 1: patches (b, m, n, d_vision) -> anchors (b, m, g, d), a query a row. n = g * k, row by row."""

    def __init__(self, config: CompressorConfig):
        super().__init__()
        self.config = config
        d = config.hidden_size
        self.query_token = nn.Parameter(torch.randn(d) * _QUERY_STD)
        same = config.vision_width == d
        self.input_proj = nn.Identity() if same else nn.Linear(config.vision_width, d)
        self.model = nn.Module()  # a bare level, for the family's names: model.layers.{i}, model.norm_f
        self.model.layers = nn.ModuleList(CompressorBlock(config) for _ in range(config.num_layers))
        self.model.norm_f = RMSNorm(d, config.norm_eps)

    def gather(self, patches: Tensor) -> Tensor:
        """Stage 1 alone, before the time-axis aggregator. Raises ValueError when patches are not (b, m >= 1, g * k, vision_width)."""
        hidden = self.insert_queries(patches)  # (b, m, g, k + 1, d)
        *layers, last = self.model.layers
        for block in layers:
            hidden = block(hidden)
        return self.keep_queries(last.queries(hidden).unsqueeze(-2))

    def insert_queries(self, patches: Tensor) -> Tensor:
        """patches (b, m, n, d_vision) -> (b, m, g, k + 1, d): the query stands at the end of its row."""
        c = self.config
        n = c.grid_rows * c.patches_per_row
        if patches.dim() != 4 or patches.shape[1] < 1 or patches.shape[2:] != (n, c.vision_width):
            raise ValueError(f"patches must be (b, m >= 1, {n}, {c.vision_width}), got {tuple(patches.shape)}")
        rows = self.input_proj(patches).unflatten(2, (c.grid_rows, c.patches_per_row))  # (b, m, g, k, d)
        queries = self.query_token.expand(*rows.shape[:3], 1, -1)  # (b, m, g, 1, d)
        return torch.cat((rows, queries.to(rows.dtype)), dim=3)

    def keep_queries(self, hidden: Tensor) -> Tensor:
        """(b, m, g, k + 1, d) -> anchors (b, m, g, d). norm_f is per token, so only what is kept is normed."""
        return self.model.norm_f(hidden[..., -1, :])

    def to_dtype(self, dtype: torch.dtype) -> Self:
        """Weights and activations in `dtype`. What sets decays and step sizes (A_log, dt_bias, D) stays float32, as the
        scan's states do: products of hundreds of factors near 1 would drift in half precision."""
        for name, parameter in self.named_parameters():
            if not name.rpartition(".")[2].startswith(FLOAT32):
                parameter.data = parameter.data.to(dtype)
        return self


class MambaMiaCompressor(AnchorStage):
    """patches (b, m, n, d_vision) -> CompressorOutput(anchors (b, m, g, d), delta (b, m)): stage 1, then the time-axis aggregator."""

    def __init__(self, config: CompressorConfig):
        super().__init__(config)
        d = config.hidden_size
        width = taa_width(config.grid_rows, d, config.taa_layout)
        taa_mixer = build_mixer(config, width, config.taa_expand, config.taa_state_size, config.taa_bidirectional)
        self.taa = TimeAxisAggregator(
            config.grid_rows, d, taa_mixer, layout=config.taa_layout, norm_eps=config.norm_eps
        )
        self.output_proj = nn.Identity() if config.output_size is None else nn.Linear(d, config.output_size)

    @property
    def anchors_per_frame(self) -> int:
        return self.config.grid_rows

    def forward(self, patches: Tensor) -> CompressorOutput:
        """Raises ValueError when patches are not (b, m >= 1, g * k, vision_width)."""
        anchors, delta = self.taa(self.gather(patches))  # (b, m, g, d), (b, m)
        return CompressorOutput(self.output_proj(anchors), delta)

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> "MambaMiaCompressor":
        """A folder with config.json and model.safetensors, in eval mode. Raises ModelError when anything is missing,
        damaged or of the wrong shape. dtype as in `to_dtype`."""
        config = CompressorConfig.load(Path(folder) / "config.json")
        # No time is lost on initial values that are overwritten at once. To draw none, torch imports its compiler, which takes
        # a second: those of a small model are sooner drawn, off the record of the seed.
        small = config.hidden_size <= _SMALL
        with torch.random.fork_rng([], enabled=small), torch.device("cpu" if small else "meta"):
            model = cls(config).to_dtype(dtype)
        load_weights(model, Path(folder) / "model.safetensors", device)
        return model.eval()

    def round_projections(self) -> Self:
        """Stage 1's projections in bfloat16, all else as it is: a fifth less time where a CPU multiplies that, and delta moves by less
        than a hundredth of its range. The aggregator's stay, of which delta is read. Not to be trained or saved after it."""
        for block in self.model.layers:
            if isinstance(block.mixer, Mamba2Mixer):
                for layer in (block.mixer.in_proj, block.mixer.out_proj):
                    layer.to(torch.bfloat16)
        return self

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors, each whole or not at all. Raises OutputError."""
        save_folder(self, Path(folder), self.config.to_json())


def build_mixer(config: CompressorConfig, width: int, expand: float, state_size: int, bidirectional: bool) -> nn.Module:
    """The mixer of config.ssm at a width."""
    common = {
        "state_size": state_size,
        "expand": expand,
        "conv_kernel": config.conv_kernel,
        "chunk_size": config.chunk_size,
        "bidirectional": bidirectional,
    }
    if config.ssm == "mamba1":
        return Mamba1Mixer(width, **common)
    return Mamba2Mixer(width, head_dim=config.head_dim, norm_eps=config.norm_eps, **common)
