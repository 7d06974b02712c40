"""The stream against the whole pass, frame by frame: chunk sizes, odd lengths, windows, states handed on, memory."""

import dataclasses
import gc
import itertools

import pytest
import torch

from mambamia_cli.compressor.config import CompressorConfig
from mambamia_cli.compressor.model import CompressorOutput, MambaMiaCompressor
from mambamia_cli.compressor.stream import StreamingCompressor

TINY = CompressorConfig(
    vision_width=12, hidden_size=16, output_size=10, grid_rows=2, patches_per_row=3, num_layers=2, state_size=8,
    head_dim=8, chunk_size=16, taa_state_size=8,
)  # fmt: skip
FORWARD_ONLY = dataclasses.replace(TINY, bidirectional=False)


def make(config):
    """A random model whose states matter: steps are long enough that many frames back are still felt."""
    torch.manual_seed(0)
    model = MambaMiaCompressor(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("weight_fc.weight", "gate_fc.weight")):
                parameter.normal_()  # GPA away from its flat start
            elif name.endswith(("A_log", "A_b_log")):
                parameter.fill_(0.0)
    return model


def patches(m, seed=1):
    return torch.randn(m, 6, 12, generator=torch.Generator().manual_seed(seed))


def run(stream, frames, push):
    outputs = []
    for piece in frames.split(push):
        outputs += stream.push(piece)
    outputs += stream.finish()
    return CompressorOutput(torch.cat([o.anchors for o in outputs]), torch.cat([o.delta for o in outputs]))


def whole(model, frames):
    with torch.no_grad():
        out = model(frames.unsqueeze(0))
    return CompressorOutput(out.anchors[0], out.delta[0])


