"""The audio compressor of the family: features of an audio encoder in, one token for each block of them out.

A learned query stands after each block of R features; all blocks run as one causal sequence through Mamba-2 blocks with
gated aggregation (the same as stage 1's, forward only); the outputs at the queries are the tokens. Parameter names are
those of the published checkpoint. Letters: l features, r blocks, k = R features a block, d width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mambamia_cli.compressor.config import CompressorConfig
from mambamia_cli.compressor.layers import RMSNorm
from mambamia_cli.compressor.mixer import MixerState
from mambamia_cli.compressor.model import CompressorBlock

HEAD_DIM, CHUNK, NORM_EPS = 64, 256, 1e-5  # fixed in the family


@dataclass(frozen=True)
class AudioCompressorConfig:
    """Defaults are the published model's. Raises ModelError, when the model is made, for sizes that do not fit."""

    input_size: int = 1280
    hidden_size: int = 3072
    output_size: int = 3584
    block: int = 25
    num_layers: int = 2
    expand: float = 2.0
    state_size: int = 128

    def blocks(self) -> CompressorConfig:
        """The same sizes as those of a stage 1 with one row a frame."""
        return CompressorConfig(
            vision_width=self.input_size, hidden_size=self.hidden_size, grid_rows=1, patches_per_row=self.block,
            num_layers=self.num_layers, bidirectional=False, state_size=self.state_size, head_dim=HEAD_DIM, expand=self.expand,
            chunk_size=CHUNK, norm_eps=NORM_EPS,
        )  # fmt: skip


class AudioCompressor(nn.Module):
    """features (l, input_size) -> tokens (ceil(l / R), output_size); the tail is padded with zeros to a block."""

    def __init__(self, config: AudioCompressorConfig):
        super().__init__()
        self.config = config
        blocks, d = config.blocks(), config.hidden_size
        self.query_token = nn.Parameter(torch.randn(d) * d**-0.5)
        self.input_proj = nn.Identity() if config.input_size == d else nn.Linear(config.input_size, d)
        self.model = nn.Module()  # a bare level, for the family's names
        self.model.layers = nn.ModuleList(CompressorBlock(blocks) for _ in range(config.num_layers))
        self.model.norm_f = RMSNorm(d, NORM_EPS)
        self.output_proj = nn.Identity() if config.output_size == d else nn.Linear(d, config.output_size)

    def forward(self, features: Tensor) -> Tensor:
        stream = AudioStream(self)
        return torch.cat([stream.push(features), stream.finish()])  # (r, output_size)

    def compress(self, blocks: Tensor, states: list[MixerState | None]) -> Tensor:
        """blocks (r, k, input_size) -> (r, output_size). `states`, one a layer, move on in place."""
        hidden = self.input_proj(blocks)  # (r, k, d)
        queries = self.query_token.to(hidden.dtype).expand(len(blocks), 1, -1)  # (r, 1, d)
        hidden = torch.cat((hidden, queries), dim=1)[None, :, None]  # (1, r, 1, k + 1, d)
        for i, layer in enumerate(self.model.layers):
            mixed, states[i] = layer.mixer.forward_with_state(layer.aggregate(hidden), states[i])  # (1, r * (k + 1), d)
            hidden = hidden + mixed.view_as(hidden)
        return self.output_proj(self.model.norm_f(hidden[0, :, 0, -1]))  # (r, output_size)


class AudioStream:
    """The compressor over sound of any length: push(features (l, input_size)) any number of times, then finish() once; the
    tokens (r, output_size) of both together are those of one pass. What is held is less than one block and the states."""

    def __init__(self, model: AudioCompressor):
        self.model = model
        self._states: list[MixerState | None] = [None] * len(model.model.layers)
        self._waiting: Tensor | None = None  # (less than k, input_size)

    def push(self, features: Tensor) -> Tensor:
        if self._waiting is not None:
            features = torch.cat((self._waiting, features))
        k = self.model.config.block
        whole = len(features) // k * k
        self._waiting = features[whole:].clone()
        return self._run(features[:whole])

    def finish(self) -> Tensor:
        """The last token, of a block that zeros fill up; none when there is nothing left."""
        rest = self._waiting if self._waiting is not None else torch.empty(0, self.model.config.input_size)
        self._waiting = None
        if not len(rest):
            return self._run(rest)
        return self._run(nn.functional.pad(rest, (0, 0, 0, self.model.config.block - len(rest))))

    def _run(self, features: Tensor) -> Tensor:
        config = self.model.config
        weight = self.model.query_token
        if not len(features):
            return torch.empty(0, config.output_size, dtype=weight.dtype, device=weight.device)
        return self.model.compress(features.unflatten(0, (-1, config.block)), self._states)
