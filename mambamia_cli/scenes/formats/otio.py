"""An OpenTimelineIO timeline, made and serialized by the opentimelineio package (extra: otio)."""

from fractions import Fraction

from mambamia_cli.records import ScenesRecord
from mambamia_cli.scenes.formats import Written
from mambamia_cli.scenes.formats.moments import address, exact, frame_at, name_of, on_frames, one_line, timeline_rate


def write(record: ScenesRecord) -> Written:
    """One clip a scene on a video track, and on an audio track where the video has sound; all refer to the whole file."""
    import opentimelineio as otio

    rate, doubts = timeline_rate(record)
    clips = [(one.title, _range(otio, first, after, rate)) for one, first, after in on_frames(record, rate)]
    whole = exact(record.video.duration or max((scene.end for scene in record.scenes), default=0.0))
    available = _range(otio, 0, max(frame_at(whole, rate), 1), rate)
    timeline = otio.schema.Timeline(name_of(record))
    kinds = [otio.schema.TrackKind.Video, *([otio.schema.TrackKind.Audio] if record.video.audio else [])]
    for kind in kinds:
        track = otio.schema.Track(kind, kind=kind)
        for title, span in clips:
            media = otio.schema.ExternalReference(target_url=address(record), available_range=available)
            track.append(otio.schema.Clip(one_line(title), media_reference=media, source_range=span))
        timeline.tracks.append(track)
    return otio.adapters.write_to_string(timeline, "otio_json") + "\n", doubts


def _range(otio, first: int, after: int, rate: Fraction):
    """[first, after) in frames as a TimeRange."""
    at = otio.opentime.RationalTime
    return otio.opentime.TimeRange(at(first, float(rate)), at(after - first, float(rate)))
