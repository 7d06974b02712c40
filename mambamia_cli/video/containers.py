"""File endings -> libav's muxers. Imports nothing, so that names can be checked before anything is loaded."""

WITH_CHAPTERS = {".mkv": "matroska", ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".webm": "webm"}
"""Containers that keep chapters."""

PIECES = {**WITH_CHAPTERS, ".ts": "mpegts"}
"""Containers that pieces of a video are written in as they are; of any other they are Matroska."""
