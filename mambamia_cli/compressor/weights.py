"""Weights of a module from and to safetensors, with errors that say what to do. Nothing is ever pickled."""

import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from mambamia_cli.errors import ModelError, OutputError

_REMEDY = "fetch the model again with `mambamia models pull` or name another with --model"


def load_weights(module: nn.Module, path: Path, device: str | torch.device = "cpu") -> None:
    """Fill a module (it may be on the meta device) by name. Raises ModelError for a missing or damaged file, for missing
    or unknown names, for wrong shapes and for values that are not finite. Files may be in half precision: values take the
    module's own dtype."""
    if not path.is_file():
        raise ModelError(f"weights file {path} is missing", _REMEDY)
    try:
        state = load_file(path, device=str(device))
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"weights file {path} is damaged ({error})", _REMEDY) from None
    own = module.state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in own.items()}
    _refuse(path, "lacks", sorted(expected.keys() - state.keys()))
    _refuse(path, "has unknown", sorted(state.keys() - expected.keys()))
    for name, shape in expected.items():
        if tuple(state[name].shape) != shape:
            found = tuple(state[name].shape)
            raise ModelError(
                f"weights file {path} does not fit its config.json: {name} is {found} where {shape} is expected",
                _REMEDY,
            )
        if not torch.isfinite(state[name]).all():
            raise ModelError(f"weights file {path} is damaged: {name} holds values that are not finite", _REMEDY)
    module.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in state.items()}, assign=True)
    module.requires_grad_(True)


def save_folder(module: nn.Module, folder: Path, config_json: str) -> None:
    """config.json and model.safetensors in `folder`. Each file appears whole or not at all. Raises OutputError."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Weights first: a config.json without weights says "model here" and lies.
        _replace(folder / "model.safetensors", lambda temporary: save_file(state, temporary))
        _replace(folder / "config.json", lambda temporary: temporary.write_text(config_json, encoding="utf-8"))
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"cannot write the model to {folder} ({error})", "choose a writable folder with space"
        ) from None


def _replace(path: Path, write) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _refuse(path: Path, verb: str, names: list[str]) -> None:
    if names:
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        raise ModelError(f"weights file {path} {verb} {shown}, so it does not fit its config.json", _REMEDY)
