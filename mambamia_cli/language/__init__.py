"""Anchors and a question -> text: the language model, its prompt, projector and adapter. Importing this imports no torch."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mambamia_cli.language.model import LanguageModel, describe_quant, load_language_model

__all__ = ["LanguageModel", "describe_quant", "load_language_model"]


def __getattr__(name: str):
    if name in __all__:
        return getattr(import_module("mambamia_cli.language.model"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
