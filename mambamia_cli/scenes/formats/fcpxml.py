"""Final Cut Pro XML, version 1.9: a project whose spine holds one clip a scene. Every time is a rational number of seconds
and a whole number of frames, as Final Cut demands."""

from fractions import Fraction
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from mambamia_cli.records import ScenesRecord
from mambamia_cli.scenes.formats import Written
from mambamia_cli.scenes.formats.moments import (
    address,
    drops,
    exact,
    frame_at,
    name_of,
    on_frames,
    one_line,
    timeline_rate,
)

VERSION = "1.9"


def write(record: ScenesRecord) -> Written:
    rate, doubts = timeline_rate(record)
    clips = list(on_frames(record, rate))
    begin = clips[0][1] if clips else 0
    name, counting = name_of(record), "DF" if drops(rate) else "NDF"
    root = Element("fcpxml", version=VERSION)
    _resources(root, record, rate, name, clips[-1][2] if clips else 0)
    event = SubElement(SubElement(root, "library"), "event", name=name)
    sequence = SubElement(SubElement(event, "project", name=name), "sequence", format="r1",
                          duration=_seconds(clips[-1][2] - begin if clips else 0, rate), tcStart="0s", tcFormat=counting)  # fmt: skip
    spine = SubElement(sequence, "spine")
    for one, first, after in clips:
        SubElement(spine, "asset-clip", ref="r2", name=one_line(one.title), offset=_seconds(first - begin, rate),
                   start=_seconds(first, rate), duration=_seconds(after - first, rate), tcFormat=counting)  # fmt: skip
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n{text}\n', doubts


def _resources(root: Element, record: ScenesRecord, rate: Fraction, name: str, last: int) -> None:
    """The format of the sequence (r1) and the file (r2), which is at least `last` frames long."""
    video, resources = record.video, SubElement(root, "resources")
    shape = {"width": str(video.width), "height": str(video.height)} if video.width and video.height else {}
    SubElement(resources, "format", id="r1", frameDuration=_seconds(1, rate), **shape)
    length = max(frame_at(exact(video.duration or 0.0), rate), last)
    sound = {"hasAudio": "1", "audioSources": "1"} if video.audio else {}
    asset = SubElement(resources, "asset", id="r2", name=name, start="0s", duration=_seconds(length, rate), hasVideo="1",
                       format="r1", videoSources="1", **sound)  # fmt: skip
    SubElement(asset, "media-rep", kind="original-media", src=address(record))


def _seconds(frames: int, rate: Fraction) -> str:
    """So many frames as "N/Ds" over the rate's own denominator: "1001/30000s"."""
    if not frames:
        return "0s"
    return f"{frames * rate.denominator}/{rate.numerator}s"
