"""A window of the compressor as one graph: torch.compile(fullgraph=True) refuses whatever reads a number of a tensor or has a
shape that hangs on values, which are also what a CUDA graph cannot hold. See the docstring of compressor/__init__.py."""

import dataclasses

import pytest
import torch
from torch._dynamo.utils import counters

from mambamia_cli.compressor.config import CompressorConfig
from mambamia_cli.compressor.model import MambaMiaCompressor
from mambamia_cli.compressor.stream import StreamingCompressor

CONFIG = CompressorConfig(vision_width=24, hidden_size=32, grid_rows=2, patches_per_row=3, num_layers=1, state_size=8, head_dim=16, chunk_size=16,
                          taa_state_size=8)  # fmt: skip
READS = {"item", "tolist", "nonzero", "aten._local_scalar_dense.default", "aten.nonzero.default", "cpu", "numpy"}


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def streamed(model, patches, monkeypatch=None, compile_with=None):
    """All outputs, one after the other; graphs that there were after each window."""
    stream = StreamingCompressor(model, window=12, overlap=4, chunk_frames=8)
    after = []
    if compile_with is not None:
        compiled = torch.compile(stream._compress, fullgraph=True, backend=compile_with, dynamic=False)

        def note(window, step):
            result = compiled(window, step)
            after.append(counters["stats"]["unique_graphs"])
            return result

        monkeypatch.setattr(stream, "_compress", note)
    outputs = stream.push(patches)
    return torch.cat([o.anchors.flatten() for o in outputs] + [o.delta for o in outputs]), after


@pytest.mark.parametrize("changed", [{}, {"bidirectional": False, "taa_layout": "rows"}, pytest.param({"ssm": "mamba1"}, marks=pytest.mark.slow)],
                         ids=["both ways", "forward only", "mamba1"])  # fmt: skip
def test_a_window_is_one_graph(monkeypatch, changed):
    torch.manual_seed(0)
    model = MambaMiaCompressor(dataclasses.replace(CONFIG, **changed)).eval()
    patches = torch.randn(12 + 3 * 8 + 1, 6, 24)
    expected, _ = streamed(model, patches)
    called: set[str] = set()

    def keep(graph, _inputs):
        called.update(str(getattr(node.target, "__name__", node.target)) for node in graph.graph.nodes)
        return graph.forward

    got, after = streamed(model, patches, monkeypatch, keep)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    # One graph for the first window, which takes up no state, one for all that follow it.
    assert len(after) >= 4 and after[0] == 1 and after[1:] == [2] * (len(after) - 1)
    assert called and not called & READS


@pytest.mark.slow
def test_the_same_through_aot(monkeypatch):
    """With autograd's own tracing, which turns in-place work on the window into values."""
    torch.manual_seed(0)
    model = MambaMiaCompressor(CONFIG).eval()
    patches = torch.randn(12 + 2 * 8 + 1, 6, 24)
    expected, _ = streamed(model, patches)
    got, after = streamed(model, patches, monkeypatch, "aot_eager")
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    assert after == [1, 2, 2]


def test_a_read_within_a_window_would_be_refused(monkeypatch):
    """The check itself: with one number of delta read inside, there is no graph."""
    model = MambaMiaCompressor(CONFIG).eval()
    finish = model.taa.finish

    def reading(frames, shape):
        anchors, delta = finish(frames, shape)
        return anchors * (2 if delta.sum().item() > 0 else 1), delta

    monkeypatch.setattr(model.taa, "finish", reading)
    with pytest.raises(torch._dynamo.exc.TorchDynamoException):
        streamed(model, torch.randn(13, 6, 24), monkeypatch, "eager")
