"""Patch grids to anchors and delta: the MambaMia compressor. Knows only torch."""
