"""The network of `onnx_graph` in 8-bit integers, for looks that need no more: half the time of the float one.

No picture is looked at to make it (data-free quantisation, Nagel et al. 2019, arXiv 1906.04721). What a layer's outputs are
over the pictures of its training, the batch-norms know that were folded into the convolutions: mean and spread of each
channel (`SameConv.usual`). From them come

- the ranges: ReLU6's outputs have 0 to 6, so that the clip is where uint8 ends and costs nothing; all others, and the sums
  of the residual stream, mean +- `REACH` spreads of the channel that needs most;
- the bias correction (their section 4.2): rounding the weights moves a layer's mean output by their errors times its mean
  inputs. That much is taken off the bias, and a third off the error of the features.

Weights are int8 with a scale for each output and zero at 0, activations uint8 with one scale. The first `FLOAT_BLOCKS` blocks
stay in float: their few channels are the hardest to round, and integers save least there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor

from mambamia_cli.vision.efficientnet import STRIDE16_BLOCK, EfficientNetLite0, InvertedResidual, SameConv
from mambamia_cli.vision.onnx_graph import Graph, conv_attributes

FLOAT_BLOCKS = 1
REACH = 5.0  # spreads
LEVELS, WEIGHT_LEVELS = 255, 127


@dataclass(frozen=True)
class Levels:
    """Which numbers a uint8 tensor's values stand for: scale * (value - zero)."""

    scale: float
    zero: int

    @classmethod
    def of(cls, low: float, high: float) -> Levels:
        """Those from low <= 0 to high >= 0, of which 0 is one: padding is exact."""
        scale = (high - low) / LEVELS
        return cls(scale, round(-low / scale))


RELU6 = Levels.of(0.0, 6.0)


@dataclass(frozen=True)
class Usual:
    """Mean and variance (channels,) of a tensor over the pictures of the network's training, as the batch-norms tell it."""

    mean: Tensor
    variance: Tensor

    @classmethod
    def of(cls, layer: SameConv) -> Usual:
        mean, spread = layer.usual
        return cls(mean, spread**2)

    def __add__(self, other: Usual) -> Usual:
        """Of a sum; the two taken for independent."""
        return Usual(self.mean + other.mean, self.variance + other.variance)

    def levels(self) -> Levels:
        reach = REACH * self.variance.sqrt()
        return Levels.of(min(0.0, (self.mean - reach).min().item()), max(0.0, (self.mean + reach).max().item()))


def mean_after_relu6(layer: SameConv) -> Tensor:
    """(outputs,) the means of min(max(y, 0), 6), y a normal variable of the layer's usual mean and spread."""
    mean, spread = layer.usual
    spread = spread.clamp_min(1e-9)
    low, high = -mean / spread, (6 - mean) / spread
    density = lambda z: torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    below = torch.special.ndtr
    return mean * (below(high) - below(low)) - spread * (density(high) - density(low)) + 6 * (1 - below(high))


