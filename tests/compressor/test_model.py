"""The whole compressor: shapes, names of the family, the paper's size, saving, and errors with a remedy."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from mambamia_cli.compressor.config import CompressorConfig
from mambamia_cli.compressor.gpa import GatedPatchAggregation
from mambamia_cli.compressor.model import MambaMiaCompressor
from mambamia_cli.errors import ModelError, OutputError

TINY = CompressorConfig(
    vision_width=12, hidden_size=16, grid_rows=2, patches_per_row=3, num_layers=2, state_size=8, head_dim=8,
    chunk_size=16, taa_state_size=8,
)  # fmt: skip


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MambaMiaCompressor(TINY).eval()


def test_gpa_equations_by_hand():
    gpa = GatedPatchAggregation(2, 2, gate_min=0.0, gate_max=1.0).eval()
    with torch.no_grad():
        gpa.weight_fc.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        gpa.gate_fc.weight.copy_(torch.tensor([[0.0, 1.0]]))
    q = torch.tensor([[[0.0, torch.tensor(3.0).log()]]])  # alpha = (1/4, 3/4), gate = 3/4
    x = torch.tensor([[[[4.0, 0.0], [0.0, 8.0]]]])  # a = (1, 6)
    expected = 0.25 * q[0, 0] + 0.75 * torch.tensor([1.0, 6.0])
    torch.testing.assert_close(gpa(q, x)[0, 0], expected)


def test_gpa_starts_as_the_mean_with_a_half_open_gate():
    gpa = GatedPatchAggregation(16, 4).eval()
    q, x = torch.randn(2, 3, 16), torch.randn(2, 3, 4, 16)
    torch.testing.assert_close(gpa(q, x), (q + x.mean(2)) / 2, atol=5e-3, rtol=0)


def test_gpa_gate_is_squeezed():
    gpa = GatedPatchAggregation(2, 1).eval()
    q, x = torch.ones(1, 1, 2), torch.zeros(1, 1, 1, 2)
    for bias, gate in ((100.0, 0.99), (-100.0, 0.01)):
        torch.nn.init.constant_(gpa.gate_fc.bias, bias)
        torch.testing.assert_close(gpa(q, x), (1 - gate) * q)


@pytest.mark.parametrize("ssm", ["mamba1", "mamba2"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layout", ["frames", "rows"])
def test_shapes_and_gradients(ssm, bidirectional, layout):
    config = dataclasses.replace(
        TINY, ssm=ssm, bidirectional=bidirectional, taa_bidirectional=bidirectional, taa_layout=layout, output_size=10
    )
    model = MambaMiaCompressor(config)
    out = model(torch.randn(2, 5, 6, 12))
    assert out.anchors.shape == (2, 5, 2, 10) and out.delta.shape == (2, 5)
    assert (out.delta > 0).all()
    (out.anchors.square().mean() + out.delta.mean()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("ssm", ["mamba1", "mamba2"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("m", [1, 2, 7])  # 8 tokens a frame: a chunk holds two frames
def test_what_nobody_reads_of_the_last_layer_changes_nothing(ssm, bidirectional, m):
    """Of the last layer the queries alone are read. With gradients and without, they are what all of it would have given them."""
    torch.manual_seed(0)
    model = MambaMiaCompressor(dataclasses.replace(TINY, ssm=ssm, bidirectional=bidirectional)).eval()
    patches, wanted = torch.randn(3, m, 6, 12), [p for name, p in model.named_parameters() if not name.startswith("taa.")]
    hidden = model.insert_queries(patches)
    for block in model.model.layers:
        hidden = block(hidden)
    whole, anchors = model.keep_queries(hidden), model.gather(patches)
    torch.testing.assert_close(anchors, whole, atol=1e-6, rtol=1e-5)
    weight = torch.linspace(-1, 1, whole.numel()).view_as(whole)
    for ours, reference in zip(*(torch.autograd.grad((y * weight).sum(), wanted) for y in (anchors, whole)), strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(model.gather(patches), whole, atol=1e-6, rtol=1e-5)


def test_delta_starts_between_a_tenth_and_a_half(model):
    delta = MambaMiaCompressor(CompressorConfig(num_layers=1)).eval()(torch.randn(1, 8, 49, 432)).delta
    assert 0.1 < delta.min() and delta.max() < 0.5


def test_direction_of_sight():
    """A change in the last frame reaches the first frame's anchors only when stage 1 is bi-directional."""
    for bidirectional in (False, True):
        torch.manual_seed(0)
        model = MambaMiaCompressor(dataclasses.replace(TINY, bidirectional=bidirectional)).eval()
        a = torch.randn(1, 4, 6, 12)
        b = a.clone()
        b[:, 3] += 1
        changed = (model(a).anchors[:, 0] - model(b).anchors[:, 0]).abs().max() > 0
        assert changed == bidirectional


