"""`scenes --plot --report --thumbs`: files whole or not at all, refused before any work where they cannot be."""

import json
import re
from dataclasses import replace

import pytest
from fixtures.records import scenes_record
from fixtures.videos import lower_color
from PIL import Image

from mambamia_cli.cli.console import Console
from mambamia_cli.cli.pictures import Pictures, local_video
from mambamia_cli.errors import OutputError, UsageError


@pytest.fixture
def scenes(mambamia, tiny_model):
    """The `scenes` command on the tiny model, marking many scenes."""
    return lambda *argv: mambamia("scenes", *argv, "-m", tiny_model, "--threshold", "0.01", "--no-refine")


def test_all_three_from_one_run(scenes, three_cuts, tmp_path):
    import numpy as np

    ran = scenes(three_cuts.path, "--json", "--plot", tmp_path / "p.png", "--report", tmp_path / "r.html", "--thumbs", tmp_path / "a" / "b")
    assert (ran.code, ran.err) == (0, "")
    found = json.loads(ran.out)["scenes"]
    assert len(found) > 2
    files = sorted(path.name for path in (tmp_path / "a" / "b").iterdir())
    assert files == [f"three_cuts-scene-{n:03d}.jpg" for n in range(1, len(found) + 1)]
    for scene, name in zip(found, files, strict=True):
        inside = scene["start"] + min(1, (scene["end"] - scene["start"]) / 3)
        picture = np.asarray(Image.open(tmp_path / "a" / "b" / name).convert("RGB"))
        wanted = three_cuts.colors[max(i for i, t in enumerate(three_cuts.times) if t <= inside + 1e-6)]
        assert picture.shape == (96, 128, 3) and np.abs(np.subtract(lower_color(picture), wanted)).max() < 30
    assert Image.open(tmp_path / "p.png").format == "PNG"
    page = (tmp_path / "r.html").read_text("utf-8")
    thumbs = json.loads(re.search(r'id="thumbs">(.*?)</script>', page)[1])
    assert len(thumbs) == len(found) and all(thumbs) and "three_cuts.mp4" in page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "p.png", "r.html"]  # nothing half-written stays


def test_refused_before_any_work(scenes, three_cuts, numbered, tmp_path):
    video = three_cuts.path
    (tmp_path / "file").write_text("x")
    for argv, words in (
        ((video, numbered.path, "--report", tmp_path / "a.html"), "--report draws one video"),
        ((video, "--report", tmp_path / "a.pdf"), "neither .html nor .htm"),
        ((video, "--plot", tmp_path / "a.jpg"), "neither .png nor .svg"),
        ((video, "--report", tmp_path / "gone" / "a.html"), "its folder does not exist"),
        ((video, "--thumbs", tmp_path / "file"), "is not a folder"),
        ((video, "--thumbs", tmp_path / "file" / "x"), "cannot make"),
        ((video, "--report", tmp_path / "a.html", "-o", tmp_path / "a.html"), "where another result goes"),
    ):
        ran = scenes(*argv)
        assert ran.code == 2 and words in ran.one_sentence() and ran.out == "", argv
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_picture_that_fails_does_not_cost_the_record(scenes, three_cuts, tmp_path, monkeypatch):
    from mambamia_cli.cli import pictures

    def full(path, data):
        raise OutputError(f"cannot write {path}: no space left")

    monkeypatch.setattr(pictures, "write_atomic", full)
    ran = scenes(three_cuts.path, "--plot", tmp_path / "p.png", "-o", tmp_path / "out.txt")
    assert ran.code == 2 and "no space left" in ran.one_sentence()
    assert (tmp_path / "out.txt").read_text().startswith("three_cuts.mp4")


def test_two_videos_of_one_name_would_overwrite_each_others_pictures(tmp_path):
    with pytest.raises(UsageError, match="same names"):
        Pictures(thumbs=str(tmp_path)).check(["a/x.mp4", "b/x.mkv"])
    Pictures(thumbs=str(tmp_path)).check(["a/x.mp4", "b/y.mkv", "a/x.mp4"])


def test_of_several_videos_each_has_its_pictures(scenes, three_cuts, numbered, tmp_path):
    assert scenes(three_cuts.path, numbered.path, "--thumbs", tmp_path).code == 0
    assert {path.name.split("-scene-")[0] for path in tmp_path.iterdir()} == {"three_cuts", "numbered"}


def test_a_record_alone_is_drawn_without_pictures(tmp_path):
    record = scenes_record("nowhere.mp4", [2.0], 4.0)
    assert local_video(record) is None
    Pictures(plot=str(tmp_path / "p.svg"), report=str(tmp_path / "r.html")).write(record, None, Console())
    assert "<image" not in (tmp_path / "p.svg").read_text()
    assert 'id="thumbs">[]<' in (tmp_path / "r.html").read_text()
    with pytest.raises(UsageError, match="needs the video"):
        Pictures(thumbs=str(tmp_path)).write(record, None, Console())


def test_the_video_of_a_record_is_found_where_it_still_is(numbered):
    record = scenes_record(numbered.path, [2.0], 4.0)
    assert local_video(record) == numbered.path
    for source in ("https://example.org/a.mp4", "x" * 5000, "a\x00b", str(numbered.path.parent)):
        assert local_video(replace(record, video=replace(record.video, source=source))) is None


def test_a_folder_that_fills_up_leaves_whole_files_only(numbered, tmp_path, monkeypatch):
    from mambamia_cli.cli import pictures

    real, written = pictures.write_atomic, []

    def full(path, data):
        written.append(path)
        if len(written) == 3:
            raise OutputError(f"cannot write {path}: no space left")
        real(path, data)

    monkeypatch.setattr(pictures, "write_atomic", full)
    record = scenes_record(numbered.path, [1, 2, 3], 4.0)
    with pytest.raises(OutputError):
        Pictures(thumbs=str(tmp_path)).write(record, numbered.path, Console())
    assert [Image.open(p).size for p in sorted(tmp_path.iterdir())] == [(128, 96)] * 2
