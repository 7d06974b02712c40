"""Tensors of a model folder by name, one at a time: sharded or single safetensors, or pickles where they are trusted."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mambamia_cli.errors import ModelError
from mambamia_cli.models.hub import INDEX, PICKLES

if TYPE_CHECKING:
    from torch import Tensor

SINGLE = "model.safetensors"
PICKLED = (*PICKLES, "*.pt", "*.pth")
TRUST = "convert it to safetensors, or trust whoever made it with --allow-pickle"


class Checkpoint:
    """The weights in a folder. `pickled`: they are no safetensors; `shapes` are read from headers alone.

    Raises:
        ModelError: no weights, a missing or damaged shard, or only pickles without `allow_pickle`.
    """

    def __init__(self, folder: Path, *, allow_pickle: bool = False):
        self.folder = folder
        self.pickled = False
        if (folder / INDEX).is_file():
            self._files = [folder / name for name in _shards(folder / INDEX)]
        elif (folder / SINGLE).is_file():
            self._files = [folder / SINGLE]
        else:
            self._files = sorted(path for pattern in PICKLED for path in folder.glob(pattern))
            self.pickled = bool(self._files)
            if not self._files:
                raise ModelError(f"{folder} holds no weights", "fetch the model again")
            if not allow_pickle:
                raise ModelError(f"the weights in {folder} are pickles, which can run programs", TRUST)
        for path in self._files:
            if not path.is_file():
                raise ModelError(f"{folder} lacks the shard {path.name}", "fetch the model again")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor by its name."""
        found = {}
        for path in self._files:
            if self.pickled:
                found |= {name: tuple(tensor.shape) for name, tensor in _unpickled(path).items()}
                continue
            with _opened(path) as shard:
                found |= {name: tuple(shard.get_slice(name).get_shape()) for name in shard.keys()}  # noqa: SIM118
        return found

    def tensors(self, wanted: Callable[[str], bool] = lambda name: True) -> Iterator[tuple[str, "Tensor"]]:
        """(name, tensor on the CPU) of the wanted ones, shard by shard. Of the others nothing is read.

        A tensor may be a view of the file: what is not kept or converted costs no memory, and each shard is closed before
        the next one is opened.
        """
        from safetensors import SafetensorError

        for path in self._files:
            if self.pickled:
                yield from ((name, tensor) for name, tensor in _unpickled(path).items() if wanted(name))
                continue
            with _opened(path) as shard:
                for name in shard.keys():  # noqa: SIM118
                    if not wanted(name):
                        continue
                    try:
                        tensor = shard.get_tensor(name)
                    except (SafetensorError, RuntimeError, OSError) as error:
                        raise _damaged(path, error) from error
                    yield name, tensor


def _shards(index: Path) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(index, error) from error
    if not names or any("/" in name or "\\" in name for name in names):
        raise ModelError(f"{index} names no shards beside it", "fetch the model again")
    return names


def _opened(path: Path):
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _unpickled(path: Path) -> dict[str, "Tensor"]:
    """What a pickle of a state dict holds. Only tensors and plain containers are made of it: nothing in it is run."""
    import pickle

    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, ValueError, EOFError, KeyError) as error:
        raise ModelError(f"{path} holds something other than weights, or is damaged", "fetch the model as safetensors") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}


def _damaged(path: Path, error: Exception) -> ModelError:
    return ModelError(f"the weights file {path} is damaged ({error})", "fetch the model again")
