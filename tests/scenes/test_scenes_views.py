"""The text and the picture of a scenes record."""

import io
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest

from mambamia_cli.records import SamplingRecord, Scene, ScenesRecord, VideoRecord
from mambamia_cli.scenes.plot import apart, draw, shown, thin, ticks
from mambamia_cli.scenes.table import BLOCKS, Look, render, sparkline


def record(name="a.mp4", length=10.0, cuts=(4.0,), fps=4):
    edges = [0.0, *cuts, length]
    scenes = tuple(Scene(n, a, b, 0.0 if n == 1 else 5.0 * n) for n, (a, b) in enumerate(pairwise(edges), 1))
    delta = tuple((i / fps, 1.0 if i / fps in cuts else 0.1) for i in range(int(length * fps)))
    return ScenesRecord(VideoRecord(name), SamplingRecord("fps"), scenes, delta, range=(0.0, length))


def test_the_table_has_a_row_a_scene_with_timecodes_and_the_marker_stands_over_its_peak():
    lines = render(record(cuts=(4.0, 7.5))).splitlines()
    assert lines[0].startswith("a.mp4  3 scenes in 10.0 s")
    assert lines[-3:] == [
        "   1  00:00:00.000  00:00:04.000     4.00 s",
        "   2  00:00:04.000  00:00:07.500     3.50 s      10.0  ███████",
        "   3  00:00:07.500  00:00:10.000     2.50 s      15.0  ██████████",
    ]
    marks, curve = lines[2], lines[3]
    for at in (i for i, c in enumerate(marks) if c == "▾"):
        assert curve[at] == "█"
    assert marks.count("▾") == 2


def test_a_gradual_transition_is_told_and_fits_eighty_columns():
    scenes = [replace(one, transition="cut") for one in record(cuts=(4.0, 7.5)).scenes]
    scenes[1] = replace(scenes[1], transition="fade-black", transition_start=3.4, transition_end=4.6)
    made = replace(record(), scenes=tuple(scenes))
    rows = render(made).splitlines()[-2:]
    assert rows[0].endswith("10.0  ████    fade-black 1.2 s") and rows[1].endswith("15.0  ██████") and max(map(len, rows)) <= 80
    assert render(made, Look(width=100)).splitlines()[-2].endswith("10.0  ███████     fade-black 1.2 s")


def test_no_line_is_wider_than_the_terminal_and_a_pipe_gets_no_escape_codes():
    for width in (40, 80, 120):
        text = render(record(), Look(width=width))
        assert max(map(len, text.splitlines())) <= max(width, 62) and "\x1b" not in text
    assert "\x1b[1m" in render(record(), Look(color=True))
    assert render(record(), Look(unicode=False)).isascii()


def test_a_name_cannot_steer_the_terminal():
    assert "\x1b" not in render(record(name="a\x1b[2Jb\n.mp4")) and "\nb" not in render(record(name="a\nb.mp4"))
    scene = Scene(1, 0.0, 10.0, 0.0, title="a\x1b[2J", transition="\x1bc", transition_start=0.0, transition_end=1.0)
    assert "\x1b" not in render(replace(record(), scenes=(scene,)))  # a record that is read may be anybody's


def test_sparkline_keeps_every_peak_whatever_the_width():
    delta = tuple((i / 4, 1.0 if i in (1000, 20000, 43000) else 0.1) for i in range(43200))  # three hours at 4 a second
    assert sparkline(delta, 0, 10800, 60).count(BLOCKS[-1]) == 3


def test_sparkline_draws_a_nearly_flat_curve_flat():
    delta = tuple((i / 4, 1.0 + 0.01 * (i % 2)) for i in range(400))
    assert len(set(sparkline(delta, 0, 100, 60))) == 1


def test_thinning_keeps_peaks_at_their_own_time():
    delta = tuple((i / 4, 5.0 if i == 31234 else 0.1) for i in range(43200))
    times, low, high = thin(delta, 3000)
    assert len(times) <= 3000 and times[int(np.argmax(high))] == 31234 / 4 and max(low) == 0.1


@pytest.mark.parametrize("start, end", [(0, 0.4), (0, 9), (0, 180), (95, 240), (0, 10800), (0, 100000)])
def test_ticks_are_round_times_inside_the_range(start, end):
    times = ticks(start, end)
    assert 1 <= len(times) <= 15 and all(start <= t <= end for t in times)