def test_parameter_names_of_the_family(model):
    names = set(model.state_dict())
    layer = {"norm.weight", "weight_fc.weight", "weight_fc.bias", "gate_fc.weight", "gate_fc.bias"}
    mixer = {"in_proj.weight", "out_proj.weight"}
    for twin in ("", "_b"):
        mixer |= {f"conv1d{twin}.weight", f"conv1d{twin}.bias", f"dt_bias{twin}", f"D{twin}", f"norm{twin}.weight"}
    mixer |= {"A_log", "A_b_log"}
    expected = {"query_token", "input_proj.weight", "input_proj.bias", "model.norm_f.weight"}
    for i in range(2):
        expected |= {f"model.layers.{i}.{name}" for name in layer} | {
            f"model.layers.{i}.mixer.{name}" for name in mixer
        }
    assert {name for name in names if not name.startswith("taa.")} == expected
    assert model.model.layers[0].mixer.in_proj.weight.shape[0] == 32 + 32 + 8 + 8 + 4  # [z, x, B, C, dt]


def test_projections_are_absent_when_not_needed():
    names = MambaMiaCompressor(dataclasses.replace(TINY, vision_width=16)).state_dict()
    assert not any(name.startswith(("input_proj", "output_proj")) for name in names)
    names = MambaMiaCompressor(dataclasses.replace(TINY, output_size=4)).state_dict()
    assert "output_proj.weight" in names


def test_paper_size():
    with torch.device("meta"):
        model = MambaMiaCompressor(CompressorConfig.paper())
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(247, abs=2)


def test_save_and_load(model, tmp_path):
    model.save_pretrained(tmp_path / "m")
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["config.json", "model.safetensors"]
    again = MambaMiaCompressor.from_pretrained(tmp_path / "m")
    assert again.config == model.config and not again.training
    x = torch.randn(1, 3, 6, 12)
    assert torch.equal(again(x).anchors, model(x).anchors) and torch.equal(again(x).delta, model(x).delta)
    again(x).delta.sum().backward()
    assert again.query_token.grad is not None


def _damage(folder, how):
    weights, config = folder / "model.safetensors", folder / "config.json"
    if how == "no weights":
        weights.unlink()
    elif how == "no config":
        config.unlink()
    elif how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif how == "text":
        weights.write_text("not weights")
    elif how == "not json":
        config.write_text("{")
    elif how == "unknown key":
        config.write_text(json.dumps({**json.loads(config.read_text()), "colour": 1}))
    elif how == "wrong size":
        config.write_text(json.dumps({**json.loads(config.read_text()), "vision_width": 13}))
    elif how == "wrong type":
        config.write_text(json.dumps({**json.loads(config.read_text()), "num_layers": "two"}))
    else:
        state = load_file(weights)
        if how == "lacks":
            del state["query_token"]
        elif how == "extra":
            state["surplus"] = torch.zeros(1)
        elif how == "nan":
            state["query_token"][0] = float("nan")
        save_file(state, weights)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("no weights", "missing"), ("no config", "cannot read"), ("truncated", "damaged"), ("text", "damaged"),
        ("not json", "not valid JSON"), ("unknown key", "colour"), ("wrong size", "input_proj.weight is"),
        ("wrong type", "num_layers"), ("lacks", "lacks query_token"), ("extra", "unknown surplus"), ("nan", "finite"),
    ],
)  # fmt: skip
def test_bad_folders_are_named_with_a_remedy(model, tmp_path, how, says):
    model.save_pretrained(tmp_path)
    _damage(tmp_path, how)
    with pytest.raises(ModelError, match=says) as caught:
        MambaMiaCompressor.from_pretrained(tmp_path)
    assert caught.value.hint


def test_saving_where_nothing_can_be_written(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        model.save_pretrained(tmp_path / "file" / "m")


@pytest.mark.parametrize(
    "wrong",
    [{"ssm": "mamba3"}, {"head_dim": 7}, {"n_groups": 2}, {"taa_layout": "x"}, {"hidden_size": 0}, {"expand": 0.3}],
)
def test_config_values_that_do_not_fit(wrong):
    with pytest.raises(ModelError):
        dataclasses.replace(TINY, **wrong)


def test_wrong_patches_are_refused(model):
    for shape in ((1, 0, 6, 12), (1, 3, 5, 12), (1, 3, 6, 11), (3, 6, 12)):
        with pytest.raises(ValueError, match="patches must be"):
            model(torch.randn(shape))
