"""Frozen vision features of random shots, cached in shards so that training never waits for the encoder.

A shard is a pair of files: NNNN.npy, (shots, m, n, d_vision) float16, and NNNN.json, the truth about its frames. A
shard's content depends on its number and the recipe's seed alone, so making them may stop and go on at any time, and
several processes may share the work.
"""

import json
import multiprocessing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mambamia_cli.training import shards
from mambamia_cli.training.shards import PSEUDO_LABELS, STILLS_A_SHARD, through_x264, write_shard

SHOTS_A_SHARD = 64
FRAMES_A_SHOT = 8
REELS_A_SHARD, FRAMES_A_REEL = 16, 48


@dataclass(frozen=True)
class FeatureSet:
    """Cached shots: patches (shots, m, n, d_vision) float16 memory-mapped by shard, and the truth in arrays.

    names (shots, m, 2) indexes into `vocabulary`, -1 none; labels (shots, m, 2) ImageNet classes of frames without a
    drawing, -1 unknown; boundary, entry and distractor (shots, m) bool.
    """

    shards: list[np.ndarray]
    names: np.ndarray
    labels: np.ndarray
    boundary: np.ndarray
    entry: np.ndarray
    distractor: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def patches(self, i: int) -> np.ndarray:
        """-> (m, n, d_vision) float16 of shot `i`."""
        return self.shards[i // SHOTS_A_SHARD][i % SHOTS_A_SHARD]

    def halves(self) -> "tuple[FeatureSet, FeatureSet]":
        """Cut between shards: what aligns the compressor and what tunes the language model must differ, or the language
        model learns to trust tokens that were learned by heart."""
        k = max(1, len(self.shards) // 2)
        cut = k * SHOTS_A_SHARD
        arrays = (self.names, self.labels, self.boundary, self.entry, self.distractor)
        return FeatureSet(self.shards[:k], *(a[:cut] for a in arrays)), FeatureSet(self.shards[k:], *(a[cut:] for a in arrays))


def scale(frames: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 frames -> (m, *size, 3) by the scaler that the tool's decoder uses."""
    import av

    return np.stack([
        av.VideoFrame.from_ndarray(f, "rgb24").reformat(size[1], size[0], "rgb24", interpolation="BILINEAR").to_ndarray() for f in frames
    ])


@dataclass(frozen=True)
class StillSet:
    """Cached single frames: patches (f, n, d_vision) float16, names and labels (f, 2), distractor (f,),
    boxes (f, 4): the first drawing's left, top, right, bottom in fractions of the frame, nan without one."""

    shards: list[np.ndarray]
    names: np.ndarray
    labels: np.ndarray
    distractor: np.ndarray
    boxes: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def patches(self, i: int) -> np.ndarray:
        """-> (n, d_vision) float16 of frame `i`."""
        return self.shards[i // STILLS_A_SHARD][i % STILLS_A_SHARD]


@dataclass(frozen=True)
class ReelSet:
    """Cached stretches of edited video: patches (reels, m, n, d_vision) float16 by shard; boundary and blend (reels, m)
    bool as in reels.Reel.truth; kinds, a word a reel."""

    shards: list[np.ndarray]
    boundary: np.ndarray
    blend: np.ndarray
    kinds: list[str]

    def __len__(self) -> int:
        return len(self.kinds)

    def patches(self, i: int) -> np.ndarray:
        """-> (m, n, d_vision) float16 of reel `i`."""
        return self.shards[i // REELS_A_SHARD][i % REELS_A_SHARD]


def _reel_shard(number: int, stack, fonts, encoder, seed: int, folder: Path) -> None:
    import torch

    from mambamia_cli.training.reels import RATE, random_reel

    rng = np.random.default_rng((seed, 11, number))
    times = np.arange(FRAMES_A_REEL) / RATE + 1e-6
    patches, truth = [], []
    for _ in range(REELS_A_SHARD):
        reel = random_reel(stack, fonts, rng, FRAMES_A_REEL / RATE)
        frames = [reel.frame(t) for t in times]
        if rng.random() < 0.4:
            even = np.s_[: frames[0].shape[0] // 2 * 2, : frames[0].shape[1] // 2 * 2]
            frames = through_x264([np.ascontiguousarray(f[even]) for f in frames], int(rng.integers(18, 34)))
        pixels = torch.from_numpy(scale(frames, encoder.input_size)).permute(0, 3, 1, 2)  # (m, 3, H, W)
        patches.append(encoder.encode(pixels).to(torch.float16).numpy())
        boundary, blend = reel.truth(times)
        truth.append({"kind": reel.kind, "boundary": boundary.tolist(), "blend": blend.tolist()})
    write_shard(folder, number, np.stack(patches), truth)


def load_reels(folder: Path) -> ReelSet:
    """Every finished shard of reels."""
    shards, truth = [], []
    for path in sorted(folder.glob("[0-9]*[0-9].npy")):
        shards.append(np.load(path, mmap_mode="r"))
        truth += json.loads(path.with_suffix(".json").read_text())
    return ReelSet(shards, np.array([t["boundary"] for t in truth]), np.array([t["blend"] for t in truth]), [t["kind"] for t in truth])


def _box(track) -> list[float]:
    """A drawing's square in fractions of a 16:9 frame, rotation left aside."""
    tall, wide = track.height / 2, track.height / 2 * 9 / 16
    return [track.begin[0] - wide, track.begin[1] - tall, track.begin[0] + wide, track.begin[1] + tall]


def _still_shard(number: int, stack, encoder, vocabulary: dict[str, int], seed: int, folder: Path) -> None:
    from mambamia_cli.training.needles import random_still

    rng = np.random.default_rng((seed, 7, number))
    patches, truth = [], []
    for _ in range(STILLS_A_SHARD // 16):
        films = [random_still(stack, rng) for _ in range(16)]
        frames = [film.frame(0.5) for film in films]
        if rng.random() < 0.4:
            frames = through_x264([f[:224] for f in frames], int(rng.integers(18, 36)))
        grids, facts = shards.encoded(films, scale(frames, encoder.input_size), encoder, vocabulary, _box)
        patches.append(grids)
        truth += facts
    write_shard(folder, number, np.concatenate(patches), truth)


def _shard(number: int, stack, encoder, vocabulary: dict[str, int], seed: int, folder: Path) -> None:
    import torch

    from mambamia_cli.training.needles import random_shot

    rng = np.random.default_rng((seed, number))
    patches, truth = [], []
    for _ in range(SHOTS_A_SHARD):
        shot = random_shot(stack, rng, FRAMES_A_SHOT)
        frames = [shot.footage.frame(t) for t in shot.times]
        if rng.random() < 0.5:
            frames = through_x264(frames, int(rng.integers(18, 36)))
        pixels = torch.from_numpy(scale(frames, encoder.input_size)).permute(0, 3, 1, 2)  # (m, 3, H, W)
        grid, logits = encoder.encode_and_classify(pixels)  # (m, n, d_vision), (m, 1000)
        top = logits.softmax(-1).topk(PSEUDO_LABELS)
        patches.append(grid.to(torch.float16).numpy())
        truth.append({
            "names": [[vocabulary[n] for n in names] for names in shot.names],
            "boundary": list(map(bool, shot.boundary)),
            "entry": list(map(bool, shot.entry)),
            "distractor": [any(k.start <= t < k.end and not k.name for k in shot.footage.tracks) for t in shot.times],
            "classes": top.indices.tolist(),
            "scores": [[round(s, 4) for s in row] for row in top.values.tolist()],
        })
    write_shard(folder, number, np.stack(patches), truth)


# What a cache is made of: training material; held-out photographs with styles trained on; the same with a style never trained on.
# Stills are single frames of training material without line drawings, as shots are; views (training/views.py) windows of single frames as a second look takes them, with such drawings,
# reels stretches of edited video and of lectures.
KINDS = ("train", "stills", "seen", "unseen", "reels", "reels-held", "views", "views-seen", "views-unseen")
WITH_LINES = ("views", "views-seen")
HELD_KINDS = ("seen", "unseen", "reels-held", "views-seen", "views-unseen")


def folder_of(work: Path, kind: str) -> Path:
    return work / f"features-{kind}"


def _worker(work: Path, numbers: list[int], seed: int, kind: str) -> None:
    import cv2
    import torch

    from mambamia_cli.training import linework, photos, slides, styles, views
    from mambamia_cli.training.needles import Haystack
    from mambamia_cli.vision import load_encoder

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    held = kind in HELD_KINDS
    drawings, pictures = styles.load(work)
    clips = {} if kind.endswith("seen") else photos.load_clips(work)
    stack = Haystack(
        photos.load(work, validation=held), photos.continuous(clips) if kind.startswith("reels") else clips, drawings, pictures,
        only_styles=styles.HELD_OUT if kind.endswith("unseen") else None,
        exclude_styles=styles.HELD_OUT + (() if kind in WITH_LINES else linework.STYLES),
    )
    folder = folder_of(work, kind)
    vocabulary = {name: i for i, name in enumerate(sorted(styles.object_names()))}
    encoder = load_encoder("efficientnet-lite0", threads=1)
    fonts = slides.Fonts.load(work, validation=held) if kind.startswith("reels") else None
    for number in numbers:
        if (folder / f"{number:04d}.npy").exists():
            continue
        if fonts is not None:
            _reel_shard(number, stack, fonts, encoder, seed + held, folder)
        elif kind.startswith("views"):
            views.write_shard(number, stack, encoder, vocabulary, seed + held, folder)
        else:
            (_still_shard if kind == "stills" else _shard)(number, stack, encoder, vocabulary, seed, folder)


def make(work: Path, *, shards: int, seed: int, kind: str = "train", processes: int = 2) -> Path:
    """Fill the cache of a kind (KINDS) up to `shards`; returns its folder."""
    folder = folder_of(work, kind)
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_worker, args=(work, list(range(k, shards, processes)), seed, kind), daemon=True)
        for k in range(processes)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        if worker.exitcode != 0:
            raise RuntimeError(f"a feature worker ended with code {worker.exitcode}")
    return folder


def load(folder: Path, *, confident: float = 0.3) -> FeatureSet:
    """Every finished shard of a folder. Pseudo-labels under `confident` are dropped."""
    shards, names, labels, boundary, entry, odd_ones = [], [], [], [], [], []
    for path in sorted(folder.glob("[0-9]*[0-9].npy")):
        shards.append(np.load(path, mmap_mode="r"))
        for shot in json.loads(path.with_suffix(".json").read_text()):
            names.append([(row + [-1, -1])[:2] for row in shot["names"]])
            labels.append([
                [c if s >= cut and not on and not odd else -1 for c, s, cut in zip(cs, ss, (confident, confident / 2))]
                for cs, ss, on, odd in zip(shot["classes"], shot["scores"], shot["names"], shot["distractor"], strict=True)
            ])
            boundary.append(shot["boundary"])
            entry.append(shot["entry"])
            odd_ones.append(shot["distractor"])
    return FeatureSet(shards, *map(np.array, (names, labels, boundary, entry, odd_ones)))


def load_stills(folder: Path, *, confident: float = 0.3) -> StillSet:
    """Every finished shard of stills."""
    shards, names, labels, odd, boxes = [], [], [], [], []
    for path in sorted(folder.glob("[0-9]*[0-9].npy")):
        shards.append(np.load(path, mmap_mode="r"))
        for frame in json.loads(path.with_suffix(".json").read_text()):
            names.append((frame["names"] + [-1, -1])[:2])
            bare = not frame["names"] and not frame["distractor"]
            labels.append([c if bare and s >= cut else -1 for c, s, cut in zip(frame["classes"], frame["scores"], (confident, confident / 2))])
            odd.append(frame["distractor"])
            boxes.append(frame["box"] or [np.nan] * 4)
    return StillSet(shards, np.array(names), np.array(labels), np.array(odd), np.array(boxes, np.float32))
