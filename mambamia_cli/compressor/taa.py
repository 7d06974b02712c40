"""Time-axis aggregator (TAA): a Mamba mixer along time over whole frames, and delta, the novelty of each frame.

    f = frames + Mamba(norm(frames))          the residual around it
    delta_t = softplus(W_delta f_t + b_delta)  one non-negative scalar a frame                                       (4)

Two layouts. "frames", the paper's text: one sequence of frames of width g * d. "rows": the same mixer of width d runs
along time for each of the g rows; delta still reads the whole frame. At the paper's sizes (g * d = 73,728) the first
would need 10 thousand million parameters in in_proj alone; the second lands on the 247 M the paper reports.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambamia_cli.compressor.layers import RMSNorm

INITIAL_DELTA = 0.25  # about what keeps half the frames at the paper's threshold of 0.6
_INITIAL_SPREAD = 0.2  # standard deviation of W_delta f at the start, for f of unit rms


class TimeAxisAggregator(nn.Module):
    """anchors (b, m, g, d) -> anchors (b, m, g, d), delta (b, m). `mixer` is built by the caller at `mixer_width`."""

    def __init__(self, rows: int, width: int, mixer: nn.Module, *, layout: str = "frames", norm_eps: float = 1e-5):
        super().__init__()
        self.layout = layout
        self.norm = RMSNorm(taa_width(rows, width, layout), norm_eps)
        self.mixer = mixer
        self.delta_proj = nn.Linear(rows * width, 1)
        nn.init.normal_(self.delta_proj.weight, std=_INITIAL_SPREAD / math.sqrt(rows * width))
        nn.init.constant_(self.delta_proj.bias, math.log(math.expm1(INITIAL_DELTA)))  # the inverse of softplus

    def forward(self, anchors: Tensor) -> tuple[Tensor, Tensor]:
        frames = self.to_sequence(anchors)
        frames = frames + self.mixer(self.norm(frames))
        return self.finish(frames, anchors.shape)

    def to_sequence(self, anchors: Tensor) -> Tensor:
        """(b, m, g, d) -> (b, m, g*d) for "frames", (b*g, m, d) for "rows"."""
        if self.layout == "frames":
            return anchors.flatten(2)
        return anchors.transpose(1, 2).flatten(0, 1)

    def finish(self, frames: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
        """Back from the sequence layout to anchors of `shape` (b, m, g, d), and delta (b, m) of equation 4."""
        b, m, g, d = shape
        anchors = frames.view(b, m, g, d) if self.layout == "frames" else frames.view(b, g, m, d).transpose(1, 2)
        delta = F.softplus(self.delta_proj(anchors.flatten(2)).float()).squeeze(-1)  # (b, m)                        (4)
        return anchors, delta


def taa_width(rows: int, width: int, layout: str) -> int:
    """Width of the sequence the mixer sees."""
    return rows * width if layout == "frames" else width
