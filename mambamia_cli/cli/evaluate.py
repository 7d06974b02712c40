"""`mambamia eval`: how many questions with known answers are answered right."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from mambamia_cli.cli import inputs
from mambamia_cli.cli.console import Console
from mambamia_cli.cli.options import ENGINE, FRAMES, LANGUAGE, Options, takes
from mambamia_cli.cli.output import write_atomic
from mambamia_cli.errors import EXIT_SOME_FAILED, InputError, OutputError, UsageError


@takes(*FRAMES, *LANGUAGE, *ENGINE, "json", "quiet", "verbose", "debug")
def evaluate(
    rows: Annotated[str, typer.Argument(metavar="FILE.jsonl", show_default=False,
        help='Rows {"id", "video", "question", "answer", "options"?, "kind"?}; videos are found beside the file.')],
    predictions: Annotated[str | None, typer.Option("--predictions", metavar="OUT.jsonl", show_default=False,
        help="Write a line for each answered row. Rows that it answers already are not asked again.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, metavar="N", show_default=False, help="The first N rows only.")] = None,
    blend: Annotated[str, typer.Option("--answer-by", metavar="blend|language|evidence",
        help="What chooses among options: the language model, what the frames match, or both.")] = "blend",
    selection: Annotated[str, typer.Option("--selection", metavar="delta|uniform|all",
        help="How kept frames are chosen: delta and uniform at equal tokens; all keeps every frame that the context holds.")] = "delta",
    *,
    options: Options,
) -> Callable[[], int]:  # fmt: skip
    """Score questions with known answers: accuracy by kind with 95 % intervals, and how far its confidence can be trusted."""
    from mambamia_cli.models.folder import read_folder
    from mambamia_cli.pipeline.evaluate import Prediction, read_rows

    for flag, value, known in (("--answer-by", blend, ("blend", "language", "evidence")), ("--selection", selection, ("delta", "uniform", "all"))):
        if value not in known:
            raise UsageError(f"{flag} {value} is not known", f"use one of {', '.join(known)}")
    path = Path(rows)
    wanted = read_rows(path)[:limit]
    read_folder(options.model)
    done: dict[str, Prediction] = {}
    settings = _settings(blend, selection, options)
    if predictions is not None:
        inputs.check_not_input(predictions, [rows], "--predictions")
        if Path(predictions).exists():
            done = _resumed(Path(predictions), wanted, settings)
    return lambda: _run(path, wanted, done, predictions, {"by": blend, "selection": selection}, settings, options)


def _settings(by: str, selection: str, options: Options) -> dict:
    """The flags that decide an answer, as given: predictions made with others are no part of the same result."""
    return {"answer-by": by, "selection": selection} | {name.replace("_", "-"): getattr(options, name) for name in (*FRAMES, *LANGUAGE, "model", "seed")}


def _resumed(path: Path, rows: list, settings: dict) -> dict:
    """Predictions written by an earlier run. A last line cut short by a crash is dropped, and so are rows that failed, to be
    asked again: the file is replaced whole. One that answers other questions under these ids, or was made with other settings, is
    refused."""
    from mambamia_cli.pipeline.evaluate import Prediction

    found, whole, asked = {}, [], {row.id: (row.video, row.question, row.answer) for row in rows}
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")  # the cut may be inside a letter
    except OSError as error:
        raise InputError(f"{path} cannot be read: {(error.strerror or 'failed').lower()}", "give --predictions another file") from None
    seen = 0
    for line in text.splitlines():
        try:
            made = Prediction(**json.loads(line))
        except (ValueError, TypeError):
            break
        if made.id in asked and (made.video, made.question, made.answer) != asked[made.id]:
            raise InputError(f"{path} answers another question as {made.id!r}", "give --predictions the name of a new file")
        other = [flag for flag, value in (made.settings or {}).items() if settings.get(flag, value) != value]
        if other:
            raise InputError(f"{path} was made with another --{other[0]}", "give --predictions the name of a new file")
        seen += 1
        if made.error is None:
            whole.append(line)
            if made.id in asked:
                found[made.id] = made
    if not seen and text:
        raise InputError(f"{path} holds no predictions", "give --predictions the name of a new file")
    kept = "".join(line + "\n" for line in whole)
    if kept != text:
        write_atomic(path, kept.encode())
    return found


def _run(path: Path, wanted: list, done: dict, predictions: str | None, asking: dict, settings: dict, options: Options) -> int:
    from mambamia_cli.pipeline.evaluate import evaluate as ask_all
    from mambamia_cli.pipeline.evaluate import summary, table

    console = Console(quiet=options.quiet, verbose=options.verbose)
    models = inputs.engine(options, console)
    console.begin(path.name)
    made = dict(done)
    try:
        sink = open(predictions, "a", encoding="utf-8") if predictions is not None else None  # noqa: SIM115
    except OSError as error:
        raise OutputError(f"cannot write {predictions}: {(error.strerror or 'failed').lower()}", "choose another place") from None
    try:
        for one in ask_all(wanted, path.parent, lambda name: inputs.opened(name, options, models, console), done=done,
                           on_error=lambda row, error: console.error(f"row {row}: {error}"), **asking):  # fmt: skip
            one = made[one.id] = replace(one, settings=settings)
            console.progress("asking", len(made), len(wanted))
            if sink is not None:
                sink.write(json.dumps(asdict(one), ensure_ascii=False) + "\n")
                sink.flush()
    finally:
        if sink is not None:
            sink.close()
    console.clear()
    lines = summary([made[row.id] for row in wanted])
    typer.echo(json.dumps(lines, indent=2) if options.json else table(lines))
    return EXIT_SOME_FAILED if any(made[row.id].error is not None for row in wanted) else 0
