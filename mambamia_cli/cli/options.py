"""Every shared option once: its flags, default, range and help. Commands name the fields they take.

`Options` is the table: a frozen dataclass whose fields carry what Typer needs to know. `@takes("fps", "start", ...)`
turns the named fields into parameters of a command and hands the command one `Options` in their place.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import Annotated, Any

import typer

from mambamia_cli.errors import UsageError
from mambamia_cli.video.timespec import parse_rate, parse_time

SAMPLING, MODEL, ANSWER, OUTPUT = "Time and sampling", "Model and device", "Answer", "Output"
QUANTS = ("auto", "nf4", "fp4", "int4", "int8", "bf16", "fp32")


def _option(default: Any, *flags: str, help: str, panel: str, **range_: Any) -> Any:
    return field(default=default, metadata={"flags": flags, "help": help, "panel": panel, **range_})


@dataclass(frozen=True)
class Options:
    """The shared options of a run, as typed by the user; `None` means "not given"."""

    fps: str | None = _option(
        None, "--fps", panel=SAMPLING, metavar="N",
        help="Frames a second to look at: 2, 0.5, 30000/1001, or 'all'. Default 4; ask and find fewer, down to 1, from ten minutes on.")  # fmt: skip
    max_frames: int | None = _option(
        None, "--max-frames", panel=SAMPLING, min=1, metavar="N",
        help="Look at no more than N frames, spread evenly. Says so when it bites.")  # fmt: skip
    start: str | None = _option(
        None, "--start", "-s", panel=SAMPLING, metavar="T",
        help="Start at T: 95, 95.5, 1:35, 1:02:03.5 or 1h2m3s. A bare number is seconds.")  # fmt: skip
    end: str | None = _option(None, "--end", "-e", panel=SAMPLING, metavar="T", help="Stop before T.")
    video_track: int | None = _option(
        None, "--video-track", panel=SAMPLING, min=0, metavar="N",
        help="Which stream of the file, by the index ffprobe shows. Default: the main video stream.")  # fmt: skip
    model: str = _option(
        "mambamia-tiny", "--model", "-m", panel=MODEL, metavar="NAME|DIR|OWNER/NAME",
        help="A MambaMia model, UniMambaMia or an image-text-to-text model: a name, a folder or a hub id.")  # fmt: skip
    device: str = _option("auto", "--device", panel=MODEL, metavar="auto|cpu|cuda[:N]|xpu[:N]|mps", help="Where to compute.")
    quant: str = _option(
        "auto", "--quant", panel=MODEL, choices=QUANTS, metavar="|".join(QUANTS),
        help="Weights of the language model. 'auto' is nf4 on a GPU and what measures best on a CPU.")  # fmt: skip
    allow_pickle: bool = _option(
        False, "--allow-pickle", panel=MODEL, help="Read weights that are pickles (tensors only, nothing is run) where there are no safetensors.")  # fmt: skip
    audio: bool = _option(True, "--audio/--no-audio", panel=MODEL, help="Let a model that can hear have the sound.")
    threads: int | None = _option(None, "--threads", panel=MODEL, min=1, metavar="N", help="CPU threads.")
    vram_limit: str | None = _option(
        None, "--vram-limit", panel=MODEL, metavar="SIZE",
        help="Stay within so much GPU memory, such as 8GiB: chunk size, window and token budget are solved from it.")  # fmt: skip
    ram_limit: str | None = _option(
        None, "--ram-limit", panel=MODEL, metavar="SIZE", help="The same for the host's memory. Default: what is free.")  # fmt: skip
    seed: int = _option(0, "--seed", panel=MODEL, min=0, metavar="N", help="Seed of whatever is random.")
    token_budget: int | None = _option(
        None, "--token-budget", panel=ANSWER, min=1, metavar="N",
        help="Visual tokens the language model may see; decides how many frames are kept. Default: the model's.")  # fmt: skip
    frame_size: int | None = _option(
        None, "--frame-size", panel=ANSWER, min=28, metavar="PIXELS",
        help="Longer side of a frame as an image-text-to-text model is shown it. Default: 448 where tokens grow with the picture.")  # fmt: skip
    max_tokens: int = _option(128, "--max-tokens", panel=ANSWER, min=1, metavar="N", help="Longest answer, in tokens.")
    json: bool = _option(False, "--json", panel=OUTPUT, help="The result as one indented JSON record.")
    jsonl: bool = _option(False, "--jsonl", "-j", panel=OUTPUT, help="One JSON record a line; failed inputs get one too.")
    output: str | None = _option(
        None, "--output", "-o", panel=OUTPUT, metavar="FILE",
        help="Write results to FILE, whole or not at all, in place of stdout.")  # fmt: skip
    timeout: float | None = _option(
        None, "--timeout", panel=OUTPUT, min=0.001, metavar="SECONDS", help="Give up on a video after so long.")  # fmt: skip
    quiet: bool = _option(False, "--quiet", "-q", panel=OUTPUT, help="No progress and no warnings.")
    verbose: bool = _option(False, "--verbose", "-v", panel=OUTPUT, help="Say more on stderr; a heartbeat without a terminal.")
    debug: bool = _option(False, "--debug", panel=OUTPUT, help="Show the traceback of an error.")

    @property
    def format(self) -> str:
        """"text", "json" or "jsonl"."""
        return "json" if self.json else "jsonl" if self.jsonl else "text"

    def check(self) -> None:
        """Refuse what no table entry can: options that contradict each other or do not parse.

        Raises:
            UsageError: naming the option.
        """
        if self.json and self.jsonl:
            raise UsageError("--json and --jsonl exclude each other", "give one of them")
        if self.quiet and self.verbose:
            raise UsageError("-q and -v exclude each other", "give one of them")
        device = self.device.partition(":")
        if device[0] not in ("auto", "cpu", "cuda", "xpu", "mps") or (device[1] and not (device[0] in ("cuda", "xpu") and device[2].isdigit())):
            raise UsageError(f"--device {self.device} is not a device", "use auto, cpu, cuda, cuda:N, xpu, xpu:N or mps")
        if self.fps is not None:
            self.rate()
        for flag, limit in (("--vram-limit", self.vram_limit), ("--ram-limit", self.ram_limit)):
            if limit is not None:
                from mambamia_cli.plan.limits import parse_size

                parse_size(limit, flag)
        start, end = self.span()
        if end is not None and end <= (start or 0):
            raise UsageError(f"--end {self.end} is not after the start", "give an end later than the start")

    def rate(self) -> Fraction | None:
        """`--fps`, which must have been given, as frames a second; None = every frame."""
        assert self.fps is not None
        return parse_rate(self.fps)

    def span(self) -> tuple[Fraction | None, Fraction | None]:
        """`--start` and `--end` in seconds."""
        return (parse_time(self.start) if self.start is not None else None,
                parse_time(self.end) if self.end is not None else None)  # fmt: skip


FLAG = ""
"""Metavar of an option that takes no value: Typer's own says <bool>, and `--json true` would be taken for a video."""

