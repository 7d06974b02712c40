"""A picture a scene: which frame stands for it, and its files."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mambamia_cli.records import Scene, ScenesRecord

INSIDE = 1.0
"""Seconds into a scene at which its picture is taken: past what is left of a transition, before much has happened."""

MANY = 200
"""The pictures of more scenes than this are taken where it is quick: decoding on from a keyframe takes most of the time."""

STEM_BYTES = 180
"""A longer name of a video is cut, so that names of pictures stay within what file systems take."""


def moment(scene: Scene) -> float:
    """The time of the frame that stands for a scene: a second after it begins (after its transition, where that is
    gradual), sooner in a scene shorter than three seconds."""
    begin = _begin(scene)
    return begin + min(INSIDE, (scene.end - begin) / 3)


def _begin(scene: Scene) -> float:
    """The time from which on a scene is seen unmixed."""
    return scene.transition_end if scene.transition_end is not None and scene.transition_end < scene.end else scene.start


def pictures(
    path: Path, scenes: Sequence[Scene], box: tuple[int, int], *, stream: int | None = None
) -> Iterator[tuple[int, np.ndarray | None]]:
    """(index of the scene, its picture (H, W, 3) uint8 RGB within `box` (height, width)) for each scene, in order, one in
    memory at a time; None where nothing decodes. A picture is the caller's only until the next. Of more than MANY scenes it
    is that of a keyframe between the scene's beginning and its moment, where there is one.

    Raises:
        InputError: the video cannot be read.
    """
    from mambamia_cli.video.grab import frames_at
    from mambamia_cli.video.jpeg import fit
    from mambamia_cli.video.probe import probe

    info = probe(path, stream=stream)
    since = [_begin(scene) for scene in scenes] if len(scenes) > MANY else None
    yield from frames_at(info, [moment(scene) for scene in scenes], fit((info.height, info.width), box), since=since)


def evenly(count: int, most: int) -> list[int]:
    """At most `most` of `count` indices, evenly spread."""
    return list(range(count)) if count <= most else [(2 * i + 1) * count // (2 * most) for i in range(most)]


def stem(record: ScenesRecord) -> str:
    """The name of a record's video without folder and ending, fit for the name of a file. A record read from a file may
    say anything."""
    name = Path(record.video.title or record.video.source).stem
    name = re.sub(r'[\x00-\x1f/\\:*?"<>|]', "_", name).lstrip(".")
    while len(name.encode("utf-8", "surrogateescape")) > STEM_BYTES:
        name = name[:-1]
    return name or "video"


def file_name(name: str, n: int, count: int) -> str:
    """"film-scene-007.jpg": numbers of one length, so that files sort in order."""
    return f"{name}-scene-{n:0{max(3, len(str(count)))}d}.jpg"
