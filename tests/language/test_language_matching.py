"""Frames are matched with words: odds, smoothing over time, and the ranges that come of it."""

import pytest
import torch

from mambamia_cli.errors import ModelError
from mambamia_cli.language.lexicon import Lexicon
from mambamia_cli.language.matching import MatchRule, log_odds, ranges, smoothed


@pytest.fixture
def lexicon():
    torch.manual_seed(0)
    return Lexicon(["cat", "guitar", "acoustic guitar", "scene"], torch.randn(4, 32)).requires_grad_(False)


def test_odds_are_high_where_a_token_is_the_word_or_a_kind_of_it(lexicon):
    tokens = torch.stack([lexicon.table[[i, 3]] for i in (3, 0, 2, 1)])  # (m, t, width): scene, cat, acoustic guitar, guitar
    odds = log_odds(lexicon, tokens, ["cat", "guitar"])
    assert (odds > 0).tolist() == [[False, True, False, False], [False, False, True, True]]


def test_smoothing_is_the_mean_of_the_frames_within_reach():
    odds = torch.tensor([[0.0, 3.0, 6.0, 0.0]])
    torch.testing.assert_close(smoothed(odds, [0, 1, 2, 10], 2.0), torch.tensor([[1.5, 3.0, 4.5, 0.0]]))
    torch.testing.assert_close(smoothed(odds, [0, 1, 2, 10], 0.0), odds)


def test_ranges_best_first_without_the_slopes_of_better_ones():
    odds = [0, 0, 5, 9, 5, 0, 0, 7, 7, 0]
    found = ranges(odds, range(10), least=1, drop=5, end=10)
    assert [(r.start, r.end, r.peak) for r in found] == [(2, 5, 9), (7, 9, 7)]
    assert ranges(odds, range(10), least=10, drop=5, end=10) == []
    assert len(ranges(odds, range(10), least=-1, drop=5, end=10, most=1)) == 1


@pytest.mark.parametrize("values", [{"slop": 1}, {"slope": "1"}, {"middle": True}, {"drop": float("nan")}])
def test_bad_settings_are_refused(values):
    with pytest.raises(ModelError, match="evidence setting"):
        MatchRule.from_config(values)
