"""What only moves is told from a wipe and from a dissolve."""

import numpy as np
import pytest

from mambamia_cli.scenes.motion import only_moves
from mambamia_cli.scenes.refine import SIZE, Turn

HIGH, WIDE = SIZE
LENGTH = 30
TIMES = [k / 25 for k in range(LENGTH)]


def texture(seed, wide=WIDE, grain=3):
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(20, 235, (HIGH // grain + 1, wide // grain + 1))
    return coarse.repeat(grain, 0).repeat(grain, 1)[:HIGH, :wide]


def soft(seed, wide):
    """A few wide hills of brightness."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HIGH, :wide]
    hills = [np.exp(-(((x - cx) / 25) ** 2) - ((y - cy) / 14) ** 2) for cx, cy in rng.uniform(0, 1, (12, 2)) * (wide, HIGH)]
    return 40 + 150 * np.clip(sum(hills), 0, 1)


def rgb(pictures):
    return np.stack(pictures).clip(0, 255).astype(np.uint8)[..., None].repeat(3, -1)


def turn(kind, dip=None, first=5, last=24):
    return Turn(TIMES[first], TIMES[last], kind, TIMES[(first + last) // 2], dip)


def wiped(a, b, first=5, last=24):
    parts = np.clip((np.arange(LENGTH) - first) / (last - first), 0, 1)
    return rgb([np.concatenate([b[:, : round(part * WIDE)], a[:, round(part * WIDE) :]], 1) for part in parts])


def melted(a, b, first=5, last=24):
    parts = np.clip((np.arange(LENGTH) - first) / (last - first), 0, 1)
    return rgb([(1 - part) * a + part * b for part in parts])


@pytest.mark.parametrize("seed", range(3))
def test_a_wipe_replaces_and_a_dissolve_is_explained(seed):
    a, b = texture(seed), texture(seed + 10)
    assert not only_moves(turn("wipe"), wiped(a, b), TIMES)
    assert not only_moves(turn("dissolve", 0.5), melted(a, b), TIMES)


@pytest.mark.parametrize("seed", range(3))
def test_soft_ground_that_a_camera_pans_over_is_no_wipe(seed):
    ground = soft(seed, 2 * WIDE)
    pan = rgb([ground[:, k : k + WIDE] for k in range(LENGTH)])
    assert only_moves(turn("wipe"), pan, TIMES)


@pytest.mark.parametrize("seed", [1, 2])
def test_discs_that_drift_over_plain_ground_are_no_wipe(seed):
    """They replace the little that they stand before again and again, and most of the ground stays."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HIGH, :WIDE]
    places, ways, sizes = rng.uniform(0, 1, (7, 2)) * (WIDE, HIGH), rng.normal(0, 1, (7, 2)), rng.uniform(4, 7, 7)
    ways /= np.linalg.norm(ways, axis=1)[:, None]
    pictures = []
    for k in range(60):
        picture = 200 - 1.5 * y
        for i in range(7):
            cx, cy = places[i] + 0.5 * k * ways[i]
            picture = np.where((x - cx) ** 2 + (y - cy) ** 2 < sizes[i] ** 2, 30 + 20 * i, picture)
        pictures.append(picture)
    times = [k / 25 for k in range(60)]
    assert only_moves(Turn(times[1], times[-2], "wipe", times[30], 0.3), rgb(pictures), times)


def test_one_jump_is_enough_for_a_wipe():
    """What the first and the last frame of a quick one are is not read to the frame."""
    a, b = texture(1), texture(2)
    assert not only_moves(turn("wipe", first=14, last=16), rgb([a] * 15 + [b] * 15), TIMES)


def test_what_two_pictures_do_not_explain_is_no_dissolve_unless_it_is_fast():
    wide = np.tile(soft(4, 6 * WIDE), 3)
    slow, fast = (rgb([wide[:, step * k : step * k + WIDE] for k in range(LENGTH)]) for step in (4, 40))
    assert only_moves(turn("dissolve", 0.3), slow, TIMES)
    assert not only_moves(turn("dissolve", 0.3), fast, TIMES)  # a whip pan


@pytest.mark.parametrize(("seconds", "refused"), [(0.5, False), (0.76, True)])
def test_a_short_change_between_standing_pictures_may_be_of_slides(seconds, refused):
    ground = soft(2, 2 * WIDE)
    pan = rgb([ground[:, k : k + WIDE] for k in range(LENGTH)])
    assert only_moves(turn("wipe", first=5, last=5 + round(25 * seconds)), pan, TIMES) == refused
    assert only_moves(turn("wipe", 0.2, first=5, last=5 + round(25 * seconds)), pan, TIMES)


def test_ends_that_are_alike_need_detail_that_sinks():
    a = texture(6)
    brighter = melted(a, 20 + 0.9 * a)
    assert only_moves(turn("dissolve", 0.02), brighter, TIMES)
    assert not only_moves(turn("dissolve", 0.2), brighter, TIMES)
    assert not only_moves(turn("dissolve", None), brighter, TIMES)  # slides: a bullet more may be all


@pytest.mark.parametrize("kind", ["cut", "fade-black", "fade-white", "flash"])
def test_of_other_kinds_nothing_is_said(kind):
    assert not only_moves(turn(kind), rgb([soft(0, WIDE)] * LENGTH), TIMES)
