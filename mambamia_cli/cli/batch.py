"""`mambamia batch`: many videos in one go, each with a record: an answer or a reason."""

import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mambamia_cli.batch.jobs import Job, parse
from mambamia_cli.batch.keys import shard_of
from mambamia_cli.batch.settings import COMMANDS, SETTINGS, SINGULAR
from mambamia_cli.cli import inputs
from mambamia_cli.cli.options import ENGINE, FLAG, FRAMES, LANGUAGE, OUTPUT, QUIET, Options, takes
from mambamia_cli.cli.output import Output
from mambamia_cli.errors import UsageError
from mambamia_cli.records import LEVELS

JOBS, RUN = "Defaults of the jobs", "Run"


@takes(*FRAMES, *LANGUAGE, *ENGINE, "timeout", *QUIET)
def batch(
    jobs: Annotated[str, typer.Argument(metavar="JOBS|-", show_default=False,
        help='Lines {"video", "cmd", "question", ...}, or a path or URL by itself; "-" reads stdin.')],
    cmd: Annotated[str | None, typer.Option("--cmd", metavar="|".join(COMMANDS), show_default=False, rich_help_panel=JOBS,
        help="What to do with a video whose line does not say it.")] = None,
    question: Annotated[list[str] | None, typer.Option("--question", "-p", metavar="TEXT", show_default=False, rich_help_panel=JOBS,
        help="A question of ask; may be repeated.")] = None,
    choices: Annotated[str | None, typer.Option("--choices", metavar="A,B,...", show_default=False, rich_help_panel=JOBS,
        help="Answers of ask are the likeliest of these.")] = None,
    query: Annotated[list[str] | None, typer.Option("--query", metavar="THING", show_default=False, rich_help_panel=JOBS,
        help="A thing to find; may be repeated.")] = None,
    threshold: Annotated[float | None, typer.Option("--threshold", min=0.0, metavar="X", show_default=False, rich_help_panel=JOBS,
        help="Contrast of a scene's marker.")] = None,
    min_scene_len: Annotated[str | None, typer.Option("--min-scene-len", metavar="T", show_default=False, rich_help_panel=JOBS,
        help="No scene is shorter.")] = None,
    level: Annotated[str | None, typer.Option("--level", metavar="|".join(LEVELS), show_default=False, rich_help_panel=JOBS,
        help="Every cut, or scenes or chapters.")] = None,
    no_refine: Annotated[bool, typer.Option("--no-refine", metavar=FLAG, rich_help_panel=JOBS, help="Scenes by delta alone.")] = False,
    results: Annotated[str | None, typer.Option("--output", "-o", metavar="RESULTS.jsonl", show_default=False, rich_help_panel=OUTPUT,
        help="Append a record a job to this file. The same command again does what is failed or missing.")] = None,
    failed: Annotated[str | None, typer.Option("--failed", metavar="FILE", show_default=False, rich_help_panel=OUTPUT,
        help="Write the jobs that failed, as JOBS for another run.")] = None,
    force: Annotated[bool, typer.Option("--force", metavar=FLAG, rich_help_panel=RUN, help="Do what is done, too.")] = False,
    retries: Annotated[int, typer.Option("--retries", min=0, metavar="N", rich_help_panel=RUN,
        help="Try again, after all others, what failed by download, memory or crash.")] = 0,
    max_failures: Annotated[int | None, typer.Option("--max-failures", min=1, metavar="N", show_default=False, rich_help_panel=RUN,
        help="Stop when N jobs have failed (exit code 101 if others are left).")] = None,
    shard: Annotated[str | None, typer.Option("--shard", metavar="I/N", show_default=False, rich_help_panel=RUN,
        help="Do the I-th of N parts of the jobs; each machine with its own -o.")] = None,
    *,
    options: Options,
) -> Callable[[], int]:  # fmt: skip
    """Do many jobs with models that are loaded once. A video that fails, hangs or crashes costs its own record only."""
    given = {"questions": question or None, "choices": choices.split(",") if choices is not None else None, "queries": query or None,
             "threshold": threshold, "min_scene_len": min_scene_len, "level": level, "refine": False if no_refine else None}  # fmt: skip
    defaults = _defaults(cmd, given, options)
    part = _shard(shard) if shard is not None else (1, 1)
    data, source = _read(jobs), "standard input" if jobs == "-" else jobs
    parsed = parse(data, source, defaults)
    _check_use(given, parsed)
    mine = [job for job in parsed if shard_of(job, part[1]) == part[0]]
    places = {"-o": None if results == "-" else results, "--failed": failed}
    _check_places(places, jobs, mine)
    inputs.check_model(options.model)
    from mambamia_cli.cli.batch_run import Plan, run  # what is needed to run costs --help a third of its time

    plan = Plan(mine, results=places["-o"], failed=failed, force=force, retries=retries, max_failures=max_failures)
    return lambda: run(plan, options)


def _defaults(cmd: str | None, given: dict[str, Any], options: Options) -> dict[str, Any]:
    """The command line's part of every job, checked as a line's would be."""
    if cmd is not None and cmd not in COMMANDS:
        raise UsageError(f"--cmd {cmd} is not known", f"use one of {', '.join(COMMANDS)}")
    shared = {name: getattr(options, name) for name in (*FRAMES, "token_budget", "max_tokens")}
    defaults = {name: _checked(name, value) for name, value in {**given, **shared}.items() if value is not None}
    return defaults if cmd is None else {"cmd": cmd, **defaults}


def _checked(name: str, value: Any) -> Any:
    shown = ",".join(map(str, value)) if isinstance(value, list) else value
    try:
        return SETTINGS[name].check(value, f"{_flag(name)} {shown!r}")
    except UsageError as error:
        raise UsageError(error.message, error.hint or "see 'mambamia batch --help'") from None


def _flag(name: str) -> str:
    plural = {long: short for short, long in SINGULAR.items()}
    return "--no-refine" if name == "refine" else "--" + plural.get(name, name).replace("_", "-")


def _check_use(given: dict[str, Any], jobs: Sequence[Job]) -> None:
    """Refuse an option that no job takes: it would be dropped in silence."""
    for name, value in given.items():
        if value is not None and jobs and not any(job.cmd in SETTINGS[name].commands for job in jobs):
            raise UsageError(f"{_flag(name)} is given and no job takes it", f"it is for {' and '.join(SETTINGS[name].commands)}")


def _shard(text: str) -> tuple[int, int]:
    """"2/8" -> (2, 8)."""
    found = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})", text, re.ASCII)
    if found is None or int(found[1]) > int(found[2]):
        raise UsageError(f"--shard {text} is no part of a whole", "write it as 1/4, 2/4, 3/4 or 4/4")
    return int(found[1]), int(found[2])


def _read(jobs: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if jobs == "-" else Path(jobs).read_bytes()
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise UsageError(f"{jobs} cannot be read: {reason}", "give a file of jobs, or '-' for stdin") from None


def _check_places(places: dict[str, str | None], jobs: str, parsed: Sequence[Job]) -> None:
    """Refuse to write over what is read, or two things to one place."""
    for flag, path in places.items():
        if path is None:
            continue
        Output(path).check()
        inputs.check_not_input(path, [jobs], flag, "the list of jobs")
        inputs.check_not_input(path, [job.video for job in parsed if "\0" not in job.video], flag)
    first, second = places.values()
    if first is not None and second is not None and os.path.realpath(first) == os.path.realpath(second):
        raise UsageError("-o and --failed name the same file", "give them different names")
