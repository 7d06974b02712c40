"""The reader of single views: its tokens, its words, its files."""

import json

import pytest
import torch

from mambamia_cli.errors import ModelError
from mambamia_cli.language.closeup import Closeup, CloseupConfig
from mambamia_cli.language.lexicon import Lexicon

SMALL = CloseupConfig(patches=9, vision_width=8, pools=3, score_width=6, hidden_width=16, output_width=12, tokens=2)


@pytest.fixture
def closeup():
    torch.manual_seed(3)
    return Closeup(SMALL).eval().requires_grad_(False)


def test_views_are_read_one_by_one(closeup):
    views = torch.randn(4, 5, 9, 8)
    tokens = closeup(views)
    assert tokens.shape == (4, 5, 2, 12)
    torch.testing.assert_close(tokens[2, 3], closeup(views[2, 3]), rtol=1e-5, atol=1e-5)


def test_what_stands_out_is_found_wherever_it_is_and_its_place_counts_only_as_learned(closeup):
    """Attention over patches: until places are learned, patches in another order are the same view."""
    view = torch.randn(9, 8)
    turned = view[torch.randperm(9)]
    torch.testing.assert_close(closeup(view), closeup(turned), rtol=1e-4, atol=1e-5)
    closeup.place.data[4] = 3.0
    assert not torch.allclose(closeup(view), closeup(turned), rtol=1e-2)


def test_its_words_have_its_temperature_and_keep_what_footage_has_in_common(closeup):
    words = Lexicon(["cat", "dog", "scene"], torch.randn(3, 12), common=torch.tensor([0.5, 0.0, -0.5]))
    closeup.log_scale.fill_(1.5)
    read, tokens = closeup.lexicon(words), torch.randn(2, 12)
    torch.testing.assert_close(read.scores(tokens) / words.scores(tokens), torch.full((2, 3), torch.tensor(1.5 - 3.0).exp().item()))
    assert torch.equal(read.common, words.common) and read.words == words.words
    wider = closeup.lexicon(words.extended(["unicorn"], lambda word: torch.ones(12)))
    assert wider.scores(tokens).shape == (2, 4)


def test_saved_and_read_again(closeup, tmp_path):
    view = torch.randn(9, 8)
    closeup.save_pretrained(tmp_path)
    torch.testing.assert_close(Closeup.from_pretrained(tmp_path)(view), closeup(view))
    closeup.half().save_pretrained(tmp_path)
    again = Closeup.from_pretrained(tmp_path)  # stored in half precision, computed in full
    assert again.fc1.weight.dtype == torch.float32
    torch.testing.assert_close(again(view), closeup.float()(view), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("config", ["[]", "{", json.dumps({"pools": 3, "colour": 1}), json.dumps({"pools": -1})])
def test_a_damaged_config_is_refused(closeup, tmp_path, config):
    closeup.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ModelError, match="closeup"):
        Closeup.from_pretrained(tmp_path)


def test_weights_of_another_size_are_refused(closeup, tmp_path):
    closeup.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**json.loads((tmp_path / "config.json").read_text()), "hidden_width": 20}))
    with pytest.raises(ModelError, match="does not fit"):
        Closeup.from_pretrained(tmp_path)
