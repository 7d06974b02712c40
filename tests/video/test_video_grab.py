"""Frames grabbed at times are the frames that sampling at those times takes."""

from fractions import Fraction

import numpy as np
import pytest
from fixtures import videos

from mambamia_cli.errors import InputError
from mambamia_cli.video import grab as grab_module
from mambamia_cli.video.container import open_container
from mambamia_cli.video.decode import open_frames
from mambamia_cli.video.grab import frames_at, grab, grab_in
from mambamia_cli.video.probe import probe
from mambamia_cli.video.sample import SampleSpec


def test_frames_on_screen_in_any_order(numbered):
    times = [Fraction("3.98"), 0.0, 1.5, 1.48, Fraction("0.04"), 0.0799, 77.0, 2]
    pictures = grab(numbered.path, times, (48, 64))
    assert pictures.shape == (8, 48, 64, 3)
    assert [videos.read_number(p) for p in pictures] == [99, 0, 37, 37, 1, 1, 99, 50]


def test_same_as_sampling(bikes):
    with open_frames(bikes, SampleSpec(fps=Fraction(1, 2), size=(68, 160))) as stream:
        chunks = list(stream)
    times = [float(t) for chunk in chunks for t in chunk.times]  # floats, as a record carries them
    sampled = np.concatenate([chunk.frames for chunk in chunks])
    assert np.array_equal(grab(bikes, times[::-1], (68, 160))[::-1], sampled)


def test_variable_rate_rotation_and_late_start(vfr, rotated, late_start):
    assert videos.read_number(grab(vfr.path, [2.5])[0]) == 24
    assert grab(rotated.path, [0.5]).shape == (1, 128, 96, 3)
    assert [videos.read_number(p) for p in grab(late_start.path, [0, 1, 2.99])] == [0, 25, 74]


def test_many_places_of_a_file_are_reached_through_one_container(numbered, monkeypatch):
    from mambamia_cli.video import grab as room
    from mambamia_cli.video import reader

    opened = []
    monkeypatch.setattr(room, "_NEAR", Fraction(0))  # every time is sought anew
    monkeypatch.setattr(room, "open_container", lambda path: opened.append(path) or open_container(path))
    monkeypatch.setattr(reader, "open_container", lambda path: opened.append(path) or open_container(path))
    times = [Fraction(k, 25) for k in (5, 30, 31, 60, 95, 99)]  # 0.2 s is before the first keyframe that can be sought
    assert [videos.read_number(p) for p in grab(numbered.path, [*times, 77], (48, 64))] == [5, 30, 31, 60, 95, 99, 99]
    assert len(opened) == 1


def test_any_frame_since_a_time_is_mostly_a_keyframe(numbered):
    """Keyframes are 12 frames apart: the one at or before the time does where it is late enough."""
    info, at = probe(numbered.path), Fraction(1, 25)
    times, since = [8 * at, 30 * at, 45 * at, 70 * at], [0.0, 24 / 25, 40 / 25, float(60 * at)]
    found = {i: videos.read_number(picture) for i, picture in frames_at(info, times, (48, 64), since=since)}
    assert found == {0: 0, 1: 24, 2: 40, 3: 60}


def test_no_times_and_no_video(numbered, audio_only):
    assert grab(numbered.path, [], (8, 8)).shape == (0, 8, 8, 3)
    with pytest.raises(InputError, match="sound but no video"):
        grab(audio_only, [0])


def test_several_sizes_of_one_decoding_are_those_of_several(bikes, monkeypatch):
    times, sizes, walks = [3.2, 0.4, 9.96], [(68, 160), None, (34, 80)], []
    alone = [grab(bikes, times, size) for size in sizes]
    walked = grab_module._walked
    monkeypatch.setattr(grab_module, "_walked", lambda *parts: walks.append(parts) or walked(*parts))
    for one, together in zip(alone, grab_in(bikes, times, sizes), strict=True):
        assert np.array_equal(one, together)
    assert len(walks) == 1