def test_png_shows_the_markers_where_they_are():
    from matplotlib.image import imread

    pixels = imread(io.BytesIO(draw(record(length=100.0, cuts=(25.0, 75.0)))))[..., :3]  # (H, W, 3)
    red = (pixels[..., 0] > 0.75) & (pixels[..., 1] < 0.35) & (pixels[..., 2] < 0.35)
    columns = np.flatnonzero(red.sum(axis=0) >= 15)  # the ticks; digits are smaller
    groups = np.split(columns, np.flatnonzero(np.diff(columns) > 2) + 1)
    assert len(groups) == 2
    width = pixels.shape[1]
    assert (groups[1].mean() - groups[0].mean()) / width == pytest.approx(0.5, abs=0.05)


def test_svg_is_well_formed_and_escapes_the_name():
    root = ElementTree.fromstring(draw(record(name="<b>&$x_1$.mp4"), "svg"))
    assert root.tag.endswith("svg")


def test_the_same_record_gives_the_same_picture():
    assert draw(record()) == draw(record())


def test_thumbnails_stand_below_the_curve_in_order_apart_and_inside_the_picture():
    from matplotlib.image import imread

    several = record(length=100.0, cuts=(2.0, 4.0, 90.0))
    colors = ((200, 30, 200), (30, 200, 200), (200, 200, 30), (30, 160, 30))
    thumbs = {i: np.full((90, 160, 3), color, np.uint8) for i, color in enumerate(colors)}
    with_, without = (imread(io.BytesIO(draw(several, "png", t)))[..., :3] * 255 for t in (thumbs, None))
    assert with_.shape[0] > without.shape[0] and with_.shape[1] == without.shape[1]
    spans = []
    for color in colors:
        here = np.abs(with_ - color).max(axis=-1) < 3
        rows, columns = np.flatnonzero(here.any(axis=1)), np.flatnonzero(here.any(axis=0))
        assert rows[0] > without.shape[0] * 0.8 and np.ptp(columns) / np.ptp(rows) == pytest.approx(16 / 9, rel=0.03)
        spans.append((columns[0], columns[-1]))
    assert all(a[1] + 10 < b[0] for a, b in pairwise(spans)) and spans[0][0] > 0 and spans[-1][1] < with_.shape[1] - 1


def test_of_many_scenes_as_many_are_shown_as_have_room():
    few, many = record(length=100.0, cuts=(30.0, 60.0)), record(length=10000.0, cuts=tuple(range(10, 9990, 10)))
    assert shown(few) == [0, 1, 2]
    assert 8 <= len(shown(many)) <= 16 and np.ptp(np.diff(shown(many))) <= 1


@pytest.mark.parametrize("middles", [[1, 1, 1], [0, 0.1, 9.9, 10], [5], [2, 3, 4, 5, 6]])
def test_apart_moves_things_no_further_than_they_must(middles):
    placed = apart(middles, [0.5] * len(middles), 0, 10)
    assert all(b - a >= 1.0999 for a, b in pairwise(placed)) and placed[0] >= 0.5 and placed[-1] <= 9.5
    assert [p for p, m in zip(placed, middles, strict=True) if m == 5 and len(middles) == 1] in ([], [5])


def test_a_gradual_transition_is_a_span():
    from matplotlib.image import imread

    soft = record(length=100.0, cuts=(50.0,))
    scenes = (soft.scenes[0], replace(soft.scenes[1], transition="dissolve", transition_start=40.0, transition_end=60.0))
    hard, span = (imread(io.BytesIO(draw(r)))[..., :3] for r in (soft, replace(soft, scenes=scenes)))
    changed = np.flatnonzero(np.abs(hard - span).max(axis=(0, 2)) > 0.02)
    assert np.ptp(changed) / hard.shape[1] == pytest.approx(0.2, abs=0.03)


def test_a_record_of_three_hours_is_drawn_in_seconds():
    import time

    many = record(length=10800.0, cuts=tuple(range(10, 10790, 10)))
    began = time.process_time()
    draw(many)
    assert time.process_time() - began < 20  # 2 s; a call a marker took ten times that
