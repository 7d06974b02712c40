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


@pytest.mark.parametrize("down", [5, 10, 25, -15])
def test_a_text_moved_up_or_down_scrolls(down):
    text = page(1)
    assert is_scrolled(text[40 : 40 + SIDE], text[40 + down : 40 + down + SIDE])


def test_only_the_part_that_changes_is_looked_at():
    """A terminal scrolls under a title and beside a list that stay."""
    text, before = page(1), page(2)[:SIDE].copy()
    after = before.copy()
    before[24:, 32:], after[24:, 32:] = text[40 : 40 + SIDE - 24, 32:], text[50 : 50 + SIDE - 24, 32:]
    assert is_scrolled(before, after)


@pytest.mark.parametrize("other", range(2, 8))
def test_another_text_of_the_same_lines_does_not(other):
    assert not is_scrolled(page(1)[:SIDE], page(other)[:SIDE])


def test_neither_does_what_stays_nor_what_scrolls_out_of_sight():
    text = page(1)
    assert not is_scrolled(text[:SIDE], text[:SIDE])
    assert not is_scrolled(text[:SIDE], text[60 : 60 + SIDE])


def seen(frames):
    stream = EvidenceStream()
    for k in range(0, len(frames), 7):
        stream.push(frames[k : k + 7])
    return stream.finish()


def film(before, after):
    frames = np.stack([before] * 12 + [after] * 12).repeat(2, 1).repeat(2, 2)
    return frames.clip(0, 255).astype(np.uint8)[..., None].repeat(3, -1)


def test_what_scrolls_is_neither_gone_nor_swapped():
    text = page(1)
    scrolled, changed = seen(film(text[:SIDE], text[10 : 10 + SIDE])), seen(film(text[:SIDE], page(2)[:SIDE]))
    assert scrolled.scrolled[12] == 1 and max(np.nanmax(scrolled.gone), scrolled.swapped.max()) < 0.2
    assert changed.scrolled.max() == 0 and changed.gone[12] > 0.5
