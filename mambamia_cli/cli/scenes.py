"""`mambamia scenes`: scene markers from the delta curve."""

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from mambamia_cli.cli import inputs
from mambamia_cli.cli.console import Console
from mambamia_cli.cli.options import ENGINE, FRAMES, IO, OUTPUT, Options, parse_length, takes
from mambamia_cli.cli.output import Output
from mambamia_cli.cli.pictures import Pictures
from mambamia_cli.errors import UsageError
from mambamia_cli.records import LEVELS, ScenesRecord, to_json
from mambamia_cli.scenes.table import Look, render

MARKING = "Marking"


@takes(*FRAMES, *ENGINE, *IO)
def scenes(
    videos: Annotated[list[str], typer.Argument(metavar="VIDEO", show_default=False, help="Files or URLs.")],
    threshold: Annotated[float | None, typer.Option("--threshold", min=0.0, metavar="X", show_default=False, rich_help_panel=MARKING,
        help="Contrast a peak of the delta curve must have. Lower gives more markers. Default: the model's.")] = None,
    min_scene_len: Annotated[str, typer.Option("--min-scene-len", metavar="T", rich_help_panel=MARKING,
        help="No scene is shorter.")] = "0.6s",
    level: Annotated[str, typer.Option("--level", metavar="|".join(LEVELS), rich_help_panel=MARKING,
        help="Every cut, or scenes or chapters: shots that look alike merged.")] = "shot",
    refine: Annotated[bool, typer.Option("--refine/--no-refine", rich_help_panel=MARKING,
        help="Look again around each marker, for the exact frame and against false ones. Without, delta alone decides.")] = True,
    plot: Annotated[str | None, typer.Option("--plot", metavar="FILE.png|svg", show_default=False, rich_help_panel=OUTPUT,
        help="Draw the delta curve with its markers and pictures of the scenes (one video).")] = None,
    report: Annotated[str | None, typer.Option("--report", metavar="FILE.html", show_default=False, rich_help_panel=OUTPUT,
        help="A page of its own, without network: the curve, the scenes, and the video played at one (one video).")] = None,
    thumbs: Annotated[str | None, typer.Option("--thumbs", metavar="DIR", show_default=False, rich_help_panel=OUTPUT,
        help="Write a picture a scene into DIR: NAME-scene-001.jpg and so on.")] = None,
    *,
    options: Options,
) -> Callable[[], int]:  # fmt: skip
    """Mark the scenes of videos: where the compressor's delta-time peaks, a new scene begins."""
    if level not in LEVELS:
        raise UsageError(f"--level {level} is not known", f"use one of {', '.join(LEVELS)}")
    shortest = parse_length(min_scene_len, "--min-scene-len")
    output = inputs.plan(videos, options, results=len(videos))
    pictures = Pictures(plot, report, thumbs)
    pictures.check(videos, options.output)
    marking = {"threshold": threshold, "min_scene_len": shortest, "level": level, "refine": refine}
    return lambda: _run(videos, marking, pictures, options, output)


def _run(videos: list[str], marking: dict[str, Any], pictures: Pictures, options: Options, output: Output) -> int:
    console = Console(quiet=options.quiet, verbose=options.verbose)
    models = inputs.engine(options, console)

    def work(source: str) -> None:
        video = inputs.opened(source, options, models, console)
        record = video.scenes(**marking)
        console.clear()
        output.write(_text(record, options, several=len(videos) > 1))
        output.finish_record()
        pictures.write(record, video.path, console, stream=options.video_track)
        console.note(", ".join(f"{name} {value:.2f} s" for name, value in record.timing_s.items()))

    with output:
        return inputs.each(videos, options, console, output, work)


def _text(record: ScenesRecord, options: Options, *, several: bool) -> str:
    if options.format != "text":
        return to_json(record, indent=2 if options.format == "json" else None) + "\n"
    look = Look.of(sys.stdout) if options.output in (None, "-") else Look()
    return render(record, look) + ("\n\n" if several else "\n")
