"""`mambamia scenes --from RECORD.json`: scenes marked anew from a saved record, without decoding and without torch."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mambamia_cli.cli.console import Console
from mambamia_cli.cli.options import FRAMES, Options
from mambamia_cli.errors import UsageError
from mambamia_cli.records import ErrorRecord, ScenesRecord
from mambamia_cli.scenes import reading
from mambamia_cli.video.source import check_source

_NEEDS_VIDEO = (*(name for name in FRAMES if name != "video_track"), "model")
"""Options that say how the video is looked at, which a record cannot do again."""


def load(path: str, videos: Sequence[str], options: Options, *, refine: bool) -> list[ScenesRecord | ErrorRecord]:
    """The records to mark anew. A VIDEO that is named is where the record's video is now.

    Raises:
        UsageError: options that only a look at the video can follow, or more videos than one.
        InputError: no record, a damaged one, or one of another version.
    """
    plain = Options()
    given = [f"--{name.replace('_', '-')}" for name in _NEEDS_VIDEO if getattr(options, name) != getattr(plain, name)]
    given += [] if refine else ["--no-refine"]
    if given:
        raise UsageError(f"{given[0]} needs the video and --from does without", "leave it out, or leave out --from")
    records = reading.load(path)
    if videos:
        if len(videos) > 1 or len(records) > 1:
            raise UsageError("--from takes one VIDEO at most, for a record of one", "name the place that the record's video is in now")
        check_source(videos[0])
        records = [replace(one, video=replace(one.video, source=videos[0], title=Path(videos[0]).name))
                   if isinstance(one, ScenesRecord) else one for one in records]  # fmt: skip
    return records


def mark(record: ScenesRecord, marking: dict[str, Any], console: Console) -> ScenesRecord:
    """Scenes as `marking` says (threshold, min_scene_len, level); what is None stays as the record was marked with."""
    wanted = {name: value for name, value in marking.items() if value is not None}
    if not wanted:
        return record
    from mambamia_cli.scenes.marking import remark

    lowest, threshold = record.candidates_from, wanted.get("threshold")
    if lowest is not None and threshold is not None and threshold < lowest:
        console.warn(f"the record keeps markers down to a threshold of {lowest:.3g}; --threshold {threshold:g} finds none weaker, mark the video again for these")
    return remark(record, **wanted)


def file_of(record: ScenesRecord) -> Path:
    """The video of a record, for what needs its frames: fetched again where it came from a URL.

    Raises:
        InputError: it is not there any more. DownloadError: it cannot be fetched.
    """
    from mambamia_cli.models import cache_dir
    from mambamia_cli.video import fetch, is_url

    check_source(record.video.source)
    return fetch(record.video.source, cache_dir() / "videos") if is_url(record.video.source) else Path(record.video.source)
