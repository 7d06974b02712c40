"""`mambamia bench` on small sizes: what it reports is what was measured, and bad input fails as everywhere."""

import json
from itertools import pairwise

import pytest

from mambamia_cli.bench import decode, report
from mambamia_cli.video.probe import probe


@pytest.fixture
def small(monkeypatch):
    """The film that is made, and what is repeated, cut down."""
    monkeypatch.setattr(report, "CLIP_SECONDS", 11)
    monkeypatch.setattr(report, "CLIP_SIZE", (96, 128))
    monkeypatch.setattr(report, "ENCODE_FRAMES", 2)
    monkeypatch.setattr(report, "ENCODE_REPEATS", 1)
    monkeypatch.setattr("mambamia_cli.bench.scan.DEFAULT_SHAPE", {"b": 1, "l": 70, "h": 2, "p": 8, "s": 4})


def test_decode_reports_the_speeds_it_measured(mambamia, three_cuts, monkeypatch):
    measured, speed_of = [], decode.decode_speed

    def note(path, *, fps):
        measured.append((path, fps, speed_of(path, fps=fps)))
        return measured[-1][2]

    monkeypatch.setattr(decode, "decode_speed", note)
    ran = mambamia("bench", "decode", "--video", three_cuts.path, "--json")
    assert (ran.code, ran.err) == (0, "")
    found = json.loads(ran.out)
    assert list(found["sections"]) == ["decode"] and found["conditions"]["video"] == "h264 128x96 at 25 frames/s"
    assert [(path, fps) for path, fps, _ in measured] == [(three_cuts.path, fps) for fps in (None, 4, 1)]
    assert [speed.sampled for *_, speed in measured] == [200, 32, 8]
    for row, (*_, speed) in zip(found["sections"]["decode"]["rows"], measured, strict=True):
        assert (row["value"], row["unit"]) == (pytest.approx(200 / speed.seconds, rel=1e-3), "frames/s")
    assert found["memory_mib"] and all(mib > 50 for mib in found["memory_mib"].values())


def test_decode_makes_its_film_and_shows_a_table(mambamia, small, tmp_path):
    ran = mambamia("bench", "decode", "-o", tmp_path / "bench.txt")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    lines = (tmp_path / "bench.txt").read_text().splitlines()
    assert lines[0].endswith("video made: 11 s of h264 128x96 at 25 frames/s") and lines[2] == "decode:"
    labels = ("every frame", "4 frames a second sampled", "1 frame a second sampled")
    for line, label in zip(lines[3:6], labels, strict=True):
        assert label in line and line.endswith(" frames/s") and float(line.split()[-2]) > 0
    assert lines[-1].endswith(" MiB")


def test_the_film_moves_and_has_a_cut_every_five_seconds(small, tmp_path):
    from mambamia_cli.video.grab import grab

    path = report.write_clip(tmp_path / "clip.mp4")
    assert (probe(path).duration, probe(path).fps) == (11, 25)
    frames = grab(path, [4.0, 4.88, 4.96, 5.0, 5.04, 9.96, 10.0], (96, 128)).astype(float)
    changes = [abs(b - a).mean() for a, b in pairwise(frames)]
    assert changes[0] > 20  # it drifts by its whole width in a second or two
    assert min(changes[2], changes[5]) > 1.5 * max(changes[1], changes[3])


def test_all_at_once(mambamia, small, tiny_model, monkeypatch):
    monkeypatch.setattr("mambamia_cli.bench.language.VARIANTS", (("fast", "fp32"), ("fast", "int8")))
    ran = mambamia("bench", "-m", tiny_model, "--json")
    assert ran.code == 0
    found = json.loads(ran.out)
    assert list(found["sections"]) == ["decode", "encode", "scan", "language"]
    rows = found["sections"]["encode"]["rows"]
    assert all(row["value"] > 0 for row in rows)
    frames, times_real = (row["value"] for row in rows[-2:])
    assert times_real == pytest.approx(frames / 4, rel=0.01)  # four frames make a second of video
    assert [row["quant"] for row in found["sections"]["language"]["rows"]] == ["fp32", "int8"]
    text = report.to_text(found)
    assert all(word in text for word in ("decode:", "encode:", "scan of", "tokens/s", "MiB"))


def test_bad_input_is_one_sentence_and_leaves_nothing(mambamia, empty_file, tmp_path):
    for video, code in ((empty_file, 3), (tmp_path / "none.mp4", 3)):
        ran = mambamia("bench", "decode", "--video", video, "-o", tmp_path / "out.txt")
        assert (ran.code, ran.out) == (code, "") and ran.one_sentence()
    assert list(tmp_path.iterdir()) == []
