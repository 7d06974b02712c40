"""`mambamia bench`: the figures of this machine. Each module of mambamia_cli.bench measures one of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from mambamia_cli.cli.console import Console
from mambamia_cli.cli.options import FLAG, Options, takes
from mambamia_cli.cli.output import Output
from mambamia_cli.errors import UsageError

WHAT = ("decode", "encode", "scan", "language")
ALONE = ("gpu", "scenes")
"""Benches that `all` leaves out: gpu loads the whole model for every stage of `ask`, scenes fetches packages and takes minutes."""

SCENES = "Scenes"


@takes("model", "device", "threads", "quant", "seed", "json", "output", "quiet", "verbose", "debug")
def bench(
    what: Annotated[str, typer.Argument(metavar="decode|encode|scan|language|gpu|scenes|all", help="What to measure.")] = "all",
    video: Annotated[str | None, typer.Option("--video", metavar="FILE", show_default=False,
        help="Decode this file in place of one made for the purpose; with scenes, time it and its peers on this file.")] = None,
    peers: Annotated[bool, typer.Option("--peers/--no-peers", metavar=FLAG, rich_help_panel=SCENES,
        help="Run PySceneDetect and TransNetV2 beside it, which the extra 'peers' brings.")] = False,
    work: Annotated[Path | None, typer.Option("--work", metavar="DIR", show_default=False, rich_help_panel=SCENES,
        help="Where the videos of --seed are made and kept, with the packages they are made of. Default: the cache.")] = None,
    *,
    options: Options,
) -> Callable[[], int]:  # fmt: skip
    """Measure this machine: frames a second of decoding and encoding, the scan, tokens a second; `gpu`: every stage of `ask`;
    `scenes`: how well scenes are marked."""
    if what not in (known := (*WHAT, *ALONE, "all")):
        raise UsageError(f"there is no bench {what!r}", f"use one of {', '.join(known)}")
    output = Output(options.output)
    output.check()
    if what == "scenes":
        return lambda: _scenes(video, peers, work, options, output)

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


def _scenes(video: str | None, peers: bool, work: Path | None, options: Options, output: Output) -> int:
    from mambamia_cli.bench import scenes
    from mambamia_cli.models.cache import cache_dir

    console = Console(quiet=options.quiet, verbose=options.verbose)
    console.begin("bench scenes")
    given = (("--model", options.model), ("--device", options.device), ("--threads", options.threads))
    common = {"peers": peers, "progress": console.progress,
              "extra": [word for flag, value in given if value is not None for word in (flag, str(value))]}  # fmt: skip
    if video is not None:
        report = scenes.race(Path(video), **common)
    else:
        report = scenes.score(work or cache_dir() / "bench", seed=options.seed, **common)
    console.clear()
    with output:
        output.write(json.dumps(report, indent=2) + "\n" if options.json else scenes.to_text(report) + "\n")
        output.finish_record()
    return 0
