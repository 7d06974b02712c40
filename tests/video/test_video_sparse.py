"""Leaving frames undecoded gives the very frames that decoding every one gives."""

from fractions import Fraction

import numpy as np
import pytest
from fixtures import videos

from mambamia_cli.video import container, decode, reader, sparse
from mambamia_cli.video.decode import open_frames
from mambamia_cli.video.sample import SampleSpec


def read(path, spec):
    with open_frames(path, spec) as stream:
        chunks = list(stream)
    return np.concatenate([c.frames for c in chunks]), sum((c.times for c in chunks), ()), stream.stats


def read_densely(path, spec, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(decode, "pays", lambda *_: False)
        return read(path, spec)


KINDS = {
    "short groups": {"gop": 10},
    "long groups": {"gop": 250},
    "one group a frame": {"gop": 1},
    "open groups": {"options": {"x264-params": "open-gop=1:keyint=20:min-keyint=20:bframes=3:b-pyramid=normal"}},
    "intra refresh": {"options": {"x264-params": "intra-refresh=1:keyint=20"}},
    "hevc, open groups": {
        "codec": "libx265",
        "options": {"x265-params": "open-gop=1:keyint=20:min-keyint=20:bframes=4:log-level=none"},
    },
    "vp9": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}, "gop": 20},
    "av1": {"codec": "libsvtav1", "options": {"preset": "12", "svtav1-params": "keyint=20"}},
    "late, variable": {"pts": [i * 40 + (i // 7) * 90 for i in range(120)], "start": 5, "gop": 15},
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    made = {}

    def make(kind, suffix):
        if (kind, suffix) not in made:
            path = tmp_path_factory.mktemp("sparse") / f"clip.{suffix}"
            segments = ((videos.RED, 2), (videos.BLUE, Fraction("2.8")))
            made[kind, suffix] = videos.write_video(path, segments, numbered=True, textured=True, **KINDS[kind])
        return made[kind, suffix]

    return make


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("kind", KINDS)
def test_same_frames_and_times(kind, suffix, clip, monkeypatch):
    path = clip(kind, suffix).path
    for spec in (
        SampleSpec(fps=1),
        SampleSpec(fps=Fraction(7, 2)),
        SampleSpec(fps=7, start=Fraction("1.13"), end=Fraction("3.9")),
        SampleSpec(fps=None, max_frames=3),
        SampleSpec(fps=2, start=Fraction("4.5")),
    ):
        frames, times, stats = read(path, spec)
        expected, expected_times, dense = read_densely(path, spec, monkeypatch)
        assert times == expected_times
        assert np.array_equal(frames, expected)
        assert (stats.sampled, stats.capped, stats.max_gap) == (dense.sampled, dense.capped, dense.max_gap)
        if spec.end is None and spec.max_frames is None:
            assert stats.duration == dense.duration


def test_it_does_leave_frames_undecoded(clip, monkeypatch):
    def forbidden(*_):
        raise AssertionError("fell back to decoding every frame")

    monkeypatch.setattr(decode, "frames_from", forbidden)
    for kind in ("short groups", "hevc, open groups"):
        _, times, stats = read(clip(kind, "mp4").path, SampleSpec(fps=1))
        assert len(times) == 5 and stats.decoded < 60  # of 120
        # wanted frames that are shown before their group's keyframe, which an open group has
        _, times, stats = read(clip(kind, "mp4").path, SampleSpec(fps=5))
        assert len(times) == 24 and stats.decoded < 110
    _, _, stats = read(clip("one group a frame", "mp4").path, SampleSpec(fps=1))
    assert stats.decoded == 5


def test_real_clips(bikes, bigbuckbunny, monkeypatch):
    for path in (bikes, bigbuckbunny):
        for spec in (SampleSpec(fps=4, size=(224, 224)), SampleSpec(fps=None, max_frames=5, size=(64, 64))):
            frames, times, stats = read(path, spec)
            expected, expected_times, dense = read_densely(path, spec, monkeypatch)
            assert times == expected_times and np.array_equal(frames, expected)
            assert stats.decoded <= dense.decoded - 40 * (path == bikes)  # the other clip has one group and no B-frame


@pytest.mark.parametrize("at", [0.3, 0.6, 0.9])
def test_damage_makes_it_decode_everything_and_agree(at, clip, monkeypatch, tmp_path):
    # With libav's frame threads it is chance whether a picture that refers to a damaged one comes out.
    for module in (reader, sparse):
        monkeypatch.setattr(module, "prepare", lambda stream, *_: container.prepare(stream, "NONE"))
    data = bytearray(clip("long groups", "mkv").path.read_bytes())
    where = int(len(data) * at)
    data[where : where + 400] = b"\x55" * 400
    path = tmp_path / "damaged.mkv"
    path.write_bytes(bytes(data))
    for spec in (SampleSpec(fps=5), SampleSpec(fps=1)):
        frames, times, _ = read(path, spec)
        expected, expected_times, _ = read_densely(path, spec, monkeypatch)
        assert times == expected_times and np.array_equal(frames, expected)


def test_damaged_pictures_are_left_out_and_counted(clip, tmp_path):
    truth = clip("long groups", "mp4")
    data = bytearray(truth.path.read_bytes())
    where = len(data) // 2
    data[where : where + 400] = b"\x55" * 400
    path = tmp_path / "damaged.mp4"
    path.write_bytes(bytes(data))
    _, times, stats = read(path, SampleSpec(fps=None))
    assert stats.corrupt_packets > 0 and len(times) < truth.frames == 120
    assert set(times) <= set(truth.times) and stats.decoded >= len(times)


def test_truncated(truncated, monkeypatch):
    frames, times, stats = read(truncated.path, SampleSpec(fps=5))
    expected, expected_times, dense = read_densely(truncated.path, SampleSpec(fps=5), monkeypatch)
    assert stats.truncated and dense.truncated
    assert times == expected_times and np.array_equal(frames, expected)


def test_a_group_too_large_to_hold_is_decoded_through(clip, monkeypatch):
    path = clip("long groups", "mp4").path
    whole = read(path, SampleSpec(fps=2))
    monkeypatch.setattr(sparse, "_MOST_PACKETS", 50)
    again = read(path, SampleSpec(fps=2))
    assert whole[1] == again[1] and np.array_equal(whole[0], again[0])
