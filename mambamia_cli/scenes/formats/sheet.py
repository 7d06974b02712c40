"""CSV with the header of PySceneDetect's list-scenes, so that what reads its files reads ours."""

import csv
import io
from itertools import chain

from mambamia_cli.records import ScenesRecord
from mambamia_cli.scenes.formats import Written
from mambamia_cli.scenes.formats.moments import clock, frame_at, milliseconds, rate, spans

HEADER = ("Scene Number", "Start Frame", "Start Timecode", "Start Time (seconds)", "End Frame", "End Timecode", "End Time (seconds)",
          "Length (frames)", "Length (timecode)", "Length (seconds)")  # fmt: skip
"""Frames count from 1 and "End Frame" is a scene's last; times are [start, end)."""


def write(record: ScenesRecord) -> Written:
    """The table under a row of its cuts, as list-scenes has it by default."""
    text, doubts = write_table(record)
    cuts = [clock(milliseconds(one.start)) for one in spans(record)[1:]]
    return _rows([["Timecode List:", *cuts]]) + text, doubts


def write_table(record: ScenesRecord) -> Written:
    """The header and a row a scene, as `list-scenes --skip-cuts` has it.

    Where the frame rate varies, frames are those of the average rate, there as here.
    """
    fps = rate(record)
    rows = [[one.n, *_moment(one.start, frame_at(one.start, fps) + 1), *_moment(one.end, frame_at(one.end, fps)),
             *_moment(one.end - one.start, frame_at(one.end, fps) - frame_at(one.start, fps))] for one in spans(record)]  # fmt: skip
    doubts = ["the video has a variable frame rate: the frame numbers of the csv are those of its average"] if record.video.vfr else []
    return _rows(chain([HEADER], rows)), doubts


def _moment(moment, frame: int) -> tuple[int, str, str]:
    ms = milliseconds(moment)
    return frame, clock(ms), f"{ms // 1000}.{ms % 1000:03d}"


def _rows(rows) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
