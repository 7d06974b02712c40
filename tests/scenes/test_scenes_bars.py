"""Black bars: found in pairs, filled with the picture next to them; what only looks like bars stays."""

import numpy as np
import pytest

from mambamia_cli.scenes.bars import without_bars

HIGH, WIDE = 45, 80


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def barred(rng, before, after, *, upright=False, frames=2):
    """Noise between bars of these widths."""
    picture = rng.integers(60, 250, (frames, HIGH, WIDE, 3), np.uint8)
    view = picture.swapaxes(1, 2) if upright else picture
    view[:, :before] = 4
    view[:, view.shape[1] - after :] = 4
    return picture


@pytest.mark.parametrize("upright", [False, True])
def test_bars_become_the_line_of_the_picture_next_to_them(rng, upright):
    frames = barred(rng, 6, 6, upright=upright)
    kept = frames.copy()
    filled = without_bars(frames)
    a, b = (x.swapaxes(1, 2) if upright else x for x in (filled, frames))
    size = a.shape[1]
    # The line beside a bar may be half of it: the next one is taken.
    assert (a[:, :7] == b[:, 7:8]).all() and (a[:, size - 7 :] == b[:, size - 8 : size - 7]).all()
    assert np.array_equal(a[:, 7 : size - 7], b[:, 7 : size - 7]) and np.array_equal(frames, kept)


def test_grey_pictures_of_any_size_are_filled_too(rng):
    grey = np.full((1, 112, 112), 4, np.float32)
    grey[:, 14:98] = rng.integers(60, 250, (1, 84, 112))
    assert without_bars(grey).min() >= 60 and without_bars(barred(rng, 11, 11)[..., 1].astype(np.float32)).min() >= 60


def test_a_subtitle_in_a_bar_goes_with_it(rng):
    frames = barred(rng, 6, 6)
    frames[:, 40:42, 20:60] = 255
    plain = frames.copy()
    plain[:, 40:42, 20:60] = 4
    assert np.array_equal(without_bars(frames), without_bars(plain))


@pytest.mark.parametrize(("before", "after"), [(0, 6), (6, 0), (1, 6), (1, 1), (13, 13)])
def test_one_bar_thin_ones_and_thick_ones_are_part_of_the_picture(rng, before, after):
    frames = barred(rng, before, after)
    assert without_bars(frames) is frames


def test_a_black_board_is_no_picture_between_bars(rng):
    board = np.zeros((1, HIGH, WIDE, 3), np.uint8)
    board[:, 10:36, 12:66:3] = 220  # a third of its lines' pixels is ink
    assert without_bars(board) is board


def test_nothing_is_filled_where_all_is_black():
    black = np.full((3, HIGH, WIDE, 3), 2, np.uint8)
    assert without_bars(black) is black


def test_each_frame_has_its_own_bars(rng):
    frames = np.concatenate([barred(rng, 6, 6, frames=1), barred(rng, 0, 0, frames=1)])
    filled = without_bars(frames)
    assert filled[0].min() >= 60 and np.array_equal(filled[1], frames[1])
