"""Frames grabbed at times are the frames that sampling at those times takes."""

from fractions import Fraction

import numpy as np
import pytest
from fixtures import videos

from mambamia_cli.errors import InputError
from mambamia_cli.video.decode import open_frames
from mambamia_cli.video.grab import grab
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


def test_no_times_and_no_video(numbered, audio_only):
    assert grab(numbered.path, [], (8, 8)).shape == (0, 8, 8, 3)
    with pytest.raises(InputError, match="sound but no video"):
        grab(audio_only, [0])
