"""Copies with chapters: chapters exactly at the frames, streams bit for bit, nothing lost that can be kept."""

import hashlib
import json
import shutil
import subprocess
from fractions import Fraction
from itertools import pairwise

import av
import pytest
from fixtures import videos

from mambamia_cli.errors import InputError, UsageError
from mambamia_cli.video.container import open_container
from mambamia_cli.video.probe import probe
from mambamia_cli.video.remux import Chapter, copy_with_chapters

NASTY = 'a=b; #c\\ "d"\né 漢字 <e>'


def chapters_at(truth, names=None):
    """A chapter for each segment of a made video."""
    edges = [Fraction(0), *truth.cuts, truth.times[-1] + 1 / truth.fps]
    return [Chapter(a, b, names[n] if names else f"Scene {n + 1}") for n, (a, b) in enumerate(pairwise(edges))]


def copy(source, target, chapters):
    with open(target, "wb+") as file:
        return copy_with_chapters(source, file, target.suffix, chapters)


def read_chapters(path) -> list[tuple[Fraction, Fraction, str]]:
    """(start, end, title), as libav reads them from the file, on the container's clock."""
    with av.open(str(path)) as container:
        return [(c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"]["title"]) for c in container.chapters()]


def packets(path) -> dict[int, str]:
    """A checksum of each stream's coded bytes, data streams left out."""
    sums: dict[int, hashlib._Hash] = {}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.size and packet.stream.type in ("video", "audio", "subtitle"):
                sums.setdefault(packet.stream.index, hashlib.sha256()).update(bytes(packet))
    return {index: one.hexdigest() for index, one in sums.items()}


def frame_times(path) -> list[Fraction]:
    """Presentation times of all frames, on the container's clock."""
    with open_container(path) as container:
        return [frame.pts * frame.time_base for frame in container.decode(container.streams.video[0])]


@pytest.fixture(scope="module")
def rich(made):
    """Matroska with a picture, two languages of sound, subtitles, a font, titles; priming puts its first sound before the picture."""
    path = made / "rich.mkv"
    sound = {"rate": 48000, "layout": "stereo"}
    with av.open(str(path), "w", options={}) as out:
        out.metadata["title"] = 'A "title"; =x'
        picture = out.add_stream("libx264", rate=25)
        picture.width, picture.height, picture.pix_fmt = 128, 96, "yuv420p"
        tracks = [out.add_stream("aac", **sound), out.add_stream("aac", **sound)]
        for track, language in zip(tracks, ("deu", "fra"), strict=True):
            track.metadata["language"] = language
        tracks[0].disposition, tracks[1].disposition = 0, av.stream.Disposition.default
        out.add_attachment("font.ttf", "application/x-truetype-font", b"FONT" * 64)
        for track in tracks:
            videos_silence(out, track)
        for i in range(75):
            frame = av.VideoFrame.from_ndarray(videos.draw(videos.RED, (96, 128), i), "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            out.mux(picture.encode(frame))
        out.mux(picture.encode(None))
    return path


def videos_silence(container, stream):
    import numpy as np

    for i in range(140):
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, i * 1024, Fraction(1, 48000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


@pytest.mark.parametrize("ending", [".mkv", ".mp4", ".mov", ".m4v"])
@pytest.mark.parametrize("fixture", ["three_cuts", "vfr", "late_start", "rotated", "ntsc"])
def test_chapters_begin_at_the_frames_of_the_markers(request, tmp_path, made, ending, fixture):
    if fixture == "ntsc":
        truth = videos.write_video(made / f"ntsc{ending}.mp4", fps=Fraction(30000, 1001), audio=True)
    else:
        truth = request.getfixturevalue(fixture)
    names = [NASTY, *(f"Scene {n}" for n in range(2, len(truth.cuts) + 2))]
    target = tmp_path / f"out{ending}"
    assert copy(truth.path, target, chapters_at(truth, names)) == []
    found, shown = read_chapters(target), frame_times(target)
    assert [title for *_, title in found] == names
    for (start, _, _), cut in zip(found[1:], truth.cuts, strict=True):
        frame = shown[truth.times.index(cut)]
        # An mp4 keeps chapters in milliseconds, Matroska its frames.
        assert abs(start - frame) <= Fraction(1, 1000), (float(start), float(frame))
    assert packets(target) == packets(truth.path) and len(shown) == truth.frames
    assert (probe(target).rotation, probe(target).width) == (probe(truth.path).rotation, probe(truth.path).width)
    steps = [b - a for a, b in pairwise(truth.times)]
    assert all(abs((b - a) - step) <= Fraction(1, 1000) for (a, b), step in zip(pairwise(shown), steps, strict=True))


def test_ffprobe_reads_the_chapters_as_libav_does(tmp_path, three_cuts):
    target = tmp_path / "out.mkv"
    copy(three_cuts.path, target, chapters_at(three_cuts, [NASTY, "b", "c", "d"]))
    expected = [(0.0, NASTY), (2.0, "b"), (4.4, "c"), (6.0, "d")]
    assert [(float(start), title) for start, _, title in read_chapters(target)] == expected
    if (ffprobe := shutil.which("ffprobe")) is not None:
        done = subprocess.run([ffprobe, "-v", "error", "-show_chapters", "-of", "json", str(target)], capture_output=True, text=True, check=True)
        assert [(float(one["start_time"]), one["tags"]["title"]) for one in json.loads(done.stdout)["chapters"]] == expected


def test_all_streams_and_what_is_said_of_them_are_kept(rich, tmp_path):
    target = tmp_path / "out.mkv"
    assert copy(rich, target, [Chapter(Fraction(0), Fraction(3), "all")]) == []
    assert packets(target) == packets(rich)
    with av.open(str(rich)) as before, av.open(str(target)) as after:
        assert after.metadata["title"] == before.metadata["title"] == 'A "title"; =x'
        for a, b in zip(before.streams, after.streams, strict=True):
            assert (a.type, a.disposition, a.metadata.get("language")) == (b.type, b.disposition, b.metadata.get("language"))
        assert [bytes(s.data) for s in after.streams if s.type == "attachment"] == [b"FONT" * 64]
    assert [start for start, *_ in read_chapters(target)] == [frame_times(target)[0]]  # late by the sound's priming


def test_old_chapters_are_replaced(three_cuts, tmp_path):
    once, twice = tmp_path / "a.mp4", tmp_path / "b.mp4"
    copy(three_cuts.path, once, chapters_at(three_cuts))
    assert copy(once, twice, [Chapter(Fraction(0), Fraction(5), "one"), Chapter(Fraction(5), Fraction(8), "two")]) == []
    assert [(float(start), title) for start, _, title in read_chapters(twice)] == [(0.0, "one"), (5.0, "two")]
    assert packets(twice) == packets(three_cuts.path)


def test_more_chapters_than_an_mp4_lists_for_old_players(three_cuts, tmp_path):
    many = [Chapter(Fraction(n, 50), Fraction(n + 1, 50), f"{n}") for n in range(300)]
    assert "255 chapters" in copy(three_cuts.path, tmp_path / "a.mp4", many)[0]
    assert copy(three_cuts.path, tmp_path / "a.mkv", many) == []
    assert len(read_chapters(tmp_path / "a.mp4")) >= 255 and len(read_chapters(tmp_path / "a.mkv")) == 300


def test_a_container_that_cannot_hold_the_streams_is_refused(made, tmp_path):
    truth = videos.write_video(made / "old.avi", codec="mjpeg", pix_fmt="yuvj420p")
    with pytest.raises(UsageError, match=r"a file \.webm cannot hold the streams of .*old.avi as they are"):
        copy(truth.path, tmp_path / "a.webm", chapters_at(truth))
    assert copy(truth.path, tmp_path / "a.mkv", chapters_at(truth)) == [] and len(read_chapters(tmp_path / "a.mkv")) == 3


def test_what_is_no_video_is_refused(text_named_mp4, tmp_path):
    with pytest.raises(InputError):
        copy(text_named_mp4, tmp_path / "a.mkv", [])
