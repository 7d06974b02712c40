"""Frames to patch grids: the Encoder protocol, the embedded EfficientNet-Lite0 and any transformers vision tower."""

from mambamia_cli.vision.encoder import EMBEDDED, Encoder, load_encoder

__all__ = ["EMBEDDED", "Encoder", "load_encoder"]
