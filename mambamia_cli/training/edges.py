"""After alignment: the time-axis aggregator learns edited video and lectures, where delta must rise and where it must not.

Stage 1 stays as it is, so its anchors are computed once and the aggregator, which is small, passes over them many times.
Names must come through unharmed, and a drawing that enters must go on raising delta: shots are rehearsed beside the reels.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mambamia_cli.training import features
from mambamia_cli.training.align import DELTA_BOUNDARY, DELTA_REST, Aligner, Batches, losses
from mambamia_cli.training.checkpoint import Run, cosine, set_rate


@dataclass(frozen=True)
class EdgesConfig:
    steps: int = 1500
    reels: int = 12  # a step
    rehearsals: int = 120  # sequences of shots and stills that are rehearsed
    lr: float = 1e-3
    boundary_weight: float = 6.0
    blend_weight: float = 0.15  # of frames inside a gradual transition, its middle left aside
    noise: float = 0.1
    entry_weight: float = 1.0
    naming_weight: float = 0.3


@dataclass(frozen=True)
class Anchors:
    """Stage 1's outputs: anchors (reels, m, g, d) float16, boundary and blend (reels, m), a kind each."""

    anchors: Tensor
    boundary: Tensor
    blend: Tensor
    kinds: list[str]


@torch.no_grad()
def through_stage_one(model: Aligner, reels: features.ReelSet) -> Anchors:
    """Anchors of all reels; some minutes for a thousand."""
    rows = [model.compressor.gather(torch.from_numpy(np.array(reels.patches(i)))[None].float())[0].half() for i in range(len(reels))]
    return Anchors(torch.stack(rows), torch.from_numpy(reels.boundary), torch.from_numpy(reels.blend), reels.kinds)


def edge_loss(delta: Tensor, boundary: Tensor, blend: Tensor, config: EdgesConfig) -> Tensor:
    """delta (b, m), boundary and blend (b, m) bool -> weighted smooth L1. Nothing came before a sequence's first frame."""
    target = torch.where(boundary, DELTA_BOUNDARY, DELTA_REST)
    weight = torch.where(boundary, config.boundary_weight, torch.where(blend, config.blend_weight, 1.0))
    weight[:, 0] = 0
    return (weight * F.smooth_l1_loss(delta, target, reduction="none", beta=0.2)).sum() / weight.sum()


@torch.no_grad()
def evaluate(model: Aligner, data: Anchors, *, threshold: float = 0.5, reach: int = 2) -> dict[str, float]:
    """F1 of the peaks of delta above `threshold`, found within `reach` frames, by kind of reel."""
    counts: dict[str, np.ndarray] = {}
    for i, kind in enumerate(data.kinds):
        delta = model.read(data.anchors[i][None].float())[1][0].numpy()
        wanted = np.flatnonzero(data.boundary[i].numpy())
        padded = np.pad(delta, 1, constant_values=-1)
        found = [t for t in range(1, len(delta)) if delta[t] > threshold and delta[t] >= padded[t] and delta[t] > padded[t + 2]]
        hits, free = 0, set(found)
        for w in wanted:
            near = [t for t in free if abs(t - w) <= reach]
            if near:
                free.discard(min(near, key=lambda t: abs(t - w)))
                hits += 1
        counts[kind] = counts.get(kind, np.zeros(3)) + (hits, len(found), len(wanted))
    return {kind: round(float(2 * h / max(1, f + w)), 3) for kind, (h, f, w) in sorted(counts.items())}


def train(model: Aligner, reels: features.ReelSet, held: features.ReelSet, rehearsal: Batches, folder: Path, config: EdgesConfig,
          seed: int, log) -> None:  # fmt: skip
    """Train the aggregator until `config.steps`; resumes from the folder's checkpoint."""
    taa, settings = model.compressor.taa, rehearsal.config
    run = Run(folder, {"taa": taa, "optimizer": (optimizer := torch.optim.AdamW(taa.parameters(), lr=config.lr, weight_decay=0.02))})
    if run.step >= config.steps:
        return
    log("stage 1 over the reels")
    data, test = through_stage_one(model, reels), through_stage_one(model, held)
    model.requires_grad_(False).eval()
    taa.requires_grad_(True)
    known = []
    with torch.no_grad():
        for step in range(config.rehearsals):
            patches, names, delta = rehearsal.at(10_000_000 + step)
            known.append((model.compressor.gather(patches), names, delta))
    while run.step < config.steps:
        rng = np.random.default_rng((seed, 5, run.step))
        set_rate(optimizer, config.lr, cosine(run.step, config.steps))
        pick = torch.from_numpy(rng.choice(len(data.kinds), config.reels, replace=False))
        anchors = data.anchors[pick].float()
        anchors = anchors + config.noise * float(rng.random()) * torch.randn(anchors.shape, generator=torch.Generator().manual_seed(run.step))
        edge = edge_loss(model.compressor.taa(anchors)[1], data.boundary[pick], data.blend[pick], config)
        anchors, names, target = known[int(rng.integers(len(known)))]
        parts = losses(*model.read(anchors), names, target, model.lexicon, settings)
        loss = edge + config.entry_weight * parts["delta"] + config.naming_weight * parts["naming"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(taa.parameters(), 1.0)
        optimizer.step()
        run.advance()
        if run.step % 50 == 0:
            run.log(edge=round(edge.item(), 4), **{k: round(v.item(), 4) for k, v in parts.items()})
            log(f"edges {run.step}/{config.steps} edge {edge.item():.4f} naming {parts['naming'].item():.3f} {run.elapsed:.0f}s")
        if run.step % 250 == 0 or run.step == config.steps:
            scores = evaluate(model, test)
            run.log(validation="reels", **scores)
            log(f"  held: {scores}")
    run.save()
