"""What `scenes` draws of a record: --plot, --report and --thumbs. Each scene's frame is decoded once for all three."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mambamia_cli.cli import inputs
from mambamia_cli.cli.console import Console
from mambamia_cli.cli.output import Output, write_atomic
from mambamia_cli.errors import OutputError, UsageError
from mambamia_cli.records import ScenesRecord

THUMB_BOX = (360, 640)
"""Pixels (height, width) that a picture of --thumbs stays within."""


@dataclass(frozen=True)
class Pictures:
    """What is asked for; None = not."""

    plot: str | None = None
    report: str | None = None
    thumbs: str | None = None

    def check(self, videos: Sequence[str], output: str | None = None) -> None:
        """Refuse what cannot be written, before any work. The folder of --thumbs is made.

        Raises:
            UsageError: several videos for one file, an ending that says nothing, two results in one file.
            OutputError: a place that cannot be written to.
        """
        taken = [] if output in (None, "-") else [os.path.realpath(str(output))]
        for flag, path, endings in (("--plot", self.plot, (".png", ".svg")), ("--report", self.report, (".html", ".htm"))):
            if path is None:
                continue
            if len(videos) > 1:
                raise UsageError(f"{flag} draws one video", "run scenes once for each video")
            if not path.lower().endswith(endings):
                raise UsageError(f"{flag} {path} is neither {' nor '.join(endings)}", "end its name with one of them")
            if os.path.realpath(path) in taken:
                raise UsageError(f"{flag} {path} is where another result goes", "give another name")
            taken.append(os.path.realpath(path))
            inputs.check_not_input(path, videos, flag)
            Output(path).check()
        if self.thumbs is not None:
            _check_folder(self.thumbs, videos)

    def write(self, record: ScenesRecord, video: Path | None, console: Console, *, stream: int | None = None) -> None:
        """Write what is asked for. video: the file that frames come from; None = there is none, so no frames are shown.

        Raises:
            UsageError: --thumbs without a video. OutputError: a place that cannot be written to.
        """
        if self.thumbs is not None and video is None:
            raise UsageError("--thumbs needs the video", "run scenes on the video itself")
        if self == Pictures():
            return
        kept, few = self._take(record, video, console, stream)
        if self.plot is not None:
            from mambamia_cli.scenes.plot import draw

            write_atomic(Path(self.plot), draw(record, self.plot.rsplit(".", 1)[1].lower(), few))
        if self.report is not None:
            from mambamia_cli.scenes.report import page

            write_atomic(Path(self.report), page(record, Path(self.report), video=video, stream=stream, thumbs=kept))

    def _take(
        self, record: ScenesRecord, video: Path | None, console: Console, stream: int | None
    ) -> tuple[list[bytes | None] | None, dict[int, Any]]:
        """Go over the scenes once: -> (their JPEGs for the page, pictures (H, W, 3) for the plot by index). Files of --thumbs are
        written on the way."""
        if video is None:
            return None, {}
        from mambamia_cli.scenes import plot, report, thumbs
        from mambamia_cli.video.jpeg import encode, fit

        count, name = len(record.scenes), thumbs.stem(record)
        drawn = set(plot.shown(record)) if self.plot is not None else set()
        every = self.thumbs is not None or self.report is not None
        wanted = range(count) if every else sorted(drawn)
        small, most = report.thumb_limits(count)
        boxes = [box for box, asked in ((THUMB_BOX, self.thumbs), (small, self.report), (plot.BOX, self.plot)) if asked is not None]
        box = (max(b[0] for b in boxes), max(b[1] for b in boxes))
        kept: list[bytes | None] = [None] * count
        few: dict[int, Any] = {}
        missing = 0
        for k, picture in thumbs.pictures(video, [record.scenes[i] for i in wanted], box, stream=stream):
            index = wanted[k]
            console.progress("taking pictures", k + 1, len(wanted))
            if picture is None:
                missing += 1
                continue
            if self.thumbs is not None:
                path = Path(self.thumbs) / thumbs.file_name(name, record.scenes[index].n, count)
                write_atomic(path, encode(picture, fit(picture.shape[:2], THUMB_BOX)))
            if self.report is not None:
                kept[index] = encode(picture, fit(picture.shape[:2], small), most=most)
            if index in drawn:
                few[index] = picture.copy()
        console.clear()
        if missing:
            console.warn(f"{missing} of {len(wanted)} scenes have no picture: the video does not decode there")
        return kept, few


def _check_folder(folder: str, videos: Sequence[str]) -> None:
    names: dict[str, str] = {}
    for video in videos:
        name = Path(video).stem
        if names.setdefault(name, video) != video:
            raise UsageError(f"--thumbs would give pictures of {names[name]} and {video} the same names", "run scenes once for each of them")
    try:
        os.makedirs(folder, exist_ok=True)
    except FileExistsError as error:
        raise OutputError(f"--thumbs {folder} is not a folder", "give the name of a folder") from error
    except OSError as error:
        raise OutputError(f"cannot make {folder}: {(error.strerror or 'error').lower()}", "choose another place for --thumbs") from error
    Output(os.path.join(folder, "scene.jpg")).check()


def local_video(record: ScenesRecord) -> Path | None:
    """The video of a record that was read from a file, where it still is; None for a URL or a file that is gone."""
    from mambamia_cli.video.source import is_url

    try:
        path = Path(record.video.source)
        return path if not is_url(record.video.source) and path.is_file() else None
    except (OSError, ValueError):  # a name too long, or with a null character
        return None

