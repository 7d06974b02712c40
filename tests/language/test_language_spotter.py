"""The readers of single views: their tokens, their words, their files."""

import json
from dataclasses import replace

import pytest
import torch

from mambamia_cli.compressor.config import CompressorConfig
from mambamia_cli.compressor.model import MambaMiaCompressor
from mambamia_cli.errors import ModelError
from mambamia_cli.language.lexicon import Lexicon
from mambamia_cli.language.spotter import Spotter, SpotterConfig

ROWS = CompressorConfig(vision_width=8, hidden_size=16, grid_rows=3, patches_per_row=3, num_layers=2, state_size=4, head_dim=8, chunk_size=16)
SMALL = SpotterConfig(ROWS, pools=3, score_width=6, hidden_width=16, output_width=12, tokens=2, readers=("view-pools", "proposed"))


@pytest.fixture
def spotter():
    torch.manual_seed(3)
    return Spotter(SMALL).eval().requires_grad_(False)


def test_views_are_read_one_by_one(spotter):
    views = torch.randn(4, 5, 9, 8)
    tokens = spotter(views)
    assert tokens.shape == (4, 5, 2, 2, 12)  # two readers, two tokens
    assert not torch.allclose(tokens[..., 0, :, :], tokens[..., 1, :, :])
    torch.testing.assert_close(tokens[2, 3], spotter(views[2, 3]), rtol=1e-5, atol=1e-5)


def test_the_proposed_reader_gathers_as_the_compressor_does_a_video_of_one_frame(spotter):
    """The same weights in both: what a reader gathers of views is stage 1's anchors of as many videos."""
    compressor, reader = MambaMiaCompressor(ROWS).eval(), spotter.readers[1]
    compressor.load_state_dict(reader.stage.state_dict() | {n: t for n, t in compressor.state_dict().items() if n.startswith("taa.")})
    views = torch.randn(2, 3, 9, 8)
    anchors = torch.stack([compressor.gather(view[None, None])[0, 0] for view in views.flatten(0, 1)])  # (6, g, d)
    torch.testing.assert_close(reader.gather(views), anchors.flatten(1).unflatten(0, (2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["attention-pool", "bimba", "self-attention", "pooling", "vanilla"])
def test_a_baseline_reads_views_in_its_place(kind, tmp_path):
    spotter = Spotter(replace(SMALL, readers=("view-pools", kind))).eval()
    views = torch.randn(4, 9, 8)
    anchors = spotter.readers[1].stage(views[:, None]).anchors  # each view is a video of one frame
    torch.testing.assert_close(spotter.readers[1].gather(views), anchors.flatten(1))
    assert spotter(views).shape == (4, 2, 2, 12)
    spotter.save_pretrained(tmp_path)
    torch.testing.assert_close(Spotter.from_pretrained(tmp_path)(views), spotter(views))


def test_what_stands_out_is_found_wherever_it_is_and_its_place_counts_only_as_learned(spotter):
    """Attention over patches: until places are learned, patches in another order are the same view."""
    view = torch.randn(9, 8)
    turned = view[torch.randperm(9)]
    pools = spotter.readers[0]
    torch.testing.assert_close(pools(view), pools(turned), rtol=1e-4, atol=1e-5)
    pools.place.data[4] = 3.0
    assert not torch.allclose(pools(view), pools(turned), rtol=1e-2)


def test_its_words_have_each_readers_temperature_and_keep_what_footage_has_in_common(spotter):
    words = Lexicon(["cat", "dog", "scene"], torch.randn(3, 12), common=torch.tensor([0.5, 0.0, -0.5]))
    spotter.readers[1].log_scale.fill_(1.5)
    (first, read), tokens = spotter.lexicons(words), torch.randn(2, 12)
    torch.testing.assert_close(first.scores(tokens), words.scores(tokens))  # as it was begun with
    torch.testing.assert_close(read.scores(tokens) / words.scores(tokens), torch.full((2, 3), torch.tensor(1.5 - 3.0).exp().item()))
    assert torch.equal(read.common, words.common) and read.words == words.words
    wider = spotter.readers[1].lexicon(words.extended(["unicorn"], lambda word: torch.ones(12)))
    assert wider.scores(tokens).shape == (2, 4)


def test_saved_and_read_again(spotter, tmp_path):
    view = torch.randn(9, 8)
    spotter.save_pretrained(tmp_path)
    torch.testing.assert_close(Spotter.from_pretrained(tmp_path)(view), spotter(view))
    spotter.half().save_pretrained(tmp_path)
    again = Spotter.from_pretrained(tmp_path)  # stored in half precision, computed in full
    assert again.readers[0].fc1.weight.dtype == torch.float32
    torch.testing.assert_close(again(view), spotter.float()(view), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("config", ["[]", "{", json.dumps({"pools": 3, "colour": 1}), json.dumps({"pools": -1}),
                                    {"readers": []}, {"readers": ["pool"]}, {"pools": -1}, {"colour": 1}, {"compressor": {"head_dim": 5}}])
def test_a_damaged_config_is_refused(spotter, tmp_path, config):
    spotter.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(config if isinstance(config, str) else json.dumps({**json.loads(path.read_text()), **config}))
    with pytest.raises(ModelError, match="spotter"):
        Spotter.from_pretrained(tmp_path)


def test_weights_of_another_size_are_refused(spotter, tmp_path):
    spotter.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**json.loads((tmp_path / "config.json").read_text()), "hidden_width": 20}))
    with pytest.raises(ModelError, match="does not fit"):
        Spotter.from_pretrained(tmp_path)
