"""The compressors the proposed one is compared with (paper, figures 3 and 4), behind one interface.

    build_compressor(kind, config)(patches (b, m, n, d_vision)) -> CompressorOutput(anchors (b, m, g', d), delta (b, m))

| kind           | anchors a frame g'   | how                                                                             |
|----------------|----------------------|---------------------------------------------------------------------------------|
| proposed       | g                    | bi-directional Mamba, GPA, TAA (model.py)                                        |
| bimba          | g                    | bi-directional Mamba; periodic queries that are 3D average pools; no GPA         |
| self-attention | g                    | the same learned queries in a bi-directional transformer: quadratic in m         |
| pooling        | ceil(g/2) ceil(k/2)  | per-frame 2D average pooling, 2 x 2, MLP                                         |
| vanilla        | g k                  | no compression, MLP                                                              |
| attention-pool | g                    | learned queries, each attending to the patches of its own frame only             |

Only `proposed` learns delta. The others hand out delta = 1 for each frame, with which cumulative delta sampling is
uniform sampling. Letters as in model.py.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambamia_cli.compressor.config import CompressorConfig
from mambamia_cli.compressor.layers import RMSNorm
from mambamia_cli.compressor.mixer import Mamba2Mixer
from mambamia_cli.compressor.model import CompressorOutput, MambaMiaCompressor

_BIMBA_FRAMES = 3  # frames a 3D pool covers in time; odd, so that it is centred on its own frame
_MLP_RATIO = 4
_INITIAL_STD = 0.02


class _Baseline(nn.Module):
    """Checks and cuts patches into rows, calls `anchors`, hands out delta = 1."""

    def __init__(self, config: CompressorConfig):
        super().__init__()
        self.config = config
        self.output_proj = (
            nn.Identity() if config.output_size is None else nn.Linear(config.hidden_size, config.output_size)
        )

    @property
    def anchors_per_frame(self) -> int:
        return self.config.grid_rows

    def forward(self, patches: Tensor) -> CompressorOutput:
        """patches (b, m, n, d_vision). Raises ValueError when they are not (b, m >= 1, g * k, vision_width)."""
        c = self.config
        n = c.grid_rows * c.patches_per_row
        if patches.dim() != 4 or patches.shape[1] < 1 or patches.shape[2:] != (n, c.vision_width):
            raise ValueError(f"patches must be (b, m >= 1, {n}, {c.vision_width}), got {tuple(patches.shape)}")
        rows = patches.unflatten(2, (c.grid_rows, c.patches_per_row))  # (b, m, g, k, d_vision)
        anchors = self.output_proj(self.anchors(rows))  # (b, m, g', d)
        delta = torch.ones(anchors.shape[:2], device=anchors.device)
        return CompressorOutput(anchors, delta)

    def anchors(self, rows: Tensor) -> Tensor:
        """rows (b, m, g, k, d_vision) -> (b, m, g', d)."""
        raise NotImplementedError


class BimbaCompressor(_Baseline):
    """BIMBA-like: the query after each row is the average of that row in this frame and its neighbours in time; nothing
    else tells a query what to gather. Mamba blocks as the proposed one's, without GPA and TAA."""

    def __init__(self, config: CompressorConfig):
        super().__init__(config)
        c = config
        self.input_proj = nn.Linear(c.vision_width, c.hidden_size)
        self.norms = nn.ModuleList(RMSNorm(c.hidden_size, c.norm_eps) for _ in range(c.num_layers))
        self.mixers = nn.ModuleList(
            Mamba2Mixer(
                c.hidden_size,
                state_size=c.state_size,
                head_dim=c.head_dim,
                expand=c.expand,
                conv_kernel=c.conv_kernel,
                chunk_size=c.chunk_size,
                norm_eps=c.norm_eps,
            )
            for _ in range(c.num_layers)
        )
        self.norm_f = RMSNorm(c.hidden_size, c.norm_eps)

    def anchors(self, rows: Tensor) -> Tensor:
        rows = self.input_proj(rows)  # (b, m, g, k, d)
        pooled = rows.mean(3).movedim(1, -1)  # (b, g, d, m): each row's mean, a frame at a time
        b, g, d, m = pooled.shape
        pooled = F.avg_pool1d(
            pooled.reshape(b, g * d, m), _BIMBA_FRAMES, stride=1, padding=_BIMBA_FRAMES // 2, count_include_pad=False
        )  # the mean of means of equal rows is the 3D average
        queries = pooled.view(b, g, d, m).movedim(-1, 1).unsqueeze(3)  # (b, m, g, 1, d)
        hidden = torch.cat((rows, queries), dim=3)  # (b, m, g, k + 1, d)
        shape = hidden.shape
        hidden = hidden.flatten(1, 3)  # (b, l, d)
        for norm, mixer in zip(self.norms, self.mixers, strict=True):
            hidden = hidden + mixer(norm(hidden))
        return self.norm_f(hidden.view(shape)[..., -1, :])


class SelfAttentionCompressor(_Baseline):
    """One learned query after each row, in a bi-directional transformer over all frames' tokens."""

    def __init__(self, config: CompressorConfig):
        super().__init__(config)
        c = config
        self.input_proj = nn.Linear(c.vision_width, c.hidden_size)
        self.query_token = nn.Parameter(torch.randn(c.hidden_size) * _INITIAL_STD)
        self.layers = nn.ModuleList(_TransformerBlock(c) for _ in range(c.num_layers))
        self.norm_f = RMSNorm(c.hidden_size, c.norm_eps)

    def anchors(self, rows: Tensor) -> Tensor:
        rows = self.input_proj(rows)  # (b, m, g, k, d)
        hidden = torch.cat((rows, self.query_token.expand(*rows.shape[:3], 1, -1)), dim=3)  # (b, m, g, k + 1, d)
        shape = hidden.shape
        hidden = hidden.flatten(1, 3)  # (b, l, d)
        hidden = hidden + _sinusoids(hidden.shape[1], hidden.shape[2], hidden.device)  # attention knows no order
        for layer in self.layers:
            hidden = layer(hidden)
        return self.norm_f(hidden.view(shape)[..., -1, :])


class PoolingCompressor(_Baseline):
    """Per-frame 2 x 2 average pooling after the MLP; a last odd row or column is pooled alone."""

    def __init__(self, config: CompressorConfig):
        super().__init__(config)
        self.mlp = _mlp(config.vision_width, config.hidden_size)

    @property
    def anchors_per_frame(self) -> int:
        return math.ceil(self.config.grid_rows / 2) * math.ceil(self.config.patches_per_row / 2)

    def anchors(self, rows: Tensor) -> Tensor:
        grid = self.mlp(rows).movedim(-1, 2).flatten(0, 1)  # (b*m, d, g, k)
        pooled = F.avg_pool2d(grid, 2, ceil_mode=True)  # (b*m, d, ceil(g/2), ceil(k/2))
        return pooled.flatten(2).transpose(1, 2).unflatten(0, rows.shape[:2])  # (b, m, g', d)


class VanillaCompressor(_Baseline):
    """Every patch is kept."""

    def __init__(self, config: CompressorConfig):
        super().__init__(config)
        self.mlp = _mlp(config.vision_width, config.hidden_size)

    @property
    def anchors_per_frame(self) -> int:
        return self.config.grid_rows * self.config.patches_per_row

    def anchors(self, rows: Tensor) -> Tensor:
        return self.mlp(rows).flatten(2, 3)  # (b, m, g*k, d)


class AttentionPoolCompressor(_Baseline):
    """g learned queries attend to the patches of one frame. Like the proposed one a frame costs g tokens, but alpha
    depends on the patches and nothing passes between frames."""

    def __init__(self, config: CompressorConfig):
        super().__init__(config)
        d = config.hidden_size
        self.input_proj = nn.Linear(config.vision_width, d)
        self.queries = nn.Parameter(torch.randn(config.grid_rows, d) * _INITIAL_STD)
        self.position = nn.Parameter(torch.randn(config.grid_rows * config.patches_per_row, d) * _INITIAL_STD)
        self.norm = RMSNorm(d, config.norm_eps)
        self.key_value = nn.Linear(d, 2 * d, bias=False)
        self.out_proj = nn.Linear(d, d, bias=False)
        self.norm_f = RMSNorm(d, config.norm_eps)
        self.heads = max(1, d // config.head_dim)

    def anchors(self, rows: Tensor) -> Tensor:
        b, m = rows.shape[:2]
        patches = self.norm(self.input_proj(rows).flatten(2, 3) + self.position).flatten(0, 1)  # (b*m, n, d)
        key, value = (_to_heads(t, self.heads) for t in self.key_value(patches).chunk(2, dim=-1))  # (b*m, heads, n, .)
        queries = self.queries.expand(b * m, -1, -1)  # (b*m, g, d)
        gathered = F.scaled_dot_product_attention(_to_heads(queries, self.heads), key, value)  # (b*m, heads, g, .)
        anchors = queries + self.out_proj(gathered.transpose(1, 2).flatten(2))  # (b*m, g, d)
        return self.norm_f(anchors).unflatten(0, (b, m))


class _TransformerBlock(nn.Module):
    """Pre-norm self-attention over the whole sequence, then an MLP. (b, l, d) -> (b, l, d)."""

    def __init__(self, config: CompressorConfig):
        super().__init__()
        d = config.hidden_size
        self.heads = max(1, d // config.head_dim)
        self.norm_1, self.norm_2 = RMSNorm(d, config.norm_eps), RMSNorm(d, config.norm_eps)
        self.qkv, self.out_proj = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        self.mlp = nn.Sequential(nn.Linear(d, _MLP_RATIO * d), nn.GELU(), nn.Linear(_MLP_RATIO * d, d))

    def forward(self, hidden: Tensor) -> Tensor:
        q, k, v = (_to_heads(t, self.heads) for t in self.qkv(self.norm_1(hidden)).chunk(3, dim=-1))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # (b, l, d)
        hidden = hidden + self.out_proj(mixed)
        return hidden + self.mlp(self.norm_2(hidden))


def _to_heads(t: Tensor, heads: int) -> Tensor:
    """(b, l, d) -> (b, heads, l, d / heads)."""
    return t.unflatten(-1, (heads, -1)).transpose(1, 2)


def _sinusoids(l: int, d: int, device: torch.device) -> Tensor:
    """The transformer's fixed position codes (l, d), for any length."""
    position = torch.arange(l, device=device, dtype=torch.float32).unsqueeze(1)
    rate = torch.exp(torch.arange(0, d, 2, device=device, dtype=torch.float32) * (-math.log(10_000.0) / d))
    return torch.cat((torch.sin(position * rate), torch.cos(position * rate)), dim=1)[:, :d]


def _mlp(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden))


COMPRESSORS: dict[str, type[nn.Module]] = {
    "proposed": MambaMiaCompressor,
    "bimba": BimbaCompressor,
    "self-attention": SelfAttentionCompressor,
    "pooling": PoolingCompressor,
    "vanilla": VanillaCompressor,
    "attention-pool": AttentionPoolCompressor,
}


def build_compressor(kind: str, config: CompressorConfig) -> nn.Module:
    """Raises ValueError for a kind that is not in COMPRESSORS."""
    if kind not in COMPRESSORS:
        raise ValueError(f"compressor must be one of {', '.join(COMPRESSORS)}, not {kind!r}")
    return COMPRESSORS[kind](config)
