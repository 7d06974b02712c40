"""The folded EfficientNet-Lite0 as an ONNX graph, written node by node from our own module's weights.

No tracing and no exporter: the graph is the network of `efficientnet`, spelled once more, so what ONNX Runtime sees is
exactly a chain of convolution + clip, which it fuses and runs in its blocked channel layout.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from mambamia_cli.vision.efficientnet import CLASSES, STRIDE16_BLOCK, EfficientNetLite0, SameConv, same_padding

OPSET, IR_VERSION = 17, 8  # read by every ONNX Runtime since 1.12


class _Graph:
    """Collects nodes and weights; every method returns the name of the tensor it makes."""

    def __init__(self):
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

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
        kernel, stride = layer.kernel_size[0], layer.stride[0]
        before, after = same_padding(size, kernel, stride)
        weight, bias = self.tensor(f"{name}.weight", layer.weight), self.tensor(f"{name}.bias", layer.bias)
        shape = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "group": layer.groups}
        y = self.node("Conv", [x, weight, bias], f"{name}.conv", pads=[before, before, after, after], **shape)
        if relu6:
            y = self.node("Clip", [y, "zero", "six"], f"{name}.relu6")
        return y, -(-size // stride)


def build(model: EfficientNetLite0, *, size: int, mean: float, std: float) -> bytes:
    """frames (m, 3, size, size) uint8 -> patches (m, (size / 32)^2, 432) and logits (m, 1000), as a serialised graph."""
    g = _Graph()
    g.constant("zero", np.float32(0)), g.constant("six", np.float32(6))
    x = g.node("Cast", ["frames"], "float", to=TensorProto.FLOAT)
    x = g.node("Sub", [x, g.constant("mean", np.float32(mean))], "centred")
    x = g.node("Mul", [x, g.constant("scale", np.float32(1 / std))], "normalised")
    x, side = g.conv("stem", model.stem, x, size, relu6=True)
    stride16 = ""
    for index, block in enumerate(model.blocks):
        name, y, out = f"blocks.{index}", x, side
        if block.expand is not None:
            y, _ = g.conv(f"{name}.expand", block.expand, y, side, relu6=True)
        y, out = g.conv(f"{name}.depthwise", block.depthwise, y, side, relu6=True)
        y, _ = g.conv(f"{name}.project", block.project, y, out, relu6=False)
        x = g.node("Add", [y, x], f"{name}.sum") if block.spec.residual else y
        side = out
        if index == STRIDE16_BLOCK:
            stride16 = x
    patches, width = _join(g, stride16, x, model)
    _classify(g, x, side, model)
    graph = helper.make_graph(
        g.nodes,
        "efficientnet-lite0",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["m", 3, size, size])],
        [
            helper.make_tensor_value_info(patches, TensorProto.FLOAT, ["m", side * side, width]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["m", CLASSES]),
        ],
        g.weights,
    )
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION).SerializeToString()


def _join(g: _Graph, stride16: str, stride32: str, model: EfficientNetLite0) -> tuple[str, int]:
    """As `efficientnet.join_features`: (m, 112, 2r, 2r) and (m, 320, r, r) -> (m, r*r, 432)."""
    width = model.blocks[-1].spec.outputs + model.blocks[STRIDE16_BLOCK].spec.outputs
    pooled = g.node("AveragePool", [stride16], "stride16.pooled", kernel_shape=[2, 2], strides=[2, 2])
    joined = g.node("Concat", [stride32, pooled], "joined", axis=1)  # (m, 432, r, r)
    flat = g.node("Reshape", [joined, g.constant("flat", np.array([0, width, -1], np.int64))], "flattened")
    return g.node("Transpose", [flat], "patches", perm=[0, 2, 1]), width


def _classify(g: _Graph, stride32: str, side: int, model: EfficientNetLite0) -> str:
    head, _ = g.conv("head", model.head, stride32, side, relu6=True)  # (m, 1280, r, r)
    pooled = g.node("Flatten", [g.node("GlobalAveragePool", [head], "head.mean")], "pooled", axis=1)  # (m, 1280)
    weight = g.tensor("classifier.weight", model.classifier.weight)
    return g.node("Gemm", [pooled, weight, g.tensor("classifier.bias", model.classifier.bias)], "logits", transB=1)
