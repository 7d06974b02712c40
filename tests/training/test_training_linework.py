"""Line drawings coloured in: what the lines enclose gets colours, what is outside stays clear."""

import numpy as np

from mambamia_cli.training import linework


def ring(gap: int = 0) -> np.ndarray:
    """A square line with a smaller one inside, black on clear; `gap`: pixels left open in the outer line."""
    picture = np.zeros((64, 64, 4), np.uint8)
    for low, high in ((8, 56), (20, 44)):
        picture[low:high, low:high, 3] = 255
        picture[low + 3 : high - 3, low + 3 : high - 3, 3] = 0
    picture[30 : 30 + gap, 8:11, 3] = 0
    return picture


RED_AND_BLUE = np.array([[200, 10, 10], [10, 10, 200]], np.uint8)


def test_regions_are_filled_the_largest_with_the_commonest_colour():
    out = linework.fill(ring(), RED_AND_BLUE)
    assert out.shape == (64, 64, 4)
    assert out[16, 16].tolist() == [200, 10, 10, 255] and out[32, 32].tolist() == [10, 10, 200, 255]
    assert out[9, 30].tolist() == [linework.INK] * 3 + [255]  # the line stays
    assert (out[:8, :, 3] == 0).all() and (out[57:, :, 3] == 0).all()


def test_a_small_opening_lets_no_colour_out_a_wide_one_leaves_the_region_clear():
    small, wide = linework.fill(ring(3), RED_AND_BLUE), linework.fill(ring(12), RED_AND_BLUE)
    assert small[16, 16, 3] == 255 and small[2, 2, 3] == 0
    assert wide[16, 16, 3] == 0 and wide[32, 32, 3] == 255  # the inner square is closed all the same


def test_lines_that_enclose_nothing_give_no_drawing():
    stroke = np.zeros((64, 64, 4), np.uint8)
    stroke[30:33, 4:60, 3] = 255
    assert linework.fill(stroke, RED_AND_BLUE) is None


def test_palette_is_of_the_opaque_part_commonest_first():
    picture = np.zeros((32, 32, 4), np.uint8)
    picture[:20], picture[20:30] = (250, 200, 0, 255), (0, 90, 200, 255)
    picture[30:, :, :3] = 77  # clear: not seen
    colours = linework.palette(picture)
    assert np.abs(colours[0].astype(int) - (250, 200, 0)).max() <= 4
    assert not (np.abs(colours.astype(int) - 77).max(1) <= 4).any()


def test_glyphs_stand_upright():
    """A font's y axis points up: an A drawn upside down would have its apex below."""
    from pathlib import Path

    import matplotlib

    from mambamia_cli.training.styles import render_svg

    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    found = linework._outlines([font], {"letter": f"{ord('A'):x}", "none": "10ffff"})
    assert set(found) == {"letter"}
    ink = render_svg(found["letter"])[..., 3] > 128
    rows = np.flatnonzero(ink.any(1))
    top, foot = ink[rows[len(rows) // 20]], ink[rows[-len(rows) // 20]]
    assert np.ptp(np.flatnonzero(top)) < ink.shape[1] / 3 < np.ptp(np.flatnonzero(foot))  # an apex above, two feet below
