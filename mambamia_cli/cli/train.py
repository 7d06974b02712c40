"""`mambamia train`: make weights, from a recipe of packages or from LLaVA-format data. Each stage goes on where it was stopped."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from mambamia_cli.cli.options import Options, takes
from mambamia_cli.errors import UsageError

STAGES = ("data", "align", "tune", "export")
NEEDS = {"cv2": "opencv-python-headless", "PIL": "pillow", "resvg_py": "resvg-py"}


@takes("threads", "quiet", "debug")
def train(
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE.toml", show_default=False, help="The recipe.")] = None,
    work: Annotated[Path, typer.Option("--work", metavar="DIR", help="Packages, features and checkpoints.")] = Path("train-work"),
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="DIR", show_default=False,
        help="The model folder to write. Default: the recipe's folder.")] = None,
    stage: Annotated[list[str] | None, typer.Option("--stage", metavar="|".join(STAGES), show_default=False,
        help="Only this stage; repeat for several. Default: all, in order.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="WORK", show_default=False,
        help="Train nothing: draw the metrics of a work folder, as every stage does at its end.")] = None,
    *,
    options: Options,
) -> Callable[[], int]:  # fmt: skip
    """Train a model folder from a recipe: packages, features, alignment, adapter. Stop and start it at any time."""
    if plot is not None:
        return lambda: _plot(plot)
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


def _plot(work: Path) -> int:
    from mambamia_cli.training.plotting import draw_all

    for picture in draw_all(work):
        print(picture)
    return 0
