"""`mambamia train`: make weights, from a recipe of packages or from LLaVA-format data. Each stage goes on where it was stopped."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from mambamia_cli.cli.options import Options, takes
from mambamia_cli.errors import UsageError

STAGES = ("data", "align", "tune", "export", "spotter", "calibrate")
NEEDS = {"cv2": "opencv-python-headless", "PIL": "pillow", "resvg_py": "resvg-py"}


FULL = ("align", "tune")
DATA = "From LLaVA-format data"


def _of_data(kind: type, flag: str, metavar: str, help: str, **range_: int) -> object:
    return Annotated[kind | None, typer.Option(flag, metavar=metavar, help=help, show_default=False, rich_help_panel=DATA, **range_)]


@takes("device", "quant", "threads", "quiet", "debug")
def train(
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE.toml", show_default=False, help="The recipe.")] = None,
    work: Annotated[Path, typer.Option("--work", metavar="DIR", help="Packages, features and checkpoints.")] = Path("train-work"),
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="DIR", show_default=False,
        help="The model folder to write. Default: the recipe's folder.")] = None,
    stage: Annotated[list[str] | None, typer.Option("--stage", metavar="|".join(STAGES), show_default=False,
        help="Only this stage; repeat for several. Default: all, in order.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="WORK", show_default=False,
        help="Train nothing: draw the metrics of a work folder, as every stage does at its end.")] = None,
    vision: _of_data(str, "--vision", "NAME|DIR", "Vision tower: a transformers folder or hub id.") = None,
    llm: _of_data(str, "--llm", "NAME|DIR", "Language model: a transformers folder or hub id.") = None,
    data: Annotated[list[str] | None, typer.Option("--data", metavar="FILE", show_default=False, rich_help_panel=DATA,
        help="Conversations in LLaVA's format, JSON or JSON lines; repeat for several files.")] = None,
    media: _of_data(str, "--media", "DIR", "The folder that the data's image and video paths are relative to.") = None,
    init: _of_data(str, "--init", "DIR", "Begin with the compressor and projector of this model folder.") = None,
    lr: _of_data(float, "--lr", "RATE", "Learning rate. Default: the paper's, 1e-4 for align and 2e-5 for tune.") = None,
    steps: _of_data(int, "--steps", "N", "Optimiser steps a stage. Default: one pass over the data.", min=1) = None,
    batch: _of_data(int, "--batch", "N", "Rows that pass the models together. Default 1.", min=1) = None,
    accumulate: _of_data(int, "--accumulate", "N", "Batches a step and process. Default 8.", min=1) = None,
    frames: _of_data(int, "--frames", "N", "Frames of a video, at most. Default 128.", min=1) = None,
    seed: _of_data(int, "--seed", "N", "Seed of order, dropout and first weights. Default 2025.", min=0) = None,
    *,
    options: Options,
) -> Callable[[], int]:  # fmt: skip
    """Train a model folder, from a recipe of packages (--config) or from conversations (--vision, --llm, --data).

    Stop and start it at any time. From conversations it runs under torchrun and accelerate on several cards.
    """
    if plot is not None:
        return lambda: _plot(plot)
    given = {"vision": vision, "language_model": llm, "data": tuple(data) if data else None, "media": media, "init": init, "lr": lr,
             "steps": steps, "batch": batch, "accumulate": accumulate, "frames": frames, "seed": seed,
             "quant": None if options.quant == "auto" else options.quant}  # fmt: skip
    if any(given[key] is not None for key in ("vision", "language_model", "data")) or _names_data(config):
        return _from_data(config, given, work, output, stage, options)
    unknown = sorted(set(stage or ()) - set(STAGES))
    if unknown:
        raise UsageError(f"there is no stage {unknown[0]!r}", f"use {', '.join(STAGES)}")
    if config is None:
        raise UsageError("there is nothing to train from", "name a recipe with --config FILE.toml")
    if not config.is_file():
        raise UsageError(f"there is no recipe {config}", "name a TOML file with --config")
    missing = [name for module, name in NEEDS.items() if find_spec(module) is None]
    if missing:
        raise UsageError(f"training needs {', '.join(missing)}", "pip install 'mambamia-cli[train]'")
    chosen = tuple(s for s in STAGES if not stage or s in stage)

    def job() -> int:
        import torch

        from mambamia_cli.training.checkpoint import reporter
        from mambamia_cli.training.config import load
        from mambamia_cli.training.run import run

        if options.threads:
            torch.set_num_threads(options.threads)
        run(load(config), work, output or config.parent, chosen, reporter(options.quiet))
        return 0

    return job


def _names_data(config: Path | None) -> bool:
    """Whether a recipe is one for conversations. What is wrong with a file is said by whoever reads it."""
    import tomllib

    try:
        return config is not None and "data" in tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def _from_data(config: Path | None, given: dict, work: Path, output: Path | None, stage: list[str] | None, options: Options) -> Callable[[], int]:
    unknown = sorted(set(stage or ()) - set(FULL))
    if unknown:
        raise UsageError(f"there is no stage {unknown[0]!r} from data", f"use {', '.join(FULL)}")
    chosen = tuple(s for s in FULL if not stage or s in stage)

    def job() -> int:
        import torch

        from mambamia_cli.pipeline.engine import pick_device
        from mambamia_cli.training import full_config
        from mambamia_cli.training.checkpoint import reporter
        from mambamia_cli.training.distributed import join
        from mambamia_cli.training.full import run

        recipe = full_config.load(config, given)
        if options.threads:
            torch.set_num_threads(options.threads)
        world = join(pick_device(options.device))
        try:
            run(recipe, work, output or work / "model", chosen, world, reporter(options.quiet))
        finally:
            world.close()
        return 0

    return job


def _plot(work: Path) -> int:
    from mambamia_cli.training.plotting import draw_all

    for picture in draw_all(work):
        print(picture)
    return 0
