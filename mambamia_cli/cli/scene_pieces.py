"""`mambamia scenes --split DIR`: each scene as a file, and a list of which were copied and which encoded again."""

import csv
import io
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from mambamia_cli.cli.console import Console
from mambamia_cli.cli.inputs import check_not_input
from mambamia_cli.cli.output import UNENCODABLE, whole_file
from mambamia_cli.records import ScenesRecord
from mambamia_cli.scenes.formats.moments import exact, spans

_LASTING = 0.1
"""Seconds before the end of the video within which a range ends that reaches the end."""


def write_pieces(record: ScenesRecord, name: str, video: Path, folder: Path, *, stream: int | None, console: Console) -> None:
    """NAME-001.mp4 and so on, NAME-pieces.csv, and a line on stderr. Each file appears whole or not at all.

    Raises:
        OutputError: one cannot be written, or is the video itself. InputError: the video cannot be read.
    """
    from mambamia_cli.video.split import ending_for, plan_pieces, write_piece

    scenes, ending = spans(record), ending_for(video)
    duration = record.video.duration
    partly = bool(scenes) and duration is not None and scenes[-1].end < exact(duration) - exact(_LASTING)
    info, pieces = plan_pieces(video, [one.start for one in scenes], scenes[-1].end if partly else None, stream=stream)
    width = max(3, len(str(len(pieces))))
    paths = [folder / f"{name}-{piece.n:0{width}d}{ending}" for piece in pieces]
    listing = folder / f"{name}-pieces.csv"
    for path in (*paths, listing):
        check_not_input(str(path), [str(video)], "--split")
    folder.mkdir(parents=True, exist_ok=True)
    for piece, path in zip(pieces, paths, strict=True):
        console.progress("splitting", piece.n - 1, len(pieces))
        with whole_file(path) as file:
            write_piece(info, piece, file, ending)
    with whole_file(listing) as file:
        file.write(_listing(pieces, paths).encode("utf-8", UNENCODABLE))
    console.say(f"{name}: {_summary(pieces)}; listed in {listing}")


def _listing(pieces: Sequence[Any], paths: Sequence[Path]) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("file", "start", "end", "made", "why"))
    for piece, path in zip(pieces, paths, strict=True):
        end = "" if piece.end is None else f"{float(piece.end):.6f}"
        rows.writerow((path.name, f"{float(piece.start):.6f}", end, "copied" if piece.copied else "encoded", piece.why))
    return text.getvalue()


def _summary(pieces: Sequence[Any]) -> str:
    """"5 pieces; copied: 1-3, 5; encoded again: 4 (its first frame is no keyframe)"."""
    told = []
    for copied, word in ((True, "copied"), (False, "encoded again")):
        chosen = [piece for piece in pieces if piece.copied == copied]
        whys = sorted({piece.why for piece in chosen if piece.why})
        if chosen:
            told.append(f"{word}: {_runs([piece.n for piece in chosen])}" + (f" ({', or '.join(whys)})" if whys else ""))
    return "; ".join([f"{len(pieces)} piece{'s' if len(pieces) != 1 else ''}", *told])


def _runs(numbers: Sequence[int]) -> str:
    """[1, 2, 3, 5] -> "1-3, 5"."""
    groups = [[n for _, n in run] for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in groups)
