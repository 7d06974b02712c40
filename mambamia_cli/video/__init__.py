"""Bytes to timed frames: probe a file, decode it in presentation order at a sampling, fetch it from a URL.

Nothing here is imported before it is used, so that `from mambamia_cli.video import parse_time` costs no PyAV.
`probe` and `grab` are taken from their modules (`from mambamia_cli.video.probe import probe`), which share their names.
"""

from importlib import import_module

_WHERE = {
    "DecodeStats": "decode",
    "FrameChunk": "decode",
    "FrameStream": "decode",
    "SampleSpec": "sample",
    "VideoInfo": "probe",
    "fetch": "source",
    "is_url": "source",
    "open_frames": "decode",
    "parse_time": "timespec",
}
__all__ = list(_WHERE)


def __getattr__(name: str):
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
