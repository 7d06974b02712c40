"""Thumbnails are made of fewer lines and look the same."""

import av
import numpy as np
import pytest

from mambamia_cli.video.scale import Scaler

UPRIGHT, TURNED = (False, False, False), (True, False, False)


def picture(high, wide):
    """A ramp with a bright box in it, (H, W, 3) uint8."""
    ramp = np.linspace(20, 160, wide)[None, :, None] + np.linspace(0, 60, high)[:, None, None]
    frame = np.broadcast_to(ramp, (high, wide, 3)).astype(np.uint8).copy()
    frame[high // 4 : high // 2, wide // 3 : wide // 2] = (240, 90, 30)
    return frame


def scaled(frame, size, orientation=UPRIGHT, **how):
    out = np.empty((*size, 3), np.uint8)
    Scaler(size, orientation, **how).into(frame, out)
    return out.astype(int)


@pytest.mark.parametrize("high, wide, orientation", [(720, 1280, UPRIGHT), (360, 640, UPRIGHT), (1080, 1920, UPRIGHT), (1280, 720, TURNED)])
def test_a_thumbnail_of_fewer_lines_is_nearly_that_of_all(high, wide, orientation):
    frame = av.VideoFrame.from_ndarray(picture(high, wide), "rgb24").reformat(format="yuv420p")
    few, every = (scaled(frame, (45, 80), orientation, thumbnail=thumbnail) for thumbnail in (True, False))
    assert np.abs(few - every).mean() < 1.5 and not np.array_equal(few, every)


@pytest.mark.parametrize("high, wide, size", [(360, 640, (46, 80)), (720, 1280, (224, 224)), (45, 80, (45, 80)), (20, 30, (45, 80))])
def test_no_line_is_passed_over_where_too_few_would_be_left(high, wide, size):
    frame = av.VideoFrame.from_ndarray(picture(high, wide), "rgb24").reformat(format="yuv420p")
    assert np.array_equal(scaled(frame, size, thumbnail=True), scaled(frame, size))


def test_frames_of_another_size_in_between_are_no_trouble():
    one, other = (av.VideoFrame.from_ndarray(picture(*size), "rgb24").reformat(format="yuv420p") for size in ((720, 1280), (360, 640)))
    scaler, outs = Scaler((45, 80), UPRIGHT, thumbnail=True), np.empty((3, 45, 80, 3), np.uint8)
    for frame, out in zip((one, other, one), outs, strict=True):
        scaler.into(frame, out)
    assert np.array_equal(outs[0], outs[2]) and np.abs(outs[0].astype(int) - outs[1]).mean() < 2
