"""What is gone: as a share of the picture that can be lost, whatever stands around it or below."""

import numpy as np
import pytest

from mambamia_cli.scenes.evidence import ENOUGH, EvidenceStream

SIDE, CHANGE, LENGTH = 112, 12, 24


def texture(seed, high, wide):
    return np.random.default_rng(seed).integers(60, 250, (high // 2, wide // 2)).repeat(2, 0).repeat(2, 1)


def gone(before, after):
    frames = np.stack([before] * CHANGE + [after] * (LENGTH - CHANGE)).astype(np.uint8)[..., None].repeat(3, -1)
    stream = EvidenceStream()
    stream.push(frames)
    return np.nan_to_num(stream.finish().gone)


def test_few_blocks_are_no_whole_picture():
    before, after = np.full((2, SIDE, SIDE), 120)
    before[40:48, 16:40], after[40:48, 64:88] = texture(1, 8, 24), texture(1, 8, 24)
    assert gone(before, after)[CHANGE] == pytest.approx(3 / ENOUGH)


def test_captions_that_follow_each_other_lose_nothing():
    """A title above them loses as many blocks of each as it has itself."""
    before = np.full((SIDE, SIDE), 120)
    before[16:32, 16:96] = texture(1, 16, 80)
    after = before.copy()
    before[96:104, 16:96], after[96:104, 16:96] = texture(2, 8, 80), texture(3, 8, 80)
    assert gone(before, after).max() == 0
    after[16:32, 16:56] = texture(4, 16, 40)  # ten blocks of twenty
    assert gone(before, after)[CHANGE] == pytest.approx((10 + 10) / (20 + 10))


def test_edges_of_black_bars_do_not_stay_for_the_picture():
    before, after = np.full((2, SIDE, SIDE), 120)
    before[40:56, 16:96], after[40:56, 16:96] = texture(1, 16, 80), texture(2, 16, 80)
    plain = gone(before, after)[CHANGE]
    for picture in (before, after):
        picture[:12] = picture[-12:] = 5
    assert gone(before, after)[CHANGE] == pytest.approx(plain) and plain == 1