def quantise(layer: SameConv, arriving: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """-> weights (outputs, inputs / groups, kernel, kernel) int8, their scales (outputs,), and the corrected bias (outputs,)
    int32 in units of scale times those. arriving: (inputs,) usual means of the inputs; scale: the inputs'."""
    weight = layer.weight.detach().double()
    scales = weight.abs().amax((1, 2, 3)).clamp_min(1e-12) / WEIGHT_LEVELS  # (outputs,)
    steps = (weight / scales[:, None, None, None]).round()
    error = (steps * scales[:, None, None, None] - weight).sum((2, 3))  # (outputs, inputs / groups)
    moved = error[:, 0] * arriving if layer.groups > 1 else error @ arriving  # (outputs,); all grouped layers are depthwise
    bias = (layer.bias.detach().double() - moved) / (scales * scale)
    return steps.to(torch.int8), scales.float(), bias.round().to(torch.int32)


class Int8Graph(Graph):
    """Tensors here are uint8; with each goes what its values stand for."""

    def __init__(self):
        super().__init__()
        self._levels: dict[str, Levels] = {}

    def quantised(self, x: str, levels: Levels) -> str:
        """x float -> uint8."""
        return self._leave(self.node("QuantizeLinear", [x, *self._of(levels, f"{x}.levels")], f"{x}.uint8"), levels)

    def floating(self, x: str) -> str:
        """x uint8 -> float."""
        return self.node("DequantizeLinear", [x, *self._of(self._levels[x], f"{x}.float")], f"{x}.float")

    def int8_conv(self, name: str, layer: SameConv, x: str, size: int, arriving: Tensor, levels: Levels) -> tuple[str, int]:
        """As `conv`; the output's levels do what a ReLU6 would. arriving: (inputs,) usual means."""
        weight, scales, bias = quantise(layer, arriving, self._levels[x].scale)
        parts = {"weight": weight.numpy(), "scales": scales.numpy(), "zeros": np.zeros(len(scales), np.int8), "bias": bias.numpy()}
        weight, scales, zeros, bias = (self.constant(f"{name}.{part}", value) for part, value in parts.items())
        inputs = [x, *self._of(self._levels[x], f"{name}.from"), weight, scales, zeros, *self._of(levels, f"{name}.to"), bias]
        return self._leave(self.node("QLinearConv", inputs, f"{name}.conv", **conv_attributes(layer, size)), levels), -(-size // layer.stride[0])

    def int8_block(self, name: str, block: InvertedResidual, x: str, size: int, usual: Usual) -> tuple[str, int, Usual]:
        """As `block`; usual: of x, and of what comes out."""
        y, out, inside = x, size, block.expand
        y, _ = self.int8_conv(f"{name}.expand", inside, y, size, usual.mean, RELU6)
        y, out = self.int8_conv(f"{name}.depthwise", block.depthwise, y, size, mean_after_relu6(inside), RELU6)
        own = Usual.of(block.project)
        y, _ = self.int8_conv(f"{name}.project", block.project, y, out, mean_after_relu6(block.depthwise), own.levels())
        if not block.spec.residual:
            return y, out, own
        total = self.node("Add", [self.floating(y), self.floating(x)], f"{name}.sum")
        return self.quantised(total, (usual + own).levels()), out, usual + own

    def _of(self, levels: Levels, name: str) -> list[str]:
        return [self.constant(f"{name}.scale", np.float32(levels.scale)), self.constant(f"{name}.zero", np.uint8(levels.zero))]

    def _leave(self, name: str, levels: Levels) -> str:
        self._levels[name] = levels
        return name


def build(model: EfficientNetLite0, *, size: int, mean: int, std: int) -> bytes:
    """As `onnx_graph.build`: frames (m, 3, size, size) uint8 -> patches (m, (size / 32)^2, 432)."""
    g = Int8Graph()
    x, side = g.entrance(model, size, mean, std)
    stride16 = ""
    for index, block in enumerate(model.blocks):
        name = f"blocks.{index}"
        if index < FLOAT_BLOCKS:
            x, side = g.block(name, block, x, side)
            continue
        if index == FLOAT_BLOCKS:
            usual = Usual.of(model.blocks[index - 1].project)
            x = g.quantised(x, usual.levels())
        x, side, usual = g.int8_block(name, block, x, side, usual)
        if index == STRIDE16_BLOCK:
            stride16 = g.floating(x)
    return g.finish(model, stride16, g.floating(x), size, side)


def largest_products() -> tuple[bytes, np.ndarray, np.ndarray]:
    """-> a graph from "values" to "sums", values (1, 64, 8, 8) for it, and the sums it must give: of the largest products of
    which a convolution is made. Where they are added in too few bits, the graph gives others."""
    g, width = Graph(), 64
    unit, none = g.constant("unit", np.float32(1)), g.constant("none", np.uint8(0))
    weight = g.constant("weight", np.full((width, width, 1, 1), WEIGHT_LEVELS, np.int8))
    coarse = g.constant("coarse", np.float32(width * WEIGHT_LEVELS))
    g.node("QLinearConv", ["values", unit, none, weight, unit, g.constant("middle", np.int8(0)), coarse, none], "sums", kernel_shape=[1, 1])
    value = np.full((1, width, 8, 8), LEVELS, np.uint8)
    return g.serialised("values", list(value.shape), "sums", list(value.shape), TensorProto.UINT8), value, value
