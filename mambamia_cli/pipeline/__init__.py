"""The hall: the one place where video, vision, compressor and language meet. The Python API.

    from mambamia_cli import open_video
    video = open_video("a.mp4")
    video.ask("who is it?"), video.scenes(), video.summarize()

Weights are loaded when they are first needed. The command line imports this only to run, after everything is checked.
"""

from mambamia_cli.pipeline.engine import Models
from mambamia_cli.pipeline.index import Index
from mambamia_cli.pipeline.video import Video, open_video

__all__ = ["Index", "Models", "Video", "open_video"]
