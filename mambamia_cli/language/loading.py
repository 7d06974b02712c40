"""Weights straight into place: an empty model, filled tensor by tensor, each quantised as it comes.

There is never a second copy of a model in memory, only of the one tensor that is being worked on.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mambamia_cli.errors import ModelError
from mambamia_cli.models.checkpoint import Checkpoint

FOUR_BIT = ("nf4", "fp4")


@contextmanager
def empty() -> Iterator[None]:
    """Modules made inside have parameters of a shape but without memory; buffers, which no file holds, are real."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        yield


def quantize_linears(module: nn.Module, quant: str, compute: torch.dtype, keep: tuple[str, ...] = ("lm_head",)) -> None:
    """Put bitsandbytes' layers in the place of the linear ones of an empty model, with the settings that transformers
    uses for the same quant (language.transformers_lm.bitsandbytes_config). Other quants leave it as it is."""
    if quant not in (*FOUR_BIT, "int8"):
        return
    import bitsandbytes as bnb

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it would write a line a layer and token
    for name, child in list(module.named_modules()):
        if not isinstance(child, nn.Linear) or name.rpartition(".")[2] in keep:
            continue
        size = (child.in_features, child.out_features, child.bias is not None)
        with torch.device("meta"):
            if quant == "int8":
                layer = bnb.nn.Linear8bitLt(*size, has_fp16_weights=False, threshold=6.0)
            else:
                layer = bnb.nn.Linear4bit(*size, compute_dtype=compute, compress_statistics=True, quant_type=quant)
        parent, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(parent), leaf, layer.requires_grad_(False))


def fill(
    module: nn.Module, checkpoint: Checkpoint, rename: Callable[[str], str | None], *, dtype: torch.dtype,
    device: str | Callable[[str], str], optional: tuple[str, ...] = (),
) -> None:  # fmt: skip
    """Fill an empty module from a checkpoint.

    rename: a tensor's name in the file -> its name in the module, None for one that is not wanted (it is not read).
    device: of all, or a name in the module -> its device.
    optional: names that may be missing, because they are tied to others.

    Raises:
        ModelError: tensors missing, unknown, of another shape, damaged or not finite.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    at = device if callable(device) else lambda name: device
    missing = set(shapes)
    for name, tensor in checkpoint.tensors(lambda name: rename(name) is not None):
        target = rename(name)
        if target not in shapes:
            raise ModelError(f"the weights in {checkpoint.folder} have an unknown tensor {name}", "fetch the model again")
        if tuple(tensor.shape) != shapes[target]:
            expected = f"{tuple(tensor.shape)} where its config.json makes it {shapes[target]}"
            raise ModelError(f"{name} in {checkpoint.folder} is {expected}", "fetch the model again")
        _place(module, target, tensor, name, dtype, at(target))
        missing.discard(target)
    if lacking := sorted(missing - set(optional)):
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise ModelError(f"the weights in {checkpoint.folder} lack {lacking[0]}{more}", "fetch the model again")
    for name, buffer in module.named_buffers():
        owner, leaf = _owner(module, name)
        owner._buffers[leaf] = buffer.to(at(name))


def _place(module: nn.Module, target: str, tensor: Tensor, name: str, dtype: torch.dtype, device: str) -> None:
    owner, leaf = _owner(module, target)
    value = tensor.to(dtype) if tensor.is_floating_point() else tensor
    if value.is_floating_point() and not torch.isfinite(value).all():
        raise ModelError(f"{name} holds values that are not finite", "fetch the model again, or use --quant bf16 or fp32")
    if leaf in owner._buffers:
        owner._buffers[leaf] = value.to(device)
        return
    kind = type(owner._parameters[leaf]).__name__
    if kind == "Params4bit":
        import bitsandbytes as bnb

        parameter = bnb.nn.Params4bit(value, requires_grad=False, quant_type=owner.weight.quant_type, compress_statistics=True, module=owner)
        owner._parameters[leaf] = parameter.to(device)
    elif kind == "Int8Params":
        import bitsandbytes as bnb

        owner._parameters[leaf] = bnb.nn.Int8Params(value, requires_grad=False, has_fp16_weights=False).to(device)
    else:
        owner._parameters[leaf] = nn.Parameter(value.to(device), requires_grad=False)


def _owner(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    parent, _, leaf = name.rpartition(".")
    return module.get_submodule(parent), leaf
