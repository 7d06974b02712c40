"""`mambamia plan`: what a run will need, before anything is loaded."""

import os
from collections.abc import Callable
from fractions import Fraction
from typing import Annotated, Any

import typer

from mambamia_cli.cli.options import FRAMES, LANGUAGE, QUIET, Options, takes
from mambamia_cli.cli.output import Output
from mambamia_cli.errors import InputError, UsageError
from mambamia_cli.video.source import check_source, is_url


@takes(*FRAMES, *LANGUAGE, "model", "device", "vram_limit", "ram_limit", "json", "output", *QUIET)
def plan(
    video: Annotated[str, typer.Argument(metavar="VIDEO", show_default=False, help="A file, or a length such as 384s or 1:30:00.")],
    vision: Annotated[str | None, typer.Option("--vision", metavar="NAME|DIR", show_default=False,
        help="In place of --model: this vision tower ...")] = None,
    llm: Annotated[str | None, typer.Option("--llm", metavar="NAME|DIR", show_default=False,
        help="... and this language model, with the paper's compressor between them.")] = None,
    *,
    options: Options,
) -> Callable[[], int]:  # fmt: skip
    """Show what `ask` will need: tokens at every step, bytes of every stage, what fits. No weights are loaded."""
    if (vision is None) != (llm is None):
        raise UsageError("--vision and --llm go together", "give both, or --model")
    output = Output(options.output)
    output.check()

    facts = _facts(video, options)

    def job() -> int:
        from mambamia_cli.plan import record
        from mambamia_cli.records import to_json

        parts = _parts(options, vision, llm, (facts["height"], facts["width"]))
        task, limits = _task(facts, options), _limits(options)
        found = record.make(video, parts, task, limits, video=facts)
        with output:
            output.write((to_json(found, pretty=True) if options.json else record.to_text(found)) + "\n")
            output.finish_record()
        return 0

    return job


def _facts(video: str, options: Options) -> dict[str, Any]:
    """Seconds to be looked at, size and rate of a file; of a bare length, those of 720p at 25 frames a second."""
    start, end = options.span()
    if not os.path.exists(video) and (length := _length(video)) is not None:
        width, height, own, duration, sound = 1280, 720, Fraction(25), length, True
    else:
        from mambamia_cli.video.probe import probe

        check_source(video)
        if is_url(video):
            raise UsageError("a URL is not fetched to be planned", "give a file, or a length such as 90m")
        info = probe(video, stream=options.video_track)
        width, height, own, duration, sound = info.width, info.height, info.fps, info.duration, info.has_audio
    if duration is None:
        raise InputError(f"{video} does not say how long it is", "give --end")
    span = max(min(end or duration, duration) - (start or 0), Fraction(0))
    if not span:
        raise UsageError(f"--start {options.start} is after the end of the video", "give an earlier one")
    return {"seconds": float(span), "width": width, "height": height, "fps": float(own) if own else None,
            "frames": round(span * own) if own else None, "sound": sound}  # fmt: skip


def _length(text: str) -> Fraction | None:
    from mambamia_cli.video.timespec import parse_time

    try:
        return parse_time(text)
    except UsageError:
        return None


def _parts(options: Options, vision: str | None, llm: str | None, picture: tuple[int, int]) -> Any:
    from mambamia_cli.models.folder import read_folder
    from mambamia_cli.models.kinds import NATIVE, kind_of
    from mambamia_cli.plan.parts import of_folder, of_kind, of_names

    if vision and llm:
        return of_names(vision, llm)
    kind = kind_of(options.model)
    if kind.kind == NATIVE:
        return of_folder(read_folder(options.model))
    return of_kind(kind, picture, options.frame_size, hear=options.audio)


def _limits(options: Options) -> Any:
    """Only limits that were given: a plan may be for another machine than this one."""
    from mambamia_cli.plan.limits import Limits, limits_of

    given = limits_of(options.vram_limit, options.ram_limit, _device(options))
    return given if options.ram_limit is not None else Limits(given.vram, None, given.vram_words, "")


def _device(options: Options) -> str:
    """--device; where it is "auto", a limit on GPU memory means that there will be one."""
    from mambamia_cli.plan.limits import detected_device

    if options.device != "auto":
        return options.device.partition(":")[0]
    return "cuda" if options.vram_limit is not None else detected_device()


def _task(facts: dict[str, Any], options: Options) -> Any:
    from mambamia_cli.plan.estimate import Task
    from mambamia_cli.plan.frames import asking_rate, frame_count

    span = Fraction(facts["seconds"])
    rate = asking_rate(span) if options.fps is None else options.rate()
    frames = frame_count(span, rate, Fraction(facts["fps"]) if facts["fps"] else None, options.max_frames)
    return Task(frames, facts["seconds"], (facts["height"], facts["width"]), _device(options), options.quant, options.max_tokens,
                options.token_budget, sound=facts["sound"], most=options.max_frames)  # fmt: skip
