"""`mambamia scenes`: scene markers from the delta curve."""

import os
from collections.abc import Callable
from typing import Annotated, Any

import typer

from mambamia_cli.cli import inputs, scene_files, scene_records
from mambamia_cli.cli.console import Console
from mambamia_cli.cli.options import ENGINE, FLAG, FRAMES, IO, OUTPUT, Options, takes
from mambamia_cli.cli.output import Output, ReaderGone
from mambamia_cli.cli.pictures import Pictures, local_video
from mambamia_cli.errors import EXIT_SOME_FAILED, UsageError
from mambamia_cli.records import LEVELS, ErrorRecord, ScenesRecord
from mambamia_cli.video.timespec import parse_length

MARKING = "Marking"
MIN_SCENE_LEN = "0.6s"
SPINS = "1000"  # a twentieth of a millisecond: longer than between two of its operations


@takes(*FRAMES, *ENGINE, *IO)
def scenes(
    videos: Annotated[list[str] | None, typer.Argument(metavar="VIDEO...", show_default=False, help="Files or URLs.")] = None,
    threshold: Annotated[float | None, typer.Option("--threshold", min=0.0, metavar="X", show_default=False, rich_help_panel=MARKING,
        help="Contrast a peak of the delta curve must have. Lower gives more markers. Default: the model's.")] = None,
    min_scene_len: Annotated[str | None, typer.Option("--min-scene-len", metavar="T", show_default=False, rich_help_panel=MARKING,
        help=f"No scene is shorter. Default: {MIN_SCENE_LEN}.")] = None,
    level: Annotated[str | None, typer.Option("--level", metavar="|".join(LEVELS), show_default=False, rich_help_panel=MARKING,
        help="Every cut (the default), or scenes or chapters: shots that look alike merged.")] = None,
    refine: Annotated[bool, typer.Option("--refine/--no-refine", metavar=FLAG, rich_help_panel=MARKING,
        help="Look again around each marker, for the exact frame and against false ones. Without, delta alone decides.")] = True,
    record: Annotated[str | None, typer.Option("--from", metavar="RECORD.json", show_default=False, rich_help_panel=MARKING,
        help="Mark anew, without the video, what --json or -j wrote; '-' reads it from stdin.")] = None,
    plot: Annotated[str | None, typer.Option("--plot", metavar="FILE.png|svg", show_default=False, rich_help_panel=OUTPUT,
        help="Draw the delta curve with its markers and pictures of the scenes (one video).")] = None,
    report: Annotated[str | None, typer.Option("--report", metavar="FILE.html", show_default=False, rich_help_panel=OUTPUT,
        help="A page of its own, without network: the curve, the scenes, and the video played at one (one video).")] = None,
    thumbs: Annotated[str | None, typer.Option("--thumbs", metavar="DIR", show_default=False, rich_help_panel=OUTPUT,
        help="Write a picture a scene into DIR: NAME-scene-001.jpg and so on.")] = None,
    formats: Annotated[str | None, typer.Option("--format", "-f", metavar="A,B,...", show_default=False, rich_help_panel=OUTPUT,
        help=f"Some of {', '.join(scene_files.FORMATS)}. Several need -o: a folder (DIR/) or a pattern such as '{{stem}}.{{ext}}'.")] = None,
    embed: Annotated[str | None, typer.Option("--embed-chapters", metavar="OUT.mkv|mp4", show_default=False, rich_help_panel=OUTPUT,
        help="Write a copy with the scenes as chapters, nothing re-encoded.")] = None,
    split: Annotated[str | None, typer.Option("--split", metavar="DIR", show_default=False, rich_help_panel=OUTPUT,
        help="Write each scene as a file: copied where that is exact, else re-encoded.")] = None,
    *,
    options: Options,
) -> Callable[[], int]:  # fmt: skip
    """Mark the scenes of videos: where the compressor's delta-time peaks, a new scene begins."""
    if level is not None and level not in LEVELS:
        raise UsageError(f"--level {level} is not known", f"use one of {', '.join(LEVELS)}")
    shortest = None if min_scene_len is None else parse_length(min_scene_len, "--min-scene-len")
    marking = {"threshold": threshold, "min_scene_len": shortest, "level": level}
    pictures = Pictures(plot, report, thumbs)
    if record is not None:
        found = scene_records.load(record, videos or [], options, refine=refine)
        sources = [one.source if isinstance(one, ErrorRecord) else one.video.source for one in found]
        places = scene_files.place(sources, options, formats, embed=embed, split=split, others=[] if record == "-" else [record])
        output = inputs.sink(sources, places.options, results=len(found))
        for flag, path in (("-o", places.options.output), ("--plot", plot), ("--report", report)):
            inputs.check_not_input(path, [record], flag, "the record")
        pictures.check(sources, places.options.output)
        return lambda: _again(found, marking, pictures, places, output)
    if not videos:
        raise UsageError("there is no VIDEO to mark", "name one, or a record of one with --from; see 'mambamia scenes --help'")
    places = scene_files.place(videos, options, formats, embed=embed, split=split)
    output = inputs.plan(videos, places.options, results=len(videos))
    pictures.check(videos, places.options.output)
    wanted = {name: value for name, value in marking.items() if value is not None}
    return lambda: _run(videos, {"min_scene_len": parse_length(MIN_SCENE_LEN, ""), **wanted, "refine": refine}, pictures, places, output)


def _run(videos: list[str], marking: dict[str, Any], pictures: Pictures, places: scene_files.Places, output: Output) -> int:
    options = places.options
    console = Console(quiet=options.quiet, verbose=options.verbose)
    # A thread of torch's that has nothing to do keeps its core busy for milliseconds, in case something comes. Where another
    # program wants that core, the compressor's last window took 20 seconds in place of 2. Read when torch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    models = inputs.engine(options, console)

    def work(source: str) -> None:
        video = inputs.opened(source, options, models, console)
        record = video.scenes(**marking)
        _print(record, places, pictures, output, console)
        places.write(record, source, lambda: video.path, console)
        pictures.write(record, video.path, console, stream=options.video_track)
        console.note(", ".join(f"{name} {value:.2f} s" for name, value in record.timing_s.items()))

    with output:
        return inputs.each(videos, options, console, output, work)


def _again(found: list[Any], marking: dict[str, Any], pictures: Pictures, places: scene_files.Places, output: Output) -> int:
    """The same from records."""
    console, failed = Console(quiet=places.options.quiet, verbose=places.options.verbose), 0
    with output:
        for one in found:
            console.begin(one.source if isinstance(one, ErrorRecord) else one.video.source)
            if isinstance(one, ErrorRecord):
                console.error(f"{one.source} failed when the record was made: {one.error.get('message', 'no reason is given')}")
                failed += 1
                continue
            again = scene_records.mark(one, marking, console)
            _print(again, places, pictures, output, console)
            places.write(again, again.video.source, lambda again=again: scene_records.file_of(again), console)
            pictures.write(again, local_video(again), console, stream=places.options.video_track)
    return EXIT_SOME_FAILED if failed else 0


def _print(record: ScenesRecord, places: scene_files.Places, pictures: Pictures, output: Output, console: Console) -> None:
    """What goes to stdout or the one file of the run. A reader that has had enough ends the run, unless files are wanted too."""
    console.clear()
    try:
        places.print(record, output, console)
    except ReaderGone:
        if not places.writes and pictures == Pictures():
            raise
