"""How high the curve is drawn: the first frame and towering peaks flatten nothing, and what is cut off is marked."""

import io
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mambamia_cli.records import SamplingRecord, Scene, ScenesRecord, VideoRecord
from mambamia_cli.scenes.plot import draw, means
from mambamia_cli.scenes.report import HEIGHT, ROOF, page
from mambamia_cli.scenes.scale import SPARED, USUAL, ceiling, drawn
from mambamia_cli.scenes.table import BLOCKS, Look, render

CUTS = (20.0, 40.0, 60.0, 80.0)


def record(peaks: dict[float, float], cuts=CUTS, length=100.0, quiet=0.1):
    scenes = tuple(Scene(n, a, b, 2.0 if n > 1 else 0.0) for n, (a, b) in enumerate(pairwise((0.0, *cuts, length)), 1))
    delta = tuple((i / 4, {**dict.fromkeys(cuts, 1.0), **peaks}.get(i / 4, quiet)) for i in range(int(4 * length)))
    return ScenesRecord(VideoRecord("a.mp4"), SamplingRecord("fps"), scenes, delta, range=(0.0, length))


def curve(text: str) -> str:
    return next(line for line in text.splitlines() if BLOCKS[0] in line)


def blue(picture: bytes) -> np.ndarray:
    """(H, W) of pixels that the curve's line has."""
    from matplotlib.image import imread

    pixels = imread(io.BytesIO(picture))[..., :3]
    return np.abs(pixels - np.array([0x25, 0x63, 0xEB]) / 255).max(axis=-1) < 0.12


def page_line(one: ScenesRecord) -> list[float]:
    found = re.search(r'class=line d="M([^"]*)"', page(one, Path("p.html")).decode())
    return [float(point.split()[1]) for point in found[1].split("L")]


def test_the_first_frame_changes_no_picture():
    plain, huge = record({}), record({0.0: 50.0})
    assert curve(render(plain)) == curve(render(huge)) and curve(render(huge)).count(BLOCKS[-1]) == 4
    assert draw(plain) == draw(huge)
    assert page_line(plain) == page_line(huge)


def test_a_towering_peak_is_cut_off_and_marked_in_all_three():
    one = record({50.0: 9.0})
    line = curve(render(one))
    assert line.count("▲") == 1 and abs(line.index("▲") / len(line) - 0.5) < 0.05
    assert curve_level(line) >= 4
    assert "^" in render(one, Look(unicode=False)) and render(one, Look(unicode=False)).isascii()
    whole, cut = (np.flatnonzero(blue(draw(r))[:, :700].any(axis=1))[0] for r in (record({}), one))
    assert cut < 2.5 * whole  # at a scale of 9 the first peaks would be next to the axis
    assert min(page_line(one)) == pytest.approx(ROOF + 2) and sorted(page_line(one))[3] < HEIGHT / 2


def curve_level(line: str) -> int:
    """Of the blocks below the sign, the highest."""
    return max(BLOCKS.index(c) for c in line if c in BLOCKS)


def test_what_is_not_far_above_is_whole_and_so_is_all_where_markers_are_few():
    starts = list(CUTS)
    assert ceiling(drawn(record({50.0: USUAL * SPARED * 0.99}).delta), starts) == pytest.approx(USUAL * SPARED * 0.99)
    assert ceiling(drawn(record({50.0: USUAL * SPARED * 1.01}).delta), starts) == USUAL
    assert ceiling(drawn(record({50.0: 9.0}).delta), starts[:3]) == 9.0
    assert ceiling((), starts) == 0.0 and ceiling(drawn(record({}, quiet=0.0).delta), [1000.0] * 9) == 1.0
    assert drawn(((0.0, 1.0),)) == ((0.0, 1.0),)


def test_a_marker_that_refinement_moved_counts_with_its_peak():
    assert ceiling(drawn(record({50.0: 9.0}).delta), [start - 0.2 for start in CUTS]) == USUAL


def test_crowded_markers_are_counted():
    many = record({}, cuts=tuple(np.arange(1, 500, 2.0)) + tuple(np.arange(500, 990, 10.0)), length=1000.0)
    lines = render(many).splitlines()
    assert lines[2] == "  markers, up to 7 in 13.2 s; below them delta"
    marks = lines[3][2:]
    assert set(marks[:36]) <= set("▇█") and marks[60] in "▂▃" and "▾" not in render(many)
    assert max(map(len, lines)) <= 80


def test_many_scenes_are_drawn_as_mean_and_highest():
    busy = record({}, cuts=tuple(np.arange(1.0, 599, 1.0)), length=600.0)
    few = replace(busy, scenes=busy.scenes[:20])
    assert blue(draw(busy)).mean() < blue(draw(few)).mean() / 2  # a smear is what it was
    assert min(page_line(busy)) > HEIGHT / 2 > min(page_line(few))  # the line is the mean: a peak in four frames


def test_means_has_a_value_a_stretch():
    delta = tuple((float(i), float(i % 2)) for i in range(1000))
    assert means(delta, 10) == [0.5] * 10 and means((), 0) == []
