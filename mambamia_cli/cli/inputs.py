"""What the commands share between parsing and running: checks of the inputs and the loop over several of them."""

import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mambamia_cli.cli.console import Console
from mambamia_cli.cli.options import Options
from mambamia_cli.cli.output import Output, ReaderGone
from mambamia_cli.errors import EXIT_SOME_FAILED, ModelError, OutputError, TimedOutError, UsageError
from mambamia_cli.failures import translate
from mambamia_cli.records import ErrorRecord, to_json
from mambamia_cli.video.source import check_source


def plan(sources: Sequence[str], options: Options, *, results: int = 1) -> Output:
    """Check what a run over `sources` needs and give its output. One bad source alone is refused here; among several
    it fails by itself later and the rest are done.

    Raises:
        MambamiaError: of the class that fits.
    """
    if len(sources) == 1:
        check_source(sources[0])
    output = sink(sources, options, results=results)
    check_model(options.model)
    return output


def check_model(name: str) -> None:
    """Refuse a model that is not there or whose config.json cannot be; no weights are read.

    Raises:
        ModelError: saying what is wrong with it.
    """
    from mambamia_cli.models.folder import read_folder
    from mambamia_cli.models.kinds import NATIVE, kind_of

    if kind_of(name).kind == NATIVE:
        read_folder(name)


def sink(sources: Sequence[str], options: Options, *, results: int) -> Output:
    """The output of a run that makes so many results, checked.

    Raises:
        UsageError: one JSON text for several. OutputError: it cannot be written, or is one of the videos.
    """
    if options.format == "json" and results > 1:
        raise UsageError(f"--json holds one record and this run makes {results}", "use -j for one record a line")
    output = Output(options.output)
    output.check()
    check_not_input(options.output, sources, "-o")
    return output


def check_not_input(path: str | None, sources: Sequence[str], flag: str, what: str = "one of the videos") -> None:
    """Refuse to write over what is read."""
    if path is not None and any(os.path.exists(path) and os.path.exists(s) and os.path.samefile(path, s) for s in sources):
        raise OutputError(f"{flag} {path} is {what}", "give another name")


def engine(options: Options, console: Console) -> Any:
    """The models of a run, shared by all its videos; nothing is loaded until it is needed."""
    from mambamia_cli.pipeline import Models

    return Models(**engine_settings(options), progress=console.progress)


def engine_settings(options: Options) -> dict[str, Any]:
    """What `pipeline.Models` is made with, as the options say."""
    return {
        "model": options.model, "device": options.device, "quant": options.quant, "threads": options.threads, "seed": options.seed,
        "vram_limit": options.vram_limit, "ram_limit": options.ram_limit, "hear": options.audio,
        "allow_pickle": options.allow_pickle, "frame_size": options.frame_size,
    }  # fmt: skip


def opened(source: str, options: Options, models: Any, console: Console) -> Any:
    """A `pipeline.Video` over `source` as the options say."""
    from mambamia_cli.pipeline import open_video

    start, end = options.span()
    # A rate that was not given is left unset: each use of the video then has its own default.
    rate = {} if options.fps is None else {"fps": options.rate()}
    return open_video(source, models=models, **rate, max_frames=options.max_frames, start=start,
                      end=end, token_budget=options.token_budget, stream=options.video_track,
                      progress=console.progress, warn=console.warn)  # fmt: skip


def each(sources: Sequence[str], options: Options, console: Console, output: Output, work: Callable[[str], None]) -> int:
    """Do `work` on each source. Of several, the failed ones are reported and the rest are done.

    Returns:
        0, or 1 when any of several failed. One source alone raises what it failed with.
    """
    failed = 0
    for source in sources:
        console.begin(source)
        try:
            with time_limit(options.timeout, source):
                check_source(source)
                work(source)
        except (ReaderGone, OutputError):
            raise  # the next source would meet the same
        except Exception as error:
            problem = translate(error)
            if options.format == "jsonl":
                output.write(to_json(ErrorRecord(source, problem.reason)) + "\n")
                output.finish_record()
            if len(sources) == 1 or isinstance(problem, ModelError):
                raise  # without its model, no other source can do better
            if options.debug:
                traceback.print_exc()
            console.error(f"{source}: {problem}" if source not in problem.message else str(problem))
            failed += 1
        finally:
            console.clear()
    return EXIT_SOME_FAILED if failed else 0


@contextmanager
def time_limit(seconds: float | None, source: str) -> Iterator[None]:
    """Raise TimedOutError in the main thread after `seconds`; None = no limit."""
    if seconds is None:
        yield
        return

    def expire(_number: int, _frame: Any) -> None:
        raise TimedOutError.after(seconds, source)

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
