"""The second look's readers learn to name what a single view shows: cross-entropy against all words, no language model.

Views are cached by training/views.py; mirrored, and their drawings moved before other backgrounds, as stills are. A reader of
pools over the view learns from the names alone. The proposed one begins as stage 1 of the aligned compressor, and learns from the
names and from what the readers before it make of the same views: names alone tell the state-space layers little a step. So does
a baseline in its place, from its own beginning.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mambamia_cli.language.lexicon import Lexicon
from mambamia_cli.language.spotter import POOLS, READERS, ViewReader
from mambamia_cli.training import features
from mambamia_cli.training.align import Stills, targets
from mambamia_cli.training.checkpoint import Run, cosine, set_rate

SIZES = {"small": (0.0, 0.45), "middle": (0.45, 0.75), "large": (0.75, 9.0)}  # heights over the view's


@dataclass(frozen=True)
class Lesson:
    """How one reader is trained: its kind (language.spotter.READERS), steps, views a step, learning rate."""

    kind: str = POOLS
    steps: int = 600
    views: int = 256
    lr: float = 1e-3

    def __post_init__(self) -> None:
        if self.kind not in READERS:
            raise TypeError(f"a reader's kind must be one of {', '.join(READERS)}, not {self.kind!r}")


@dataclass(frozen=True)
class SpotterTraining:
    """`taught`: the part of the loss of a reader that is not of pools which the readers before it set."""

    readers: tuple[Lesson, ...] = (Lesson(),)
    weight_decay: float = 0.05
    drop: float = 0.2
    noise: float = 0.15
    swap: float = 0.4  # of views with one drawing are given another background
    taught: float = 0.5

    def __post_init__(self) -> None:
        if not self.readers or self.readers[0].kind != POOLS:
            raise TypeError(f"the first of the readers must be of {POOLS}: the others learn from it")


def naming(model: ViewReader, words: Lexicon, patches: Tensor, drop: float = 0.0) -> Tensor:
    """-> (m, t, v) logits of every word."""
    points = F.normalize(words.table - words.centre, dim=-1)
    return model.log_scale.exp() * F.normalize(model(patches, drop) - words.centre, dim=-1) @ points.T


def loss(model: ViewReader, words: Lexicon, patches: Tensor, names: Tensor, config: SpotterTraining, teachers: tuple[ViewReader, ...]) -> Tensor:
    """patches (m, n, d_vision), names (m, t) -> cross-entropy with the names and, where there are teachers, with what they say."""
    logits = naming(model, words, patches, config.drop).flatten(0, 1)  # (m * t, v)
    named = F.cross_entropy(logits, names.flatten(), label_smoothing=0.02)
    if not teachers:
        return named
    with torch.no_grad():
        said = torch.stack([naming(teacher, words, patches) for teacher in teachers]).mean(0).flatten(0, 1).softmax(-1)
    return torch.lerp(named, F.cross_entropy(logits, said), config.taught)


@contextmanager
def _quick_products() -> Iterator[None]:
    """Products of float32 matrices with 8 bits of mantissa where the processor has units for that: a quarter of a step's time, with AMX."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@_quick_products()
def train(model: ViewReader, words: Lexicon, data: features.StillSet, held: dict[str, features.StillSet], folder: Path,
          config: SpotterTraining, lesson: Lesson, seed: int, log, grid: tuple[int, int] = (7, 7),
          teachers: tuple[ViewReader, ...] = ()) -> None:  # fmt: skip
    """Deterministic given (seed, step); resumes from the folder's checkpoint. `teachers`: whose mean log-odds it learns from beside the names."""
    objects, steps = len(words.words) - 1001, lesson.steps
    torch.manual_seed(seed)
    views = Stills(data, targets(data, objects, 1000), grid, config.swap)
    matrices, others = ([p for p in model.parameters() if (p.ndim >= 2) is big] for big in (True, False))
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lesson.lr, betas=(0.9, 0.98))
    run = Run(folder, {"model": model, "optimizer": optimizer})
    model.train()
    while run.step < steps:
        set_rate(optimizer, lesson.lr, cosine(run.step, steps, floor=0.0))  # what is cooled names far better than what is not
        rng = np.random.default_rng((seed, 19, run.step))
        drawn = [views.draw(rng) for _ in range(lesson.views)]
        patches, names = torch.stack([p for p, _ in drawn]), torch.from_numpy(np.stack([n for _, n in drawn]))
        value = loss(model, words, patches + config.noise * torch.randn_like(patches), names, config, teachers)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        run.advance()
        if run.step % 50 == 0:
            run.log(loss=round(value.item(), 4))
            log(f"spotter {run.step}/{steps} loss {value.item():.3f} {run.elapsed:.0f}s")
        if run.step % 500 == 0 or run.step == steps:
            for name, part in held.items():
                scores = evaluate(lambda p: naming(model, words, p), model, part, objects)
                run.log(validation=name, **{k: round(v, 4) for k, v in scores.items()})
                log(f"  {name}: " + " ".join(f"{k} {v:.3f}" for k, v in scores.items()))
    run.save()


@torch.no_grad()
def evaluate(read, model: nn.Module, data: features.StillSet, objects: int, *, block: int = 256) -> dict[str, float]:
    """Views with one drawing: named right among all words, by size, and one of four; views with none: taken for a drawing."""
    model.eval()
    wanted, heights = targets(data, objects, 1000)[:, 0], data.boxes[:, 3] - data.boxes[:, 1]
    logits = []
    for at in range(0, len(data), block):
        patches = np.stack([data.patches(i) for i in range(at, min(at + block, len(data)))])
        logits.append(read(torch.from_numpy(patches).float())[:, 0])
    scores = torch.cat(logits)
    one = (wanted < objects) & (data.names[:, 1] < 0)
    best = scores.argmax(1).numpy()
    others = np.random.default_rng(5).integers(0, objects, (len(data), 3))
    four = scores.numpy()[np.arange(len(data))[:, None], np.concatenate([np.where(one, wanted, 0)[:, None], others], 1)].argmax(1) == 0
    found = {"free": float((best == wanted)[one].mean()), "four": float(four[one].mean())}
    for name, (least, most) in SIZES.items():
        inside = one & (heights >= least) & (heights < most)
        found[name] = float((best == wanted)[inside].mean()) if inside.any() else float("nan")
    bare = data.names[:, 0] < 0
    found["invented"] = float((best < objects)[bare].mean())
    model.train()
    return found