def assert_same(a, b):
    torch.testing.assert_close(a.anchors, b.anchors, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(a.delta, b.delta, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("ssm", ["mamba1", "mamba2"])
@pytest.mark.parametrize("chunk", [1, 3, 7, 32])
@pytest.mark.parametrize("m", [1, 2, 33])
def test_one_window_is_the_whole_pass(m, chunk, ssm):
    model = make(dataclasses.replace(TINY, ssm=ssm))
    frames = patches(m)
    assert_same(run(StreamingCompressor(model, chunk_frames=chunk), frames, push=5), whole(model, frames))


@pytest.mark.parametrize("layout", ["frames", "rows"])
@pytest.mark.parametrize("taa_bidirectional", [False, True])
@pytest.mark.parametrize("gpa", [False, True])
def test_one_window_of_every_kind(layout, taa_bidirectional, gpa):
    model = make(dataclasses.replace(TINY, taa_layout=layout, taa_bidirectional=taa_bidirectional, gpa=gpa))
    frames = patches(21)
    assert_same(run(StreamingCompressor(model, chunk_frames=4), frames, push=4), whole(model, frames))


@pytest.mark.parametrize("ssm", ["mamba1", "mamba2"])
@pytest.mark.parametrize(("chunk", "push"), [(1, 1), (3, 7), (7, 3), (32, 100)])
def test_forward_only_is_exact_over_any_length(chunk, push, ssm):
    """Step by step (chunk 1) = chunks = whole, far beyond a window: stage 1's and the TAA's states are handed on."""
    model = make(dataclasses.replace(FORWARD_ONLY, ssm=ssm))
    frames = patches(101)
    stream = StreamingCompressor(model, window=8, overlap=3, chunk_frames=chunk)
    assert_same(run(stream, frames, push), whole(model, frames))


@pytest.mark.parametrize(("chunk", "push"), itertools.product([1, 3, 7, 32], [1, 5, 60]))
def test_windows_do_not_depend_on_chunks_or_pushes(chunk, push):
    model = make(TINY)
    frames = patches(53)
    expected = run(StreamingCompressor(model, window=20, overlap=6, chunk_frames=20), frames, push=53)
    got = run(StreamingCompressor(model, window=20, overlap=6, chunk_frames=chunk), frames, push)
    assert len(got.delta) == 53
    assert_same(got, expected)


def by_hand(model, frames, window, overlap):
    """What windows should give, from whole passes of mixers with states, written without chunks or streaming."""
    states = [None] * (len(model.model.layers) + 1)
    outputs, start = [], 0
    while start < len(frames):
        last = start + window >= len(frames)
        part = frames[start : start + window].unsqueeze(0)
        step = part.shape[1] if last else window - overlap
        hidden = model.insert_queries(part)
        for i, block in enumerate(model.model.layers):
            u = block.aggregate(hidden)
            tokens = step * model.config.tokens_per_frame
            _, at_step = block.mixer.branch(block.mixer.project(u[:, :tokens]), states[i])
            y, _ = block.mixer.branch(block.mixer.project(u), states[i])
            y = y + block.mixer.branch(block.mixer.project(u), reverse=True)[0]
            hidden = hidden + block.mixer.out_proj(y).view_as(hidden)
            states[i] = at_step
        anchors = model.keep_queries(hidden)
        sequence = anchors.flatten(2)
        u = model.taa.norm(sequence)
        _, at_step = model.taa.mixer.branch(model.taa.mixer.project(u[:, :step]), states[-1])
        y, _ = model.taa.mixer.branch(model.taa.mixer.project(u), states[-1])
        states[-1] = at_step
        anchors, delta = model.taa.finish(sequence + model.taa.mixer.out_proj(y), anchors.shape)
        outputs.append(CompressorOutput(model.output_proj(anchors)[0, :step], delta[0, :step]))
        start += step
    return CompressorOutput(torch.cat([o.anchors for o in outputs]), torch.cat([o.delta for o in outputs]))


@pytest.mark.parametrize("m", [20, 21, 34, 35, 53])
def test_windows_are_what_they_say(m):
    model = make(TINY)
    frames = patches(m)
    with torch.no_grad():
        expected = by_hand(model, frames, 20, 6)
    assert_same(run(StreamingCompressor(model, window=20, overlap=6, chunk_frames=3), frames, push=4), expected)


def test_forward_state_crosses_windows():
    """The first frame is felt in the last window, and a window's end does not make the frames after it start afresh."""
    model = make(TINY)
    a = patches(60)
    b = a.clone()
    b[0] += 3
    outputs = [run(StreamingCompressor(model, window=20, overlap=5, chunk_frames=4), f, push=8) for f in (a, b)]
    assert (outputs[0].anchors[-5:] - outputs[1].anchors[-5:]).abs().max() > 1e-6
    afresh = run(StreamingCompressor(model, window=20, overlap=5, chunk_frames=4), a[15:], push=8)
    assert (outputs[0].anchors[15:20] - afresh.anchors[:5]).abs().max() > 1e-3


def test_overlap_brings_windows_near_the_whole_pass():
    """More frames to the right, nearer to the whole pass; the limit is exact."""
    model = make(TINY)
    frames = patches(60)
    full = whole(model, frames)
    error = []
    for overlap in (0, 4, 16):
        got = run(StreamingCompressor(model, window=30, overlap=overlap, chunk_frames=8), frames, push=8)
        error.append((got.anchors - full.anchors).abs().max().item())
    assert error[0] > error[1] > error[2]


def test_frames_come_in_order_and_early():
    model = make(TINY)
    stream = StreamingCompressor(model, window=10, overlap=4, chunk_frames=5)
    assert stream.push(patches(10)) == []
    assert [len(o.delta) for o in stream.push(patches(1))] == [6]
    assert [len(o.delta) for o in stream.finish()] == [5]


def test_pushed_buffer_may_be_reused():
    model = make(TINY)
    frames = patches(12)
    stream = StreamingCompressor(model, chunk_frames=4)
    buffer = torch.empty(3, 6, 12)
    for i in range(0, 12, 3):
        buffer.copy_(frames[i : i + 3])
        assert stream.push(buffer) == []
    assert_same(stream.finish()[0], whole(model, frames))


@pytest.mark.parametrize("config", [TINY, FORWARD_ONLY], ids=["both", "forward"])
def test_held_memory_does_not_grow(config):
    """What the stream keeps between pushes: the same number of tensor elements after 10 windows as after 2."""
    stream = StreamingCompressor(make(config), window=20, overlap=6, chunk_frames=5)

    def held():
        tensors = list(stream._waiting) + [part for state in stream._states if state for part in state]
        return sum(t.untyped_storage().nbytes() for t in tensors)

    sizes = []
    for _ in range(40):
        stream.push(patches(7))
        sizes.append(held())
    assert max(sizes[10:]) <= max(sizes[:10])


def test_working_memory_does_not_grow():
    """No list entry, and less than one Python object a push, more after 60 pushes than after 40: an output kept by mistake is
    four objects a push. Counted and not weighed: the bytes that allocators hold change by themselves, and in a long test run
    an object or two of other modules come and go."""
    stream = StreamingCompressor(make(FORWARD_ONLY), chunk_frames=8)
    piece = patches(8)

    def alive_after(pushes):
        for _ in range(pushes):
            stream.push(piece)
        gc.collect()  # autograd functions leave small cycles behind, also without gradients
        held = [part for part in vars(stream).values() if isinstance(part, (list, dict))]
        return len(gc.get_objects()), sum(map(len, held))

    alive_after(20)  # what is made once and kept
    objects, entries = alive_after(20)
    objects_later, entries_later = alive_after(20)
    assert entries_later == entries
    assert objects_later - objects < 20


def test_misuse_is_refused():
    model = make(TINY)
    for sizes in ({"window": 5, "overlap": 5}, {"overlap": -1}, {"chunk_frames": 0}):
        with pytest.raises(ValueError, match="overlap < window"):
            StreamingCompressor(model, **sizes)
    with pytest.raises(ValueError, match="eval"):
        StreamingCompressor(model.train())
    stream = StreamingCompressor(model.eval())
    with pytest.raises(ValueError, match="patches must be"):
        stream.push(torch.zeros(2, 5, 12))
    assert stream.push(patches(0)) == []
    assert stream.finish() == []
    with pytest.raises(ValueError, match="finish"):
        stream.push(patches(1))
    with pytest.raises(ValueError, match="finish"):
        stream.finish()


def test_the_embedded_weights_need_no_more_overlap_than_their_folder_says(bikes):
    """What a window's last frames lack to their right, later than the overlap, changes nothing beyond rounding. On a real clip."""
    from mambamia_cli.pipeline import Models
    from mambamia_cli.video import SampleSpec, open_frames

    models = Models("mambamia-tiny", device="cpu")
    assert models.folder.overlap == 16
    with open_frames(bikes, SampleSpec(fps=None, max_frames=160, size=models.encoder.input_size)) as chunks, torch.inference_mode():
        seen = torch.cat([models.encoder.encode(torch.from_numpy(c.frames).permute(0, 3, 1, 2)) for c in chunks])  # (m, n, d_vision)
    exact = run(StreamingCompressor(models.compressor, window=1000, overlap=64), seen, 16)
    short = run(StreamingCompressor(models.compressor, window=48, overlap=models.folder.overlap), seen, 16)
    torch.testing.assert_close(short.delta, exact.delta, rtol=2e-5, atol=1e-6)
    torch.testing.assert_close(short.anchors, exact.anchors, rtol=1e-4, atol=2e-5)
    none = run(StreamingCompressor(models.compressor, window=48, overlap=0), seen, 16)
    assert (none.delta - exact.delta).abs().max() > 1e-3  # without any it does matter


@pytest.mark.parametrize("ssm", ["mamba1", "mamba2"])
def test_rounded_projections(ssm):
    """Stage 1's alone, of Mamba-2; in chunks as in one pass, near the exact ones and not equal to them."""
    frames, config = patches(33), dataclasses.replace(TINY, ssm=ssm)
    exact, rounded = whole(make(config), frames), make(config).round_projections()
    halves = {name for name, p in rounded.named_parameters() if p.dtype == torch.bfloat16}
    kinds = ("in_proj", "out_proj") if ssm == "mamba2" else ()
    assert halves == {f"model.layers.{i}.mixer.{kind}.weight" for i in range(2) for kind in kinds}
    got = run(StreamingCompressor(rounded, chunk_frames=7), frames, push=5)
    torch.testing.assert_close(got.delta, whole(rounded, frames).delta, atol=5e-3, rtol=5e-3)
    torch.testing.assert_close(got.delta, exact.delta, atol=3e-2, rtol=3e-2)
    assert torch.equal(whole(rounded, frames).delta, exact.delta) == (ssm == "mamba1")
