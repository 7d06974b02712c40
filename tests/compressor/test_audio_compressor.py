"""The audio compressor equals a plain composition around transformers' Mamba-2 mixer, whole, in pieces and beyond windows."""

import pytest
import torch
from fixtures.relatives import compress

from mambamia_cli.compressor.audio import AudioCompressor, AudioCompressorConfig, AudioStream
from mambamia_cli.errors import ModelError

SMALL = AudioCompressorConfig(input_size=24, hidden_size=64, output_size=48, block=5, num_layers=2, state_size=16)


def small(**changes) -> AudioCompressor:
    torch.manual_seed(0)
    model = AudioCompressor(AudioCompressorConfig(**{**vars(SMALL), **changes})).eval()
    with torch.no_grad():  # gates and weights away from their even start, so that a mistake in them shows
        for layer in model.model.layers:
            for linear in (layer.weight_fc, layer.gate_fc):
                linear.weight.normal_()
                linear.bias.normal_()
    return model


@pytest.mark.parametrize("length", [1, 5, 12, 65])
@pytest.mark.parametrize("sizes", [{}, {"input_size": 64, "output_size": 64}], ids=["projected", "bare"])
def test_equals_the_reference(length, sizes):
    model = small(**sizes)
    features = torch.randn(length, model.config.input_size)
    with torch.inference_mode():
        got, wanted = model(features), compress(model, features)
    assert got.shape == (-(-length // 5), model.config.output_size)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pieces", [(33,), (1,) * 33, (4, 0, 7, 22), (10, 10, 10, 3)])
def test_pieces_give_what_one_pass_gives(pieces):
    model = small()
    features = torch.randn(33, 24)
    with torch.inference_mode():
        stream = AudioStream(model)
        got = torch.cat([*(stream.push(part) for part in features.split(list(pieces))), stream.finish()])
        torch.testing.assert_close(got, model(features), rtol=1e-4, atol=1e-5)


def test_what_was_heard_earlier_reaches_later_tokens_and_not_the_other_way():
    model, features = small(), torch.randn(20, 24)
    with torch.inference_mode():
        whole, other = model(features), model(torch.cat([features[:15], torch.randn(5, 24)]))
        later = model(torch.cat([torch.randn(5, 24), features[5:]]))
    torch.testing.assert_close(whole[:3], other[:3])
    assert not torch.allclose(whole[3], later[3], atol=1e-4)


def test_no_sound_gives_no_token():
    assert small()(torch.empty(0, 24)).shape == (0, 48)


def test_names_are_the_published_ones():
    names = set(small().state_dict())
    mixer = ("in_proj.weight", "conv1d.weight", "conv1d.bias", "dt_bias", "A_log", "D", "norm.weight", "out_proj.weight")
    layer = [f"mixer.{n}" for n in mixer] + ["norm.weight"] + [f"{n}_fc.{p}" for n in ("weight", "gate") for p in ("weight", "bias")]
    assert names == {"query_token", "model.norm_f.weight", *(f"{p}_proj.{q}" for p in ("input", "output") for q in ("weight", "bias")),
                     *(f"model.layers.{i}.{n}" for i in range(2) for n in layer)}  # fmt: skip


def test_the_published_sizes_make_a_model_and_bad_ones_a_sentence():
    with torch.device("meta"):
        assert sum(p.numel() for p in AudioCompressor(AudioCompressorConfig()).parameters()) == pytest.approx(131e6, rel=0.03)
        with pytest.raises(ModelError, match="not a multiple of head_dim"):
            AudioCompressor(AudioCompressorConfig(hidden_size=100, expand=1))
