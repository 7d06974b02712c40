"""Frames to pictures: what a coarse one may leave out."""

import av
import numpy as np
import pytest

from mambamia_cli.video.scale import MANY, Scaler

UPRIGHT = (False, False, False)


def frame_of(picture, pix_fmt="yuv420p"):
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24").reformat(format=pix_fmt)


def scaled(frame, size, **options):
    out = np.empty((*size, 3), np.uint8)
    Scaler(size, options.pop("orientation", UPRIGHT), **options).into(frame, out)
    return out.astype(int)


def smooth(high, wide):
    """A picture without detail that a small one would lose."""
    y, x = np.mgrid[:high, :wide] / (high, wide)[0]
    return np.stack([60 + 120 * y / y.max(), 200 - 100 * x / x.max(), 90 + 40 * np.sin(3 * x + 2 * y)], -1).astype(np.uint8)


@pytest.mark.parametrize("high, wide", [(720, 1280), (721, 1283), (360, 640), (96, 128)])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le", "rgb24"])
def test_a_coarse_picture_shows_the_same(high, wide, pix_fmt):
    frame = frame_of(smooth(high, wide), pix_fmt)
    assert np.abs(scaled(frame, (45, 80), coarse=True) - scaled(frame, (45, 80))).max() <= 4


def test_a_coarse_picture_is_the_mean_of_every_second_line():
    high, size = 16 * MANY, (16, 16)
    noise = np.random.default_rng(0).integers(0, 256, (high, high, 1), np.uint8).repeat(3, -1)
    means = noise[::2].reshape(16, high // 32, 16, high // 16, 3).mean((1, 3))
    assert np.abs(scaled(frame_of(noise, "rgb24"), size, coarse=True) - means).max() <= 2
    fewer = noise[:-16]  # too few lines to leave any out
    tall = fewer.reshape(16, (high - 16) // 16, 16, high // 16, 3).mean((1, 3))
    assert np.abs(scaled(frame_of(fewer, "rgb24"), size, coarse=True) - tall).max() <= 2


def test_colours_of_a_coarse_picture_are_those_of_the_whole_frame():
    """720 lines that do not say have BT.709 colours; half of them would be taken for BT.601."""
    red = np.full((720, 1280, 3), (200, 30, 40), np.uint8)
    frame = frame_of(red)
    assert np.abs(scaled(frame, (45, 80), coarse=True) - scaled(frame, (45, 80))).max() <= 1


def test_a_coarse_picture_is_upright():
    picture = smooth(1280, 720)
    turned = frame_of(np.rot90(picture))
    upright = scaled(turned, (80, 45), coarse=True, orientation=(True, True, False))
    assert np.abs(upright - scaled(turned, (80, 45), orientation=(True, True, False))).max() <= 4
