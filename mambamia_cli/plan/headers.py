"""Names, shapes and types of a safetensors folder's tensors, from the files' headers alone."""

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mambamia_cli.errors import ModelError

BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
         "F8_E4M3": 1, "F8_E5M2": 1}  # fmt: skip
INDEX = "model.safetensors.index.json"
_LARGEST_HEADER = 100_000_000  # bytes, as the format has it


@dataclass(frozen=True)
class Entry:
    """One tensor of a file: shape as stored, `size` bytes as stored."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        return self.elements * BYTES.get(self.dtype, 4)


def read_header(path: Path) -> list[Entry]:
    """The tensors of one file. Raises ModelError when it is no safetensors file."""
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _LARGEST_HEADER:
                raise ValueError("its header is too long")
            header = json.loads(file.read(length))
        return [Entry(name, tuple(fact["shape"]), fact["dtype"]) for name, fact in header.items() if name != "__metadata__"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise ModelError(f"the weights file {path} is damaged ({error})", "get the model again") from None


def entries(folder: Path) -> list[Entry]:
    """All tensors of a folder, sharded or not; empty when it holds no safetensors. Raises ModelError for damaged files."""
    return [entry for path in _files(folder) for entry in read_header(path)]


def _files(folder: Path) -> Iterator[Path]:
    if (folder / INDEX).is_file():
        try:
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            names = sorted(set(index["weight_map"].values()))
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise ModelError(f"{folder / INDEX} cannot be read ({error})", "get the model again") from None
        yield from (folder / name for name in names if (folder / name).is_file())
    elif (folder / "model.safetensors").is_file():
        yield folder / "model.safetensors"
