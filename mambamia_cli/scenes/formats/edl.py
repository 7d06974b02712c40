"""An edit decision list in CMX 3600: the video cut at its markers, one event a scene."""

from mambamia_cli.records import ScenesRecord
from mambamia_cli.scenes.formats import Written
from mambamia_cli.scenes.formats.moments import drops, name_of, on_frames, one_line, smpte, timeline_rate

_MOST = 999
"""Events that CMX 3600 can number."""

_TITLE_WIDTH = 70


def write(record: ScenesRecord) -> Written:
    """Events with source times from the video's first frame, put one after the other on the record side from zero."""
    rate, doubts = timeline_rate(record)
    name = name_of(record)
    channels = "AA/V" if record.video.audio else "V"
    lines = [f"TITLE: {name[:_TITLE_WIDTH].rstrip()}", f"FCM: {'DROP FRAME' if drops(rate) else 'NON-DROP FRAME'}"]
    events = list(on_frames(record, rate))
    for n, (one, first, after) in enumerate(events, 1):
        begin = events[0][1]
        source, target = (first, after), (first - begin, after - begin)
        times = " ".join(smpte(frame, rate) for frame in (*source, *target))
        lines += ["", f"{n:03d}  AX       {channels:<5} C        {times}", f"* FROM CLIP NAME: {name}", f"* COMMENT: {one_line(one.title)}"]
    if len(events) > _MOST:
        doubts.append(f"{len(events)} events are more than the {_MOST} that CMX 3600 can number; some programs read no further")
    if events and events[-1][2] / rate >= 24 * 3600:
        doubts.append("timecode starts again at 24 hours")
    return "\n".join(lines) + "\n", doubts