IO = ("json", "jsonl", "output", "timeout", "quiet", "verbose", "debug")
FRAMES = ("fps", "max_frames", "start", "end", "video_track")
ENGINE = ("model", "allow_pickle", "device", "threads", "vram_limit", "ram_limit", "seed")
LANGUAGE = ("quant", "audio", "token_budget", "frame_size", "max_tokens")
QUIET = ("quiet", "verbose", "debug")


def takes(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the named options of the table; it receives them as its keyword argument `options`."""
    table = {f.name: f for f in fields(Options)}

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(**given: Any) -> Any:
            options = Options(**{name: given.pop(name) for name in names})
            options.check()
            return command(**given, options=options)

        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "options"]
        shared = [_parameter(table[name]) for name in names]
        wrapper.__name__, wrapper.__doc__, wrapper.__module__ = command.__name__, command.__doc__, command.__module__
        wrapper.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own, *shared)])  # fmt: skip
        wrapper.__annotations__ = {p.name: p.annotation for p in (*own, *shared)}
        return wrapper

    return decorate


def _parameter(entry: Any) -> inspect.Parameter:
    """A row of the table as a Typer parameter."""
    meta = entry.metadata
    extra = {key: meta[key] for key in ("min", "max", "metavar") if key in meta}
    if isinstance(entry.default, bool):
        extra["metavar"] = FLAG
    if "choices" in meta:
        extra["callback"] = _one_of(meta["choices"], meta["flags"][0])
    option = typer.Option(*meta["flags"], help=meta["help"], rich_help_panel=meta["panel"],
                          show_default=entry.default not in (None, False), **extra)  # fmt: skip
    return inspect.Parameter(entry.name, inspect.Parameter.KEYWORD_ONLY, default=entry.default,
                             annotation=Annotated[entry.type, option])  # fmt: skip


def _one_of(choices: tuple[str, ...], flag: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if value not in choices:
            raise UsageError(f"{flag} {value} is not known", f"use one of {', '.join(choices)}")
        return value

    return check
