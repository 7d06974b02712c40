"""mambamia: ask, mark scenes in and summarise long videos through the MambaMia compressor.

The Python API is lazy so that importing the package (and so `mambamia --help`) never imports torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["Video", "__version__", "open_video"]

if TYPE_CHECKING:
    from mambamia_cli.pipeline import Video, open_video

_LAZY = {"open_video": "mambamia_cli.pipeline", "Video": "mambamia_cli.pipeline"}


def __getattr__(name: str):
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
