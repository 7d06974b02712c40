"""`mambamia find`: when things are seen in a video."""

from collections.abc import Callable
from typing import Annotated

import typer

from mambamia_cli.cli import inputs
from mambamia_cli.cli.console import Console, one_line
from mambamia_cli.cli.options import ENGINE, FLAG, FRAMES, IO, Options, takes
from mambamia_cli.records import MOST_RANGES, FindRecord, best, timecode, to_json

EXIT_NOTHING_FOUND = 1
"""With --exit-status, as grep has it; an error has its own class's code."""


@takes(*FRAMES, *ENGINE, *IO)
def find(
    video: Annotated[str, typer.Argument(metavar="VIDEO", show_default=False, help="A file or URL.")],
    queries: Annotated[list[str], typer.Argument(metavar="THING...", show_default=False, help="A word or a few: guitar, 'fire truck'.")],
    most: Annotated[int, typer.Option("-n", "--most", min=1, max=MOST_RANGES, metavar="N", help="So many time ranges of each thing, the best ones.")] = MOST_RANGES,
    exit_status: Annotated[bool, typer.Option("--exit-status", metavar=FLAG, help="Exit with 1 when none of the things is found.")] = False,
    *,
    options: Options,
) -> Callable[[], int]:  # fmt: skip
    """Find when things are seen: time ranges, best first."""
    from mambamia_cli.errors import UsageError

    if any(not query.strip() for query in queries):
        raise UsageError("there is nothing to find", "name a thing, such as 'guitar'")
    output = inputs.plan([video], options)

    def run() -> int:
        console = Console(quiet=options.quiet, verbose=options.verbose)
        models, seen = inputs.engine(options, console), 0

        def work(source: str) -> None:
            nonlocal seen
            record = best(inputs.opened(source, options, models, console).find(*queries), most)
            seen += sum(len(sighting.ranges) for sighting in record.found)
            console.clear()
            output.write((render(record) if options.format == "text" else to_json(record, pretty=options.format == "json")) + "\n")
            output.finish_record()

        with output:
            code = inputs.each([video], options, console, output, work)
        return EXIT_NOTHING_FOUND if exit_status and not code and not seen else code

    return run


def render(record: FindRecord) -> str:
    """The record as text."""
    lines = []
    for sighting in record.found:
        if not sighting.ranges:
            lines.append(f"{one_line(sighting.query)}: not seen ({sighting.presence:.0%})")
            continue
        lines.append(f"{one_line(sighting.query)}:")
        lines += [f"  {r.timecode}  to  {timecode(r.end)}   {r.score:.0%}" for r in sighting.ranges]
    return "\n".join(lines)
