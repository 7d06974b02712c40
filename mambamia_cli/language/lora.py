"""Low-rank adapters of the language model: what training adds to it, small enough to commit.

An adapter folder is config.json (rank, alpha, targets) and model.safetensors with `<linear>.lora_A` (r, in) and
`<linear>.lora_B` (out, r); the merged weight is W + alpha / r * B A.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mambamia_cli.errors import ModelError


@dataclass(frozen=True)
class LoraConfig:
    rank: int = 16
    alpha: float = 32.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")


class LoraLinear(nn.Module):
    """A frozen linear layer plus a trainable low-rank update; B starts at zero, so it starts as the frozen layer."""

    def __init__(self, base: nn.Linear, config: LoraConfig):
        super().__init__()
        self.base, self.scale = base, config.alpha / config.rank
        self.lora_A = nn.Parameter(torch.randn(config.rank, base.in_features) / base.in_features**0.5)
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, config.rank))

    def forward(self, x: Tensor) -> Tensor:
        low = (x.to(self.lora_A) @ self.lora_A.T) @ self.lora_B.T
        return self.base(x) + (self.scale * low).to(x.dtype)


def attach(model: nn.Module, config: LoraConfig) -> dict[str, LoraLinear]:
    """Freeze `model` and put a LoraLinear in the place of every target linear; returns them by name."""
    model.requires_grad_(False)
    found = {}
    for name, module in list(model.named_modules()):
        for child_name, child in list(module.named_children()):
            if child_name in config.targets and hasattr(child, "in_features"):
                wrapped = LoraLinear(child, config)
                setattr(module, child_name, wrapped)
                found[f"{name}.{child_name}"] = wrapped
    if not found:
        raise ModelError(f"no layer is named {', '.join(config.targets)}", "set the adapter's targets for this model")
    return found


def parameters(adapters: dict[str, LoraLinear]) -> Iterator[nn.Parameter]:
    for adapter in adapters.values():
        yield adapter.lora_A
        yield adapter.lora_B


def save_adapter(adapters: dict[str, LoraLinear], config: LoraConfig, folder: Path) -> None:
    """Write config.json and model.safetensors (float16)."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
    tensors = {}
    for name, adapter in adapters.items():
        tensors[f"{name}.lora_A"] = adapter.lora_A.detach().half().contiguous()
        tensors[f"{name}.lora_B"] = adapter.lora_B.detach().half().contiguous()
    save_file(tensors, folder / "model.safetensors")


def read_adapter(folder: Path) -> tuple[LoraConfig, dict[str, Tensor]]:
    """(config, tensors in float32). Raises ModelError for a missing or damaged file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        raw = json.loads((folder / "config.json").read_text())
        config = LoraConfig(**{**raw, "targets": tuple(raw["targets"])})
        return config, {k: v.float() for k, v in load_file(folder / "model.safetensors").items()}
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise ModelError(f"the adapter in {folder} cannot be read ({error})", "fetch or train the model again") from error


def merge_adapter(state: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """`state` with the adapter folded in: W + alpha / r * B A, in each weight's own dtype.

    Raises ModelError when the adapter names a weight that the model lacks or that has another shape.
    """
    config, tensors = read_adapter(Path(folder))
    merged = dict(state)
    for key, low in tensors.items():
        if not key.endswith(".lora_A"):
            continue
        name = key.removesuffix(".lora_A")
        weight, high = state.get(f"{name}.weight"), tensors.get(f"{name}.lora_B")
        if weight is None or high is None or weight.shape != (high.shape[0], low.shape[1]):
            raise ModelError(f"the adapter in {folder} does not fit the language model at {name}", "use the model it was trained for")
        merged[f"{name}.weight"] = (weight.float() + config.alpha / config.rank * high @ low).to(weight.dtype)
    return merged
