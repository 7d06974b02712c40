"""Slides of few words: what makes way for something else is a change of slide, what is added or covered is not."""

import numpy as np
import pytest

from mambamia_cli.scenes.evidence import EvidenceRule, EvidenceStream

SIDE, CHANGE, LENGTH = 224, 12, 24
RULE = EvidenceRule()


def photo(rng):
    """A washed-out photograph: texture of two sizes, still."""
    fine, coarse = rng.uniform(-1, 1, (28, 28)).repeat(8, 0).repeat(8, 1), rng.uniform(-1, 1, (112, 112)).repeat(2, 0).repeat(2, 1)
    return 190 + 20 * fine + 25 * coarse  # (SIDE, SIDE)


def write(picture, rng, line, ink=40.0):
    """A line of text, as strokes: they fill a third of it."""
    top, wide = 40 + 28 * line, 160
    strokes = rng.random((6, wide // 4)).repeat(2, 0).repeat(4, 1) < 0.35
    area = picture[top : top + 12, 20 : 20 + wide]
    area[strokes] = ink
    return picture


def measured(before, after):
    frames = np.stack([before] * CHANGE + [after] * (LENGTH - CHANGE)).clip(0, 255).astype(np.uint8)[..., None].repeat(3, -1)
    stream = EvidenceStream()
    stream.push(frames)
    return stream.finish().swapped


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.mark.parametrize("ground", ["plain", "photo"])
@pytest.mark.parametrize("ink", [40.0, 250.0], ids=["dark text", "light text"])
def test_words_that_make_way_for_others_are_swapped(rng, ground, ink):
    back = np.full((SIDE, SIDE), 150.0) if ground == "plain" else photo(rng)
    before, after = write(write(back.copy(), rng, 0, ink), rng, 1, ink), write(write(back.copy(), rng, 0, ink), rng, 1, ink)
    swapped = measured(before, after)
    assert swapped[CHANGE - 1 : CHANGE + 2].max() > RULE.swap + RULE.swap_slope
    assert swapped.argmax() == CHANGE and max(swapped[CHANGE - 1], swapped[CHANGE + 1]) < swapped[CHANGE] / 2  # the very frame
    assert swapped[: CHANGE - 3].max() == swapped[CHANGE + 4 :].max() == 0


def test_words_that_join_others_swap_nothing(rng):
    before = write(np.full((SIDE, SIDE), 200.0), rng, 0)
    assert measured(before, write(before.copy(), rng, 2)).max() == 0


@pytest.mark.parametrize("grey", [55.0, 120.0, 250.0])
def test_a_bar_that_joins_a_chart_covers_and_does_not_swap(rng, grey):
    """It stands upon a photograph, whose texture is lost below it."""
    before = write(photo(rng), rng, 0)
    after = before.copy()
    after[100:208, 64:104] = grey
    assert measured(before, after).max() < RULE.swap


def test_a_slide_of_another_colour_is_swapped_all_the_same(rng):
    """All of its ground changes: that is no cover."""
    before, after = write(np.full((SIDE, SIDE), 220.0), rng, 0), write(np.full((SIDE, SIDE), 120.0), rng, 0, 250.0)
    assert measured(before, after)[CHANGE - 1 : CHANGE + 2].max() > RULE.swap


def bar(picture, line, by):
    """A line of text marked by a bar of another shade, from edge to edge."""
    top = 40 + 28 * line
    picture[top : top + 16] += by
    return picture


@pytest.mark.parametrize("by", [-45.0, 45.0])
@pytest.mark.parametrize("ink", [40.0, 250.0])
def test_a_bar_that_marks_another_line_takes_no_words_with_it(rng, ink, by):
    code = np.full((SIDE, SIDE), 150.0)
    for line in range(4):
        write(code, rng, line, ink)
    assert measured(bar(code.copy(), 0, by), bar(code.copy(), 2, by)).max() < RULE.swap


def test_a_pointer_that_moves_is_no_word(rng):
    def at(row, column):
        picture = write(np.full((SIDE, SIDE), 200.0), np.random.default_rng(3), 0)
        picture[row : row + 18, column : column + 14] = rng.random((9, 7)).repeat(2, 0).repeat(2, 1) * 120
        return picture

    for row, column in ((120, 60), (120, 64), (126, 70), (150, 120)):
        assert measured(at(row, column), at(row + 40, column + 40)).max() == 0


def test_captions_that_follow_each_other_on_one_slide_swap_nothing(rng):
    slide = write(write(np.full((SIDE, SIDE), 200.0), rng, 0), rng, 1)
    assert measured(write(slide.copy(), rng, 5), write(slide.copy(), rng, 5)).max() == 0
    before, after = write(write(slide.copy(), rng, 2), rng, 5), write(write(slide.copy(), rng, 2), rng, 5)
    assert measured(before, after).max() > RULE.swap  # a line above it makes way at the same moment


def test_faint_words_of_a_dark_slide_are_swapped(rng):
    before, after = (write(write(np.full((SIDE, SIDE), 20.0), rng, 0, 32.0), rng, 1, 32.0) for _ in range(2))
    assert measured(before, after).max() > RULE.swap + RULE.swap_slope
