"""`mambamia ask`: questions about a video, answered from its frames."""

import os
from collections.abc import Callable
from typing import Annotated, Any

import typer

from mambamia_cli.asked import check_choices, check_questions
from mambamia_cli.cli import inputs
from mambamia_cli.cli.console import Console, one_line
from mambamia_cli.cli.options import ENGINE, FRAMES, IO, LANGUAGE, Options, takes
from mambamia_cli.cli.output import Output
from mambamia_cli.errors import UsageError
from mambamia_cli.records import AnswerRecord, to_json


@takes(*FRAMES, *LANGUAGE, *ENGINE, *IO)
def ask(
    video: Annotated[str, typer.Argument(metavar="VIDEO", show_default=False, help="A file or URL.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="QUESTION", show_default=False,
        help="Questions about it. With -p, more videos.")] = None,
    question: Annotated[list[str] | None, typer.Option("--question", "-p", metavar="TEXT", show_default=False,
        help="A question for every VIDEO; may be repeated.")] = None,
    choices: Annotated[str | None, typer.Option("--choices", metavar="A,B,...", show_default=False,
        help="Answer with the likeliest of these.")] = None,
    *,
    options: Options,
) -> Callable[[], int]:  # fmt: skip
    """Answer questions about a video. Several questions are answered from one look at it."""
    videos, questions = split([video, *(words or [])], question or [])
    listed = parse_choices(choices) if choices is not None else None
    output = inputs.plan(videos, options, results=len(videos) * len(questions))
    return lambda: _run(videos, questions, listed, options, output)


def split(words: list[str], given: list[str]) -> tuple[list[str], list[str]]:
    """The positional words and the -p questions -> (videos, questions).

    Raises:
        UsageError: no question, an empty one, or a question that is an existing file.
    """
    if given:
        videos, questions = words, given
    else:
        videos, questions = words[:1], words[1:]
        for text in questions:
            if os.path.exists(text):
                raise UsageError(f"the question {text!r} is an existing file", "for several videos give the question with -p")
    if not questions:
        raise UsageError("no question was given", "put it after the video, in quotes, or give it with -p")
    check_questions(questions)
    return videos, questions


def parse_choices(text: str) -> tuple[str, ...]:
    """"cat, dog" -> ("cat", "dog").

    Raises:
        UsageError: fewer than two, an empty one or the same one twice.
    """
    return check_choices(text.split(","), f"--choices {text!r}")


def _run(videos: list[str], questions: list[str], choices: tuple[str, ...] | None, options: Options, output: Output) -> int:
    console = Console(quiet=options.quiet, verbose=options.verbose)
    models = inputs.engine(options, console)
    headed = len(videos) > 1 or len(questions) > 1

    def work(source: str) -> None:
        video = inputs.opened(source, options, models, console)
        video.prepare(question=max(questions, key=len), max_tokens=options.max_tokens)
        for text in questions:
            _answer(video, text, choices, options, console, output, f"{source}: " if len(videos) > 1 else "", headed)

    with output:
        return inputs.each(videos, options, console, output, work)


def _answer(video: Any, question: str, choices: tuple[str, ...] | None, options: Options, console: Console,
            output: Output, prefix: str, headed: bool) -> None:  # fmt: skip
    """One answer: as text it is streamed, as JSON it is written whole."""
    pieces = _Stream(output, console, f"{one_line(prefix + question)}\n" if headed else "")
    record = video.ask(question, choices=choices, max_tokens=options.max_tokens,
                       on_text=pieces.write if options.format == "text" else None)  # fmt: skip
    if options.format == "text":
        if record.unsure and record.finish != "unknown":
            pieces.write(_doubtful(record))
        pieces.end(record, blank=headed)
    else:
        console.clear()
        output.write(to_json(record, pretty=options.format == "json") + "\n")
    output.finish_record()
    _explain(record, console)


def _doubtful(record: AnswerRecord) -> str:
    """What is said in place of a guess."""
    guess = f", perhaps {record.answer}" if record.finish != "evidence" or record.answer != "not seen" else ""
    return f"not sure{guess} ({record.confidence or 0:.0%})"


class _Stream:
    """An answer on its way to the terminal: the heading before the first piece, one newline after the last."""

    def __init__(self, output: Output, console: Console, heading: str):
        self._output, self._console, self._heading, self._begun = output, console, heading, False

    def write(self, piece: str) -> None:
        if not self._begun:
            self._console.clear()
            self._output.write(self._heading)
            self._begun = True
        # A model may write anything; a terminal must not be steered by it.
        self._output.write("".join(c if c.isprintable() or c in "\n\t" else " " for c in piece))

    def end(self, record: AnswerRecord, *, blank: bool) -> None:
        if not self._begun:
            self.write(record.answer)
        self._output.write("\n\n" if blank else "\n")


def _explain(record: AnswerRecord, console: Console) -> None:
    sampling, timing = record.sampling, record.timing_s
    console.note(f"kept {sampling.kept} of {sampling.frames} frames ({sampling.tokens_out} visual tokens), "
                 f"largest gap {sampling.max_gap_s or 0:.1f} s, "
                 + ", ".join(f"{name} {value:.2f} s" for name, value in timing.items()))  # fmt: skip
    if record.choices:
        console.note("choices: " + ", ".join(f"{name} {share:.0%}" for name, share in record.choices))
