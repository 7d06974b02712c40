"""Stage 0, lexical alignment: visual tokens learn to land on the embeddings of the words that name what a frame shows.

The language model takes no part but for its embedding table, so this is cheap: cross-entropy of a token's cosine
against every name's embedding, plus a pull to the embedding itself, so that the token has the length the language
model expects. Delta learns beside it: it must rise at shot boundaries and where a drawing enters (figure 5).

It goes in three steps, because the names alone, one word a frame through a projector that knows nothing yet, are mostly
noise to the state-space layers (measured: a tenth of the anchors' variance explained after 330 steps; by distillation a
fifth after 50):

1. a teacher, attention inside each row of patches and no state space, twenty times cheaper a frame, learns to name;
2. the time-axis aggregator learns delta, and to leave the names alone, on the teacher's anchors;
3. stage 1 of the compressor learns to give the teacher's anchors, and at last to name through the whole chain.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mambamia_cli.compressor.model import CompressorConfig, MambaMiaCompressor
from mambamia_cli.language.lexicon import Lexicon, word_point
from mambamia_cli.language.projector import Projector, ProjectorConfig
from mambamia_cli.training import features
from mambamia_cli.training.checkpoint import Run, cosine, set_rate

DELTA_REST, DELTA_ENTRY, DELTA_BOUNDARY = 0.03, 0.5, 1.0  # what delta should be: nothing new, a drawing enters, a new shot


@dataclass(frozen=True)
class AlignConfig:
    steps: int = 450
    frames: int = 128  # frames a step, in `sequences` sequences
    sequences: int = 1
    lr: float = 2e-3
    teacher_lr: float = 1e-3
    teacher_steps: int = 2000
    teacher_frames: int = 256
    weight_decay: float = 0.02
    delta_weight: float = 1.0
    pull_weight: float = 0.1
    taa_steps: int = 1000
    taa_lr: float = 5e-4
    distil_weight: float = 10.0
    naming_from: float = 0.7  # part of the steps after which the names join the distillation
    stills_part: float = 0.6  # of the runs of frames; the rest are shots
    grid: tuple[int, int] = (7, 7)  # rows and columns of the encoder's patches


def word_table(words: list[str], tokenizer, embeddings: Tensor) -> Tensor:
    """-> (v, width): the points of words in the language model's table."""
    ids = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
    return torch.stack([word_point(w, ids, lambda i: embeddings[i]) for w in words])


def targets(data: features.FeatureSet | features.StillSet, objects: int, classes: int) -> np.ndarray:
    """-> (..., 2) word indexes: a frame's two names. Words are objects, then ImageNet classes, then SCENE.

    First name: the tallest drawing, else what ImageNet is sure of, else SCENE. Second: the next drawing or class, else
    SCENE, so that one needle reads "cat scene" and two read "cat dog".
    """
    scene = objects + classes
    labels = np.where(data.labels >= 0, data.labels + objects, scene)
    return np.where(data.names[..., :1] >= 0, np.where(data.names >= 0, data.names, scene), labels)


def delta_targets(data: features.FeatureSet) -> np.ndarray:
    """-> (shots, m) what delta should be inside a shot; the first frame of a shot is set where shots are joined."""
    return np.where(data.boundary, DELTA_BOUNDARY, np.where(data.entry, DELTA_ENTRY, DELTA_REST)).astype(np.float32)


class Stills:
    """Single frames, mirrored and moved before other backgrounds: the cells of a drawing's box over an empty frame's.

    What a drawing stands in front of must not tell its name, and there are few photographs to stand in front of.
    """

    def __init__(self, data: features.StillSet, names: np.ndarray, grid: tuple[int, int], swap: float = 0.5):
        self.data, self.names, self.grid, self.swap = data, names, grid, swap
        self.empty = np.flatnonzero((data.names[:, 0] < 0) & ~data.distractor)
        self.alone = (data.names[:, 0] >= 0) & (data.names[:, 1] < 0) & ~data.distractor

    def draw(self, rng) -> tuple[Tensor, np.ndarray]:
        """-> patches (n, d_vision) float32, names (2,)."""
        i = int(rng.integers(len(self.data)))
        patches, mirrored = self._read(i, rng)
        if self.alone[i] and rng.random() < self.swap:
            keep = torch.from_numpy(self._cells(self.data.boxes[i], mirrored))[:, None]
            patches = torch.where(keep, patches, self._read(int(rng.choice(self.empty)), rng)[0])
        return patches, self.names[i]

    def _read(self, i: int, rng) -> tuple[Tensor, bool]:
        patches = torch.from_numpy(np.array(self.data.patches(i))).float()
        mirrored = bool(rng.random() < 0.5)
        return (patches.unflatten(0, self.grid).flip(1).flatten(0, 1) if mirrored else patches), mirrored

    def _cells(self, box: np.ndarray, mirrored: bool) -> np.ndarray:
        """(n,) bool: cells that the box touches."""
        rows, columns = self.grid
        left, top, right, bottom = box
        if mirrored:
            left, right = 1 - right, 1 - left
        r, c = np.arange(rows) / rows, np.arange(columns) / columns
        high, wide = 1 / rows, 1 / columns
        in_rows, in_columns = (r < bottom) & (r + high > top), (c < right) & (c + wide > left)
        return (in_rows[:, None] & in_columns[None]).ravel()


