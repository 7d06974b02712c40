"""Text that scrolls is told from another text."""

import numpy as np
import pytest

from mambamia_cli.scenes.evidence import EvidenceStream
from mambamia_cli.scenes.scroll import is_scrolled

SIDE = 112


def page(seed, lines=60, indent=6):
    """Lines of words, each of a length of its own, (lines * 5, SIDE) grey values."""
    rng = np.random.default_rng(seed)
    text = np.full((lines * 5, SIDE), 30.0)
    for n in range(lines):
        length = int(rng.integers(30, SIDE - indent))
        text[5 * n : 5 * n + 3, indent : indent + length] += 170 * (rng.random(length) < 0.6) * rng.uniform(0.5, 1, (3, 1))
    return text


def window(text, first=0):
    """A terminal under a title and beside a list, which stay: (SIDE, SIDE)"""
    screen = page(99)[:SIDE].copy()
    screen[24:, 32:] = text[first : first + SIDE - 24, 32:]
    return screen


@pytest.mark.parametrize("down", [5, 10, 25, -15])
def test_a_text_moved_up_or_down_in_its_window_scrolls(down):
    assert is_scrolled(window(page(1), 40), window(page(1), 40 + down))


@pytest.mark.parametrize("other", range(2, 8))
def test_another_text_of_the_same_lines_does_not(other):
    assert not is_scrolled(window(page(1)), window(page(other)))


def test_neither_does_what_stays_nor_what_scrolls_out_of_sight_nor_a_whole_picture():
    text = page(1)
    assert not is_scrolled(window(text), window(text))
    assert not is_scrolled(window(text), window(text, 60))
    assert not is_scrolled(text[:SIDE], text[10 : 10 + SIDE])  # a camera that tilts


def seen(frames):
    stream = EvidenceStream()
    for k in range(0, len(frames), 7):
        stream.push(frames[k : k + 7])
    return stream.finish()


def film(before, after, *more):
    frames = np.stack([before] * 12 + [after] * (1 if more else 12) + [*more] * 12).repeat(2, 1).repeat(2, 2)
    return frames.clip(0, 255).astype(np.uint8)[..., None].repeat(3, -1)


def test_what_scrolls_is_neither_gone_nor_swapped():
    text = page(1)
    scrolled, changed = seen(film(window(text), window(text, 10))), seen(film(window(text), window(page(2))))
    assert scrolled.scrolled[12] == 1 and max(np.nanmax(scrolled.gone), scrolled.swapped.max()) < 0.2
    assert changed.scrolled.max() == 0 and changed.gone[12] > 0.3


def test_a_window_that_scrolls_and_makes_way_for_another_picture_is_gone():
    text, other = page(1), np.random.default_rng(0).integers(0, 255, (28, 28)).repeat(4, 0).repeat(4, 1)
    known = seen(film(window(text), window(text, 10), other))
    assert known.scrolled[12:15].max() == 0 and known.gone[12:14].max() > 0.3
