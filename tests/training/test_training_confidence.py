"""Calibration: what is fitted is what the data was made with."""

import json

import numpy as np
import pytest

from mambamia_cli.language.matching import MatchRule
from mambamia_cli.training.confidence import Choice, fit_presence, fit_weights, write


def test_presence_is_fitted_as_it_was_drawn():
    rng = np.random.default_rng(1)
    odds = rng.uniform(-8, 8, 20_000)
    there = rng.random(20_000) < 1 / (1 + np.exp(-0.8 * (odds + 1.5)))
    slope, middle, _ = fit_presence(odds, there)
    # Words that are there and that are not count alike, which moves the middle to where both are equally likely so.
    assert slope == pytest.approx(0.8, abs=0.05)
    share = there.mean()
    assert middle == pytest.approx(-1.5 + np.log(share / (1 - share)) / 0.8, abs=0.1)


def test_what_tells_nothing_gets_no_weight():
    rng, choices = np.random.default_rng(2), []
    for _ in range(400):
        evidence = rng.normal(size=4) * 2
        evidence -= np.logaddexp.reduce(evidence)
        right = int(rng.choice(4, p=np.exp(evidence)))
        choices.append(Choice(evidence, rng.normal(size=4), right))
    assert fit_weights(choices)[:2] == (1.0, 0.0)
    swapped = [Choice(c.language, c.evidence, c.right) for c in choices]
    assert fit_weights(swapped)[1] == 1.0


def test_the_rule_is_written_into_the_models_config(tmp_path):
    (tmp_path / "config.json").write_text('{"name": "x", "evidence": {"slope": 3.0}}')
    write(MatchRule(slope=0.5, again=0.8), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["name"] == "x" and config["evidence"]["again"] == 0.8
    assert MatchRule.from_config(config["evidence"]) == MatchRule(slope=0.5, again=0.8)
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]
