"""What all kinds of training material share: how much a shard holds, what it has been through, how it is written."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

PSEUDO_LABELS = 3  # ImageNet classes kept of a frame
STILLS_A_SHARD = 512


def through_x264(frames: list[np.ndarray], crf: int) -> list[np.ndarray]:
    """Encode frames (H, W, 3) uint8 with libx264 at `crf` and decode them again: what real input has been through."""
    import io

    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as out:
        stream = out.add_stream("libx264", rate=4, options={"crf": str(crf), "preset": "superfast"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        out.mux(stream.encode())
    buffer.seek(0)
    with av.open(buffer) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def encoded(films: Sequence[Any], pixels: np.ndarray, encoder: Any, vocabulary: dict[str, int],
            box: Callable[[Any], list[float]]) -> tuple[np.ndarray, list[dict]]:  # fmt: skip
    """Single frames of films, pixels (m, H, W, 3) uint8 -> patches (m, n, d_vision) float16 and the truth about each. box: of a
    drawing's track, in fractions of the picture."""
    import torch

    patches, logits = encoder.encode_and_classify(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    top, truth = logits.softmax(-1).topk(PSEUDO_LABELS), []
    for film, classes, scores in zip(films, top.indices.tolist(), top.values.tolist(), strict=True):
        on = sorted((k for k in film.tracks if k.name), key=lambda k: -k.height)
        truth.append({"names": [vocabulary[k.name] for k in on], "distractor": any(not k.name for k in film.tracks),
                      "box": box(on[0]) if on else None, "classes": classes, "scores": [round(s, 4) for s in scores]})  # fmt: skip
    return patches.to(torch.float16).numpy(), truth


def write_shard(folder: Path, number: int, patches: np.ndarray, truth: list[dict]) -> None:
    """The truth first, then the array renamed into place: an array that exists is a whole shard."""
    np.save(folder / f"{number:04d}.tmp.npy", patches)
    (folder / f"{number:04d}.json").write_text(json.dumps(truth))
    (folder / f"{number:04d}.tmp.npy").rename(folder / f"{number:04d}.npy")
