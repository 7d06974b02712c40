"""Videos with known boundaries, as files: what `bench scenes` measures on. Made of material that training never sees."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mambamia_cli.training import reels

FPS = 25
FILM_SECONDS, LECTURE_SECONDS = 150.0, 240.0
NAMES = ("cuts", "mixed-1", "mixed-2", "lecture-1", "lecture-2")
MIXED = {"cut": 0.45, "dissolve": 0.33, "fade": 0.22}


@dataclass(frozen=True)
class Marked:
    """A video and where its scenes change: (start, end) in seconds of each transition, start = end for a cut."""

    name: str
    path: Path
    fps: float
    boundaries: tuple[tuple[float, float], ...]


def make(work: Path, folder: Path, *, seed: int = 7, log=lambda text: None) -> list[Marked]:
    """The set of `seed` in `folder`, made where it is not there yet. `work`: the training's folder, for its packages.

    One film of hard cuts, two of cuts, dissolves and fades, two lectures of slides with bullets and a speaker.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not is_made(folder):
        from mambamia_cli.training import photos, reels, slides
        from mambamia_cli.training.compose import SIZE
        from mambamia_cli.training.needles import Haystack

        held = photos.load(work, validation=True)
        stack = Haystack(held, photos.continuous(photos.load_clips(work)), [], {})
        fonts = slides.Fonts.load(work, validation=True)
        for k, name in enumerate(NAMES):
            rng = np.random.default_rng((seed, 31, k))
            if name.startswith("lecture"):
                seconds = LECTURE_SECONDS
                reel = reels.lecture(fonts, stack.photos, stack.clips, rng, seconds, hold=(5.0, 25.0), head=1.0, screens=0.0)
            else:
                seconds = FILM_SECONDS
                kinds = {"cut": 1.0} if name == "cuts" else MIXED
                reel = reels.film(stack, rng, seconds, kinds=kinds, shot=(1.0, 8.0), size=SIZE, disturb=False)
            if not (folder / f"{name}.json").exists():
                write(reel, seconds, folder / f"{name}.mp4")
                log(f"made {name}.mp4 with {len(reel.boundaries)} boundaries")
    return [read(folder / f"{name}.mp4") for name in NAMES]


def is_made(folder: Path) -> bool:
    """Whether all videos of a set are there, whole."""
    return all((folder / f"{name}.json").exists() for name in NAMES)


def write(reel: "reels.Reel", seconds: float, path: Path) -> None:
    """Encode as H.264 in MP4; the truth, written last, says that the video is whole."""
    import av

    from mambamia_cli.training.compose import SIZE

    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS, options={"crf": "23", "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for i in range(int(seconds * FPS)):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(reel.frame(i / FPS + 1e-6), "rgb24")))
        out.mux(stream.encode())
    # A cut at t shows first in the first frame at or after t.
    edges = [(b.start, b.end) if b.end > b.start else (np.ceil(b.start * FPS - 1e-3) / FPS,) * 2 for b in reel.boundaries]
    path.with_suffix(".json").write_text(json.dumps({"fps": FPS, "boundaries": [[float(a), float(b)] for a, b in edges]}))


def read(path: Path) -> Marked:
    truth = json.loads(path.with_suffix(".json").read_text())
    return Marked(path.stem, path, truth["fps"], tuple((a, b) for a, b in truth["boundaries"]))


if __name__ == "__main__":
    import sys

    make(Path(sys.argv[1]), Path(sys.argv[2]), seed=int(sys.argv[3]))
