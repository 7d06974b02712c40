"""`mambamia bench`: the figures of this machine. Each module of mambamia_cli.bench measures one of them."""

import json
from collections.abc import Callable
from typing import Annotated

import typer

from mambamia_cli.cli.console import Console
from mambamia_cli.cli.options import Options, takes
from mambamia_cli.cli.output import Output
from mambamia_cli.errors import UsageError

WHAT = ("decode", "encode", "scan", "language")
ALONE = ("gpu",)  # not among `all`: every stage of `ask`, with the whole model loaded


@takes("model", "device", "threads", "quant", "json", "output", "quiet", "verbose", "debug")
def bench(
    what: Annotated[str, typer.Argument(metavar="decode|encode|scan|language|gpu|all", help="What to measure.")] = "all",
    video: Annotated[str | None, typer.Option("--video", metavar="FILE", show_default=False,
        help="Decode this file in place of one made for the purpose.")] = None,
    *,
    options: Options,
) -> Callable[[], int]:  # fmt: skip
    """Measure this machine: frames a second of decoding and encoding, the scan, tokens a second; `gpu`: every stage of `ask`."""
    if what not in (known := (*WHAT, *ALONE, "all")):
        raise UsageError(f"there is no bench {what!r}", f"use one of {', '.join(known)}")
    output = Output(options.output)
    output.check()

    def job() -> int:
        from mambamia_cli.bench.report import measure, to_text

        console = Console(quiet=options.quiet, verbose=options.verbose)
        console.begin("bench")
        report = measure(WHAT if what == "all" else (what,), options, video=video, progress=console.progress)
        console.clear()
        with output:
            output.write(json.dumps(report, indent=2) + "\n" if options.json else to_text(report) + "\n")
            output.finish_record()
        return 0

    return job
