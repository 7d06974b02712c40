"""The folded EfficientNet-Lite0 up to its patches as an ONNX graph, written node by node from our own module's weights.

No tracing and no exporter: the graph is the network of `efficientnet`, spelled once more, so what ONNX Runtime sees is
exactly a chain of convolution + clip, which it fuses and runs in its blocked channel layout.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from mambamia_cli.vision.efficientnet import STRIDE16_BLOCK, EfficientNetLite0, InvertedResidual, SameConv, same_padding

OPSET, IR_VERSION = 17, 8  # read by every ONNX Runtime since 1.12


class Graph:
    """Collects nodes and weights; every method returns the name of the tensor it makes."""

    def __init__(self):
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.constant("zero", np.float32(0)), self.constant("six", np.float32(6))

    def constant(self, name: str, value: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def tensor(self, name: str, value: Tensor) -> str:
        return self.constant(name, value.detach().cpu().float().numpy())

    def conv(self, name: str, layer: SameConv, x: str, size: int, *, relu6: bool) -> tuple[str, int]:
        """x (m, inputs, size, size) -> (m, outputs, size / stride, size / stride), and that size."""
        weight, bias = self.tensor(f"{name}.weight", layer.weight), self.tensor(f"{name}.bias", layer.bias)
        y = self.node("Conv", [x, weight, bias], f"{name}.conv", **conv_attributes(layer, size))
        if relu6:
            y = self.node("Clip", [y, "zero", "six"], f"{name}.relu6")
        return y, -(-size // layer.stride[0])

    def entrance(self, model: EfficientNetLite0, size: int, mean: int, std: int) -> tuple[str, int]:
        """The graph's input, frames (m, 3, size, size) uint8 -> the stem's output (m, 32, size / 2, size / 2), and its size."""
        levels = [self.constant("scale", np.float32(1 / std)), self.constant("mean", np.uint8(mean))]
        x = self.node("DequantizeLinear", ["frames", *levels], "normalised")  # (frames - mean) / std
        return self.conv("stem", model.stem, x, size, relu6=True)

    def block(self, name: str, block: InvertedResidual, x: str, size: int) -> tuple[str, int]:
        """x (m, inputs, size, size) -> (m, outputs, size / stride, size / stride), and that size."""
        y, out = x, size
        if block.expand is not None:
            y, _ = self.conv(f"{name}.expand", block.expand, y, size, relu6=True)
        y, out = self.conv(f"{name}.depthwise", block.depthwise, y, size, relu6=True)
        y, _ = self.conv(f"{name}.project", block.project, y, out, relu6=False)
        return self.node("Add", [y, x], f"{name}.sum") if block.spec.residual else y, out

    def finish(self, model: EfficientNetLite0, stride16: str, stride32: str, size: int, side: int) -> bytes:
        """Stage 5 (m, 112, 2 side, 2 side) and the last block (m, 320, side, side) -> the whole graph, serialised.

        As `efficientnet.join_features`: patches (m, side * side, 432)."""
        width = model.blocks[-1].spec.outputs + model.blocks[STRIDE16_BLOCK].spec.outputs
        pooled = self.node("AveragePool", [stride16], "stride16.pooled", kernel_shape=[2, 2], strides=[2, 2])
        joined = self.node("Concat", [stride32, pooled], "joined", axis=1)  # (m, 432, side, side)
        flat = self.node("Reshape", [joined, self.constant("flat", np.array([0, width, -1], np.int64))], "flattened")
        patches = self.node("Transpose", [flat], "patches", perm=[0, 2, 1])
        return self.serialised("frames", ["m", 3, size, size], patches, ["m", side * side, width], TensorProto.FLOAT)

    def serialised(self, given: str, given_shape: list[int | str], made: str, made_shape: list[int | str], kind: int) -> bytes:
        """The graph of the nodes, from uint8 `given` to `made` of a kind."""
        graph = helper.make_graph(
            self.nodes,
            "efficientnet-lite0",
            [helper.make_tensor_value_info(given, TensorProto.UINT8, given_shape)],
            [helper.make_tensor_value_info(made, kind, made_shape)],
            self.weights,
        )
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION).SerializeToString()


def conv_attributes(layer: SameConv, size: int) -> dict[str, Any]:
    """ONNX's attributes of a convolution of pictures `size` on a side."""
    kernel, stride = layer.kernel_size[0], layer.stride[0]
    before, after = same_padding(size, kernel, stride)
    return {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "group": layer.groups, "pads": [before, before, after, after]}


def build(model: EfficientNetLite0, *, size: int, mean: int, std: int) -> bytes:
    """frames (m, 3, size, size) uint8 -> patches (m, (size / 32)^2, 432), as a serialised graph."""
    g = Graph()
    x, side = g.entrance(model, size, mean, std)
    stride16 = ""
    for index, block in enumerate(model.blocks):
        x, side = g.block(f"blocks.{index}", block, x, side)
        if index == STRIDE16_BLOCK:
            stride16 = x
    return g.finish(model, stride16, x, size, side)
