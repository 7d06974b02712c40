"""The `mambamia` command. Parse -> plan -> run.

A command function parses and plans: it checks all that can be checked without weights or decoding, and returns a job.
`run` then runs the job and turns whatever happens into an exit code.
"""

import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any, Self

import typer

from mambamia_cli import __version__
from mambamia_cli.cli import ask, batch, bench, doctor, evaluate, find, models, plan, scenes, summarize, train
from mambamia_cli.cli.console import Console
from mambamia_cli.cli.options import FLAG
from mambamia_cli.cli.output import UNENCODABLE, ReaderGone
from mambamia_cli.errors import EXIT_INTERRUPTED, EXIT_TERMINATED
from mambamia_cli.failures import translate

Job = Callable[[], int]
"""What a command returns: the work, still to be done; calling it gives the exit code."""

_UsageProblem = typer.BadParameter.__mro__[1]
"""Click's UsageError. Typer carries click under a private name in some versions; this is it in all of them."""

IMPORT_SYSTEM = "<frozen importlib._bootstrap>"
IMPORT_PATIENCE = 10.0
"""Seconds after which an interrupt no longer waits for an import: it may hang."""
ONE_INTERRUPT = 1.0
"""Seconds within which further interrupts are the same one, so that they do not stop the clearing up after it: `timeout` sends
its signal to the process and again to its group, and people press Ctrl-C twice."""

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": lambda word: word.replace("_", "-")},
    help="Ask, mark scenes in and summarise long videos on one machine, through the MambaMia compressor.",
    epilog="Exit codes: 0 done, 1 some input failed, 2 usage, 3 input, 4 download, 5 model, 6 memory, 101 stopped early, 124 timeout, 130 Ctrl-C.",
)


def _version(asked: bool) -> None:
    if asked:
        print(f"mambamia {__version__}")
        raise typer.Exit


@app.callback()
def _main(version: Annotated[bool, typer.Option("--version", metavar=FLAG, callback=_version, is_eager=True, help="Show the version.")] = False) -> None:
    pass


app.command("ask")(ask.ask)
app.command("scenes")(scenes.scenes)
app.command("summarize")(summarize.summarize)
app.command("find")(find.find)
app.command("batch")(batch.batch)
app.command("eval")(evaluate.evaluate)
app.add_typer(models.app, name="models")
app.command("doctor")(doctor.doctor)
app.command("plan")(plan.plan)
app.command("bench")(bench.bench)
app.command("train")(train.train)


class _Signals:
    """Ctrl-C and SIGTERM as one exception, remembered: a library may swallow it or dress it up as another error.

    Not raised in the middle of an import: an exception that reaches the start-up code of a C++ extension, as torch has
    many, aborts the process with a message of its own. The signal is sent again shortly after.
    """

    def __init__(self) -> None:
        self.caught: int | None = None
        self._since = 0.0
        self._raised = -ONE_INTERRUPT
        self._before: dict[int, Any] = {}

    def _catch(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.caught is None:
            self._since = now
        self.caught = number
        if now - self._since < IMPORT_PATIENCE and _importing(frame):
            again = threading.Timer(0.05, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
            return
        if now - self._raised >= ONE_INTERRUPT:
            self._raised = now
            raise KeyboardInterrupt

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._catch)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _importing(frame: FrameType | None) -> bool:
    """Whether an import is under way where the signal came."""
    while frame is not None and frame.f_code.co_filename != IMPORT_SYSTEM:
        frame = frame.f_back
    return frame is not None


def run(argv: list[str]) -> int:
    """Run the command line `argv` (without the program's name) and return its exit code. Never raises for bad input."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=UNENCODABLE)
    debug, console, signals = "--debug" in argv, Console(), _Signals()
    _quiet_libraries(debug)
    try:
        with signals, _log_to_stderr(argv):
            return _parse_and_run(argv)
    except (ReaderGone, BrokenPipeError):
        # Nothing failed: the reader has had enough. Python would complain at exit when it flushes, so give it a sink.
        _drop_unwritten()
        return 0
    except _UsageProblem as problem:
        console.error(_usage_sentence(problem))
        return 2
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  (every error becomes a sentence)
        if signals.caught is not None or isinstance(error, KeyboardInterrupt):
            console.error("interrupted")
            return EXIT_TERMINATED if signals.caught == signal.SIGTERM else EXIT_INTERRUPTED
        if debug:
            traceback.print_exc()
        problem = translate(error)
        console.error(str(problem))
        _drop_unwritten()
        return problem.exit_code


def _drop_unwritten() -> None:
    """Text that stdout refuses (a closed pipe, a full disk) is dropped once that was dealt with. Left in the buffer, it would be
    refused again when Python flushes at exit, which makes the exit code 120 whatever ours is."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parse_and_run(argv: list[str]) -> int:
    job = typer.main.get_command(app).main(argv, prog_name="mambamia", standalone_mode=False)
    code = job() if callable(job) else int(job or 0)
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader left a run that had files to write: its code stands
        _drop_unwritten()
    return code


def _usage_sentence(problem: Any) -> str:
    """Click's complaint as one sentence that ends with where to look."""
    context = getattr(problem, "ctx", None)
    where = context.command_path if context is not None else "mambamia"
    return f"{problem.format_message().rstrip('.')}; see '{where} --help'"


@contextmanager
def _log_to_stderr(argv: list[str]) -> Iterator[None]:
    """What the rooms say in the log, such as which kernel is used and why: warnings always but with -q, the rest with -v."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("mambamia: %(message)s"))
    log = logging.getLogger("mambamia_cli")
    before = log.level
    verbose, quiet = {"-v", "--verbose"} & set(argv), {"-q", "--quiet"} & set(argv)
    log.setLevel(logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


def _quiet_libraries(debug: bool) -> None:
    """Libraries write bars and advice to stderr, where only our own words belong; --debug lets them speak."""
    if debug:
        return
    import warnings

    warnings.filterwarnings("ignore")
    for name, value in (("TRANSFORMERS_VERBOSITY", "error"), ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
                        ("TOKENIZERS_PARALLELISM", "false"), ("BITSANDBYTES_NOWELCOME", "1")):  # fmt: skip
        os.environ.setdefault(name, value)