class Batches:
    """Random sequences joined from cached shots and stills. Deterministic given (seed, step)."""

    def __init__(self, data: features.FeatureSet, names: np.ndarray, config: AlignConfig, seed: int, grid=(7, 7),
                 stills: Stills | None = None, stills_part: float = 0.0):  # fmt: skip
        self.data, self.names, self.delta, self.config, self.seed, self.grid = data, names, delta_targets(data), config, seed, grid
        self.stills, self.stills_part = stills, stills_part if stills is not None else 0.0

    def at(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """-> patches (b, m, n, d_vision), names (b, m, 2), delta (b, m)."""
        rng = np.random.default_rng((self.seed, step))
        sequences = [self._sequence(rng, self.config.frames // self.config.sequences) for _ in range(self.config.sequences)]
        return tuple(torch.stack(parts) for parts in zip(*sequences, strict=True))

    def _sequence(self, rng, m: int) -> tuple[Tensor, Tensor, Tensor]:
        """Runs of frames joined: -> patches (m, n, d_vision), names (m, 2), delta (m,)."""
        patches, names, delta, length = [], [], [], 0
        while length < m:
            run = self._still_run(rng) if rng.random() < self.stills_part else self._shot_run(rng)
            for whole, part in zip((patches, names, delta), run, strict=True):
                whole.append(part)
            length += len(run[2])
        return torch.cat(patches)[:m], torch.from_numpy(np.concatenate(names)[:m]), torch.from_numpy(np.concatenate(delta)[:m])

    def _still_run(self, rng):
        """A still held for one to three frames, with a little noise, as a shot of its own."""
        patches, names = self.stills.draw(rng)
        count = int(rng.choice([1, 1, 2, 3]))
        held = patches.expand(count, -1, -1)  # (m', n, d_vision)
        if count > 1:
            held = held + 0.1 * torch.from_numpy(rng.standard_normal(held.shape, dtype=np.float32))
        delta = np.array([DELTA_BOUNDARY] + [DELTA_REST] * (count - 1), np.float32)
        return held, np.tile(names, (count, 1)), delta

    def _shot_run(self, rng):
        """A shot cut to 3 to 8 frames, mirrored half of the time."""
        shot = int(rng.integers(0, len(self.data)))
        begin = int(rng.integers(0, 4))
        end = int(rng.integers(begin + 3, features.FRAMES_A_SHOT + 1))
        grid = torch.from_numpy(np.array(self.data.patches(shot)[begin:end])).float()  # (m', n, d_vision)
        if rng.random() < 0.5:
            grid = grid.unflatten(1, self.grid).flip(2).flatten(1, 2)
        delta = self.delta[shot, begin:end].copy()
        delta[0] = DELTA_BOUNDARY
        return grid, self.names[shot, begin:end], delta


def losses(tokens: Tensor, delta: Tensor, names: Tensor, delta_target: Tensor, lexicon: Lexicon, config: AlignConfig) -> dict[str, Tensor]:
    """tokens (b, m, t, width), delta (b, m), names (b, m, t), delta_target (b, m) -> parts of the loss and their sum."""
    naming = F.cross_entropy(lexicon.scores(tokens).flatten(0, 2), names.flatten(), label_smoothing=0.02)
    wanted = lexicon.table[names]  # (b, m, t, width)
    pull = F.mse_loss(tokens, wanted) / lexicon.table.var()
    weight = 1 + 4 * (delta_target > DELTA_REST).float()
    weight[:, 0] = 0  # nothing came before a sequence's first frame
    rise = (weight * F.smooth_l1_loss(delta, delta_target, reduction="none", beta=0.2)).sum() / weight.sum()
    return {"naming": naming, "pull": pull, "delta": rise, "loss": naming + config.pull_weight * pull + config.delta_weight * rise}


class RowPool(nn.Module):
    """The teacher: each row's patches averaged by learned attention on their content, then projected to tokens.

    Its anchors have unit root mean square, as the compressor's have after norm_f. It knows no time: delta is 0.
    """

    def __init__(self, compressor: CompressorConfig, projector: ProjectorConfig, lexicon: Lexicon):
        super().__init__()
        self.rows = (compressor.grid_rows, compressor.patches_per_row)
        self.input_proj = nn.Linear(compressor.vision_width, compressor.hidden_size)
        self.attention = nn.Linear(compressor.hidden_size, 1)
        self.projector, self.lexicon = Projector(projector), lexicon

    def anchors(self, patches: Tensor) -> Tensor:
        """patches (b, m, n, d_vision) -> (b, m, g, d)."""
        hidden = self.input_proj(patches).unflatten(2, self.rows)  # (b, m, g, k, d)
        pooled = (self.attention(hidden).softmax(-2) * hidden).sum(-2)
        return F.rms_norm(pooled, pooled.shape[-1:])

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        return self.projector(self.anchors(patches)), patches.new_zeros(patches.shape[:2])


class Aligner(nn.Module):
    """Compressor, projector and lexicon trained together."""

    def __init__(self, compressor: CompressorConfig, projector: ProjectorConfig, lexicon: Lexicon):
        super().__init__()
        self.compressor, self.projector, self.lexicon = MambaMiaCompressor(compressor), Projector(projector), lexicon

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """patches (b, m, n, d_vision) -> tokens (b, m, t, width), delta (b, m)."""
        return self.read(self.compressor.gather(patches))

    def read(self, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """Stage 1's anchors (b, m, g, d) -> tokens (b, m, t, width), delta (b, m)."""
        anchors, delta = self.compressor.taa(anchors)
        return self.projector(anchors), delta

    def start_from(self, teacher: RowPool) -> None:
        """Take over the teacher's two ends; what lies between is learned. The aggregator starts as the identity."""
        nn.init.zeros_(self.compressor.taa.mixer.out_proj.weight)
        self.compressor.input_proj.load_state_dict(teacher.input_proj.state_dict())
        self.projector.load_state_dict(teacher.projector.state_dict())


def optimizer_for(model: nn.Module, config: AlignConfig) -> torch.optim.Optimizer:
    """AdamW; decays, gains and biases are left out of weight decay."""
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    others = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.98))


@torch.no_grad()
def evaluate(model: Aligner, data: features.FeatureSet, names: np.ndarray, objects: int, grid=(7, 7), seed: int = 7) -> dict[str, float]:
    """Naming of frames with one drawing: among all words, among objects, one of four; and delta at boundaries."""
    model.eval()
    config = AlignConfig(frames=128, sequences=1)
    batches, hits, total, delta = Batches(data, names, config, seed, grid), np.zeros(3), 0, []
    for step in range(max(1, len(data) * features.FRAMES_A_SHOT // config.frames)):
        patches, wanted, target = batches.at(step)
        tokens, predicted = model(patches)
        scores = model.lexicon.scores(tokens[0, :, 0])  # (m, v)
        on = wanted[0, :, 0] < objects
        right, scores = wanted[0, on, 0], scores[on]
        rng = torch.Generator().manual_seed(step)
        others = torch.randint(0, objects, (len(right), 3), generator=rng)
        four = scores.gather(1, torch.cat([right[:, None], others], 1))
        hits += [(scores.argmax(1) == right).sum(), (scores[:, :objects].argmax(1) == right).sum(), (four.argmax(1) == 0).sum()]
        total += len(right)
        delta.append(torch.stack([predicted[0, 1:], target[0, 1:]]))
    predicted, target = torch.cat(delta, 1)
    model.train()
    free, among, four = (hits / max(1, total)).tolist()
    edge, rest = predicted[target == DELTA_BOUNDARY], predicted[target < DELTA_ENTRY]
    return {"free": free, "objects": among, "four": four, "delta_edge": edge.mean().item(), "delta_rest": rest.mean().item(),
            "edge_found": (edge > 0.5).float().mean().item(), "false_edge": (rest > 0.5).float().mean().item()}


@dataclass(frozen=True)
class Material:
    """What to learn from: shots, stills (or none), and held-out shots by name."""

    shots: features.FeatureSet
    stills: features.StillSet | None
    validation: dict[str, features.FeatureSet]


def train_teacher(teacher: RowPool, material: Material, folder: Path, config: AlignConfig, seed: int, log) -> None:
    """Naming alone, no delta, mostly on stills; a few minutes."""
    settings = dataclasses.replace(config, steps=config.teacher_steps, lr=config.teacher_lr, frames=config.teacher_frames, delta_weight=0.0)

    def loss(step, patches, names, delta):
        return losses(*teacher(patches), names, delta, teacher.lexicon, settings)

    _train("teacher", teacher, teacher, loss, material, folder, settings, seed, log, 0.95)


def train_taa(model: Aligner, teacher: RowPool, material: Material, folder: Path, config: AlignConfig, seed: int, log) -> None:
    """The aggregator on the teacher's anchors: delta, and names that pass unharmed. Shots in the main, for their time."""
    settings = dataclasses.replace(config, steps=config.taa_steps, lr=config.taa_lr, frames=config.teacher_frames, delta_weight=3.0)
    model.start_from(teacher)
    teacher.eval().requires_grad_(False)

    class Chain(nn.Module):
        def forward(self, patches):
            return model.read(teacher.anchors(patches))

    chain = Chain()
    chain.lexicon = model.lexicon
    trained = nn.ModuleList([model.compressor.taa, model.projector, model.lexicon])

    def loss(step, patches, names, delta):
        return losses(*chain(patches), names, delta, model.lexicon, settings)

    _train("taa", trained, chain, loss, material, folder, settings, seed, log, 0.4)


def train(model: Aligner, teacher: RowPool | None, material: Material, folder: Path, config: AlignConfig, seed: int, log) -> None:
    """Stage 1 by distillation from the teacher, and the whole chain at the end; without a teacher, all of it by names."""

    def loss(step, patches, names, delta):
        anchors = model.compressor.gather(patches)
        if teacher is None:
            return losses(*model.read(anchors), names, delta, model.lexicon, config)
        wanted = teacher.anchors(patches)
        error = F.mse_loss(anchors, wanted)
        parts = {"distil": error, "explained": 1 - error / (wanted - wanted.mean(1, keepdim=True)).square().mean()}
        if step < config.naming_from * config.steps:
            return parts | {"loss": config.distil_weight * error}
        named = losses(*model.read(anchors), names, delta, model.lexicon, config)
        return named | parts | {"loss": named["loss"] + config.distil_weight * error}

    _train("align", model, model, loss, material, folder, config, seed, log, config.stills_part)


def _train(stage, trained, model, loss, material, folder, config, seed, log, stills_part) -> None:
    """Minimise `loss` over the parameters of `trained`; `model` is what is measured on the held-out shots."""
    objects, classes = len(model.lexicon.words) - 1001, 1000
    torch.manual_seed(seed)
    shots, stills, grid = material.shots, material.stills, config.grid
    if stills is not None:
        stills = Stills(stills, targets(stills, objects, classes), grid)
    batches = Batches(shots, targets(shots, objects, classes), config, seed, grid, stills, stills_part)
    optimizer = optimizer_for(trained, config)
    run = Run(folder, {"model": trained, "optimizer": optimizer})
    model.train()
    while run.step < config.steps:
        set_rate(optimizer, config.lr, cosine(run.step, config.steps))
        parts = loss(run.step, *batches.at(run.step))
        optimizer.zero_grad(set_to_none=True)
        parts["loss"].backward()
        nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        run.advance()
        if run.step % 20 == 0:
            run.log(**{k: round(v.item(), 4) for k, v in parts.items()})
            log(f"{stage} {run.step}/{config.steps} " + " ".join(f"{k} {v.item():.3f}" for k, v in parts.items()) + f" {run.elapsed:.0f}s")
        if run.step % 250 == 0 or run.step == config.steps:
            for name, held in material.validation.items():
                scores = evaluate(model, held, targets(held, objects, classes), objects, grid)
                run.log(validation=name, **{k: round(v, 4) for k, v in scores.items()})
                log(f"  {name}: " + " ".join(f"{k} {v:.3f}" for k, v in scores.items()))
    run.save()
