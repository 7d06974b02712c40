"""The peak rule on curves whose boundaries are known, from a static lecture to an action film."""

import itertools

import numpy as np
import pytest

from mambamia_cli.errors import ModelError
from mambamia_cli.scenes.peaks import PeakRule, mark, markers, scores

FPS = 4


def curve(seconds, cuts, *, base=0.02, noise=0.1, height=1.0, seed=0):
    """(delta, times): noisy around `base`, up by `height` at the first frame of each new scene."""
    rng = np.random.default_rng(seed)
    times = np.arange(int(seconds * FPS)) / FPS
    delta = base * (1 + noise * np.abs(rng.normal(size=len(times))))
    for cut in cuts:
        delta[int(cut * FPS)] += height
    return delta, times


def starts(scenes):
    return [scene.start for scene in scenes[1:]]


def test_a_static_lecture_gives_its_slide_changes_and_nothing_else():
    cuts = [20.0, 61.25, 130.0, 200.5]
    delta, times = curve(240, cuts, height=0.3)
    assert starts(mark(delta, times, end=240)) == cuts


def test_a_video_where_nothing_happens_is_one_scene():
    delta, times = curve(240, [])
    scenes = mark(delta, times, end=240)
    assert [(s.n, s.start, s.end, s.peak) for s in scenes] == [(1, 0.0, 240.0, 0.0)]


def test_an_action_film_with_a_cut_every_second_keeps_its_cuts():
    cuts = list(np.arange(1, 180, 1.0))
    delta, times = curve(180, cuts, base=0.05, noise=1.5)
    assert starts(mark(delta, times, end=180)) == cuts


def test_camera_motion_between_hard_cuts_is_not_a_scene():
    cuts = list(np.arange(10.0, 170, 12))
    delta, times = curve(180, cuts)
    for pan in np.arange(16.0, 170, 12):
        delta[int(pan * FPS) : int(pan * FPS) + 6] += 0.08  # well above the noise, far below the cuts
    assert starts(mark(delta, times, end=180)) == cuts


def test_calm_and_shaking_parts_are_each_judged_by_their_own_noise():
    calm, times = curve(120, [30, 60], height=0.2, seed=1)
    shaking = 0.3 * (1 + np.abs(np.random.default_rng(2).normal(size=len(times))))
    shaking[int(60 * FPS)] += 6
    delta = np.concatenate([calm, shaking])
    found = starts(mark(delta, np.arange(len(delta)) / FPS, end=240))
    assert 30.0 in found and 60.0 in found and 180.0 in found
    assert len([t for t in found if t > 122]) == 1


@pytest.mark.parametrize("factor", [1e-6, 1e3])
def test_multiplying_delta_changes_nothing(factor):
    delta, times = curve(120, [11, 40.5, 90])
    np.testing.assert_allclose(scores(delta * factor, times), scores(delta, times), rtol=1e-6, atol=1e-9)


def test_the_score_is_the_formula_on_a_hand_worked_case():
    delta = np.array([1.0, 1, 1, 1, 1, 9, 1, 1, 1, 1, 1])  # median 1, spread 0, top = 99th percentile of 0..8 = 7.2
    score = scores(delta, np.arange(11.0), PeakRule(window=100, floor=0.3, share=0.05))
    assert score[5] == pytest.approx(8 / (0.3 + 0.05 * 7.2)) and score[4] == 0


def test_the_noise_is_that_of_the_lower_half_on_a_hand_worked_case():
    delta = np.array([1.0, 3, 2, 5, 1, 3, 20, 4, 2])  # median 3; below it 1, 1, 2, 2, 3, 3: median distance 1
    score = scores(delta, np.arange(9.0), PeakRule(window=100, floor=0.3, share=0.05))
    top = 2 + 0.92 * 15  # the 99th percentile of 9 contrasts lies at place 7.92, between 2 and 17
    assert score[6] == pytest.approx(17 / (1.4826 * 1 + 0.3 * 3 + 0.05 * top))


def test_min_scene_len_keeps_the_stronger_of_two_and_lets_both_stand_when_apart():
    score = np.array([0, 0, 0, 5, 0, 9, 0, 0, 0, 0, 0, 0.0])
    times = np.arange(12) * 0.25
    assert markers(score, times, 4, 0.75, end=3.0) == [5]
    assert markers(score, times, 4, 0.5, end=3.0) == [3, 5]


def test_no_scene_is_shorter_at_the_start_or_the_end():
    score = np.zeros(20)
    score[[1, 10, 18]] = 9
    times = np.arange(20) * 0.25
    assert markers(score, times, 4, 0.6, end=5.0) == [10]
    assert markers(score, times, 4, 0.2, end=5.0) == [1, 10, 18]


def test_a_flat_top_counts_once_at_its_first_frame():
    score = np.zeros(12)
    score[5:8] = 6
    assert markers(score, np.arange(12.0), 4, 0.0, end=12.0) == [5]


def test_threshold_is_reached_not_passed():
    score = np.array([0, 0, 4.0, 0, 0])
    assert markers(score, np.arange(5.0), 4.0, 0, end=5.0) == [2]
    assert markers(score, np.arange(5.0), 4.000001, 0, end=5.0) == []


def test_scenes_cover_the_range_without_gaps():
    delta, times = curve(60, [10, 25.5, 40])
    scenes = mark(delta, times + 100, end=160.2)
    assert scenes[0].start == 100 and scenes[-1].end == 160.2
    assert all(a.end == b.start and a.n + 1 == b.n for a, b in itertools.pairwise(scenes))


@pytest.mark.parametrize("m", [1, 2, 3])
def test_the_shortest_videos_are_one_scene(m):
    scenes = mark([0.1] * m, [i / FPS for i in range(m)], end=m / FPS)
    assert len(scenes) == 1 and scenes[0].end == m / FPS


def test_windows_are_the_same_in_blocks_of_a_long_video(monkeypatch):
    delta, times = curve(600, list(range(7, 590, 31)), noise=1)
    whole = scores(delta, times)
    monkeypatch.setattr("mambamia_cli.scenes.peaks._BLOCK", 37)
    np.testing.assert_array_equal(scores(delta, times), whole)


def test_the_rule_is_read_from_a_models_config_and_refuses_what_it_does_not_know():
    assert PeakRule.from_config({"threshold": 3, "window": 6}) == PeakRule(threshold=3.0, window=6.0)
    for bad in ({"treshold": 3}, {"threshold": "3"}, {"threshold": True}, {"floor": -1}, {"window": 0}, {"share": float("nan")}):
        with pytest.raises(ModelError):
            PeakRule.from_config(bad)
