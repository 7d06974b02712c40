"""`mambamia summarize`: a title a scene, then one paragraph."""

from collections.abc import Callable
from typing import Annotated

import typer

from mambamia_cli.cli import inputs
from mambamia_cli.cli.console import Console, one_line
from mambamia_cli.cli.options import ENGINE, FRAMES, IO, LANGUAGE, Options, takes
from mambamia_cli.cli.output import Output
from mambamia_cli.records import SummaryRecord, timecode, to_json
from mambamia_cli.video.timespec import parse_length


@takes(*FRAMES, *LANGUAGE, *ENGINE, *IO)
def summarize(
    videos: Annotated[list[str], typer.Argument(metavar="VIDEO", show_default=False, help="Files or URLs.")],
    threshold: Annotated[float | None, typer.Option("--threshold", min=0.0, metavar="X", show_default=False, rich_help_panel="Marking",
        help="Contrast a peak of the delta curve must have to open a scene. Default: the model's.")] = None,
    min_scene_len: Annotated[str, typer.Option("--min-scene-len", metavar="T", rich_help_panel="Marking",
        help="No scene is shorter.")] = "2s",
    *,
    options: Options,
) -> Callable[[], int]:  # fmt: skip
    """Summarise videos: one line a scene, then a paragraph. Times come from frames, never from the model's text."""
    shortest = parse_length(min_scene_len, "--min-scene-len")
    output = inputs.plan(videos, options, results=len(videos))
    return lambda: _run(videos, threshold, shortest, options, output)


def _run(videos: list[str], threshold: float | None, shortest: float, options: Options, output: Output) -> int:
    console = Console(quiet=options.quiet, verbose=options.verbose)
    models = inputs.engine(options, console)

    def work(source: str) -> None:
        video = inputs.opened(source, options, models, console)
        record = video.summarize(threshold=threshold, min_scene_len=shortest, max_tokens=options.max_tokens)
        console.clear()
        if options.format == "text":
            output.write(text(record, heading=source if len(videos) > 1 else None))
        else:
            output.write(to_json(record, pretty=options.format == "json") + "\n")
        output.finish_record()
        console.note(", ".join(f"{name} {value:.2f} s" for name, value in record.timing_s.items()))

    with output:
        return inputs.each(videos, options, console, output, work)


def text(record: SummaryRecord, heading: str | None) -> str:
    """One line a scene, an empty line, the paragraph."""
    lines = [one_line(heading)] if heading else []
    lines += [f"{timecode(scene.start)}  {one_line(scene.title or '')}" for scene in record.scenes]
    return "\n".join([*lines, "", one_line(record.summary)]) + ("\n\n" if heading else "\n")
