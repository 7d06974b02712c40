"""Cumulative delta sampling on hand-worked cases, and the threshold for a budget against trying every threshold."""

import math
import random

import pytest
import torch

from mambamia_cli.compressor.select import select_frames, threshold_for_budget, uniform_frames


@pytest.mark.parametrize(
    ("delta", "threshold", "kept"),
    [
        ([0.5, 0.5, 0.5, 0.5], 1.0, [1, 3]),
        ([0.5, 0.5, 0.5, 0.5], 0.5, [0, 1, 2, 3]),
        ([0.25, 0.5, 1.0, 0.25, 0.75], 0.75, [1, 2, 4]),
        ([3.0, 0.0, 0.0, 1.0], 1.0, [0, 3]),  # what is left over above the threshold is not carried on
        ([0.1, 0.1, 0.1], 5.0, [2]),  # nothing crossed: the last frame
        ([0.0], 0.5, [0]),
    ],
)
def test_algorithm_1_by_hand(delta, threshold, kept):
    assert select_frames(torch.tensor(delta), threshold) == kept
    assert select_frames(delta, threshold) == kept


@pytest.mark.parametrize(
    ("delta", "budget", "threshold"),
    [
        ([1.0, 1.0, 1.0, 1.0], 2, math.nextafter(1.0, 2.0)),  # at 1.0 all four stay; just above, pairs do
        ([1.0, 1.0, 1.0, 1.0], 1, math.nextafter(2.0, 3.0)),
        ([1.0, 1.0, 1.0, 1.0], 4, math.ulp(0.0)),
        ([1.0, 2.0, 4.0], 2, math.nextafter(1.0, 2.0)),  # above 1: {1+2}, {4}
        ([1.0, 2.0, 4.0], 1, math.nextafter(3.0, 4.0)),
        ([0.0, 0.0, 0.0], 1, math.ulp(0.0)),
    ],
)
def test_threshold_by_hand(delta, budget, threshold):
    assert threshold_for_budget(torch.tensor(delta, dtype=torch.float64), budget) == threshold


@pytest.mark.parametrize("seed", range(20))
def test_threshold_is_the_smallest_that_fits(seed):
    rng = random.Random(seed)
    delta = [rng.choice([0.0, rng.random(), 3 * rng.random()]) for _ in range(rng.randint(1, 60))]
    for budget in (1, 2, 7, 30, 60):
        threshold = threshold_for_budget(delta, budget)
        assert len(select_frames(delta, threshold)) <= budget
        below = math.nextafter(threshold, 0.0)
        if below > 0:
            assert len(select_frames(delta, below)) > budget


@pytest.mark.parametrize("bad", [[], [-0.1], [float("nan")], [float("inf")], [[0.1, 0.2]]])
def test_bad_delta_is_refused(bad):
    with pytest.raises(ValueError, match="delta"):
        select_frames(torch.tensor(bad), 0.5)
    with pytest.raises(ValueError, match="delta"):
        threshold_for_budget(torch.tensor(bad), 3)


def test_bad_threshold_and_budget_are_refused():
    for threshold in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="threshold"):
            select_frames([0.5], threshold)
    with pytest.raises(ValueError, match="max_frames"):
        threshold_for_budget([0.5], 0)


def test_uniform_frames():
    assert uniform_frames(10, 5) == [1, 3, 5, 7, 9]
    assert uniform_frames(9, 3) == [1, 4, 7]
    assert uniform_frames(3, 8) == [0, 1, 2]
    assert uniform_frames(1, 1) == [0]
