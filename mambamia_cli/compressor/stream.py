"""The compressor over a video of any length, chunk of frames by chunk of frames, in bounded memory.

Windows. Frames are gathered into windows of `window` frames that overlap by `overlap`. The next window begins where this
one's overlap begins, in the forward state this window had there, so the forward direction sees the whole video. The
backward direction sees to the end of its window, so the frames of an overlap are handed out from the later window: every
frame but the video's last ones has at least `overlap` frames to its right. With one window, or with a forward-only
model, the numbers are those of the whole pass.

Chunks. A window is worked through layer by layer, `chunk_frames` frames at a time: the backward branch right to left,
each chunk handing its state and convolution tail to the one on its left, then the forward branch left to right, the sum,
out_proj and the residual. Every number is the same whatever the chunk size, up to rounding. What is held is the window's
patches, its hidden states and one branch's output; everything wider lives for one chunk. With `offload` these three wait
in host memory and come to the device a chunk at a time: slower, the same numbers.

A model that looks forward only needs no windows: each chunk goes through all layers and out as it comes.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mambamia_cli.compressor import kernels
from mambamia_cli.compressor.mixer import Mamba2Mixer, MixerState
from mambamia_cli.compressor.model import CompressorOutput, MambaMiaCompressor


class StreamingCompressor:
    """push(patches (m, n, d_vision)) any number of times, then finish() once; both return a list of CompressorOutput with
    anchors (m', g, d) and delta (m',), in order: together one for each frame pushed.

    Patches may come in any float dtype and on any device: they take the model's. push is take_in and then work. A call of
    take_in, work or finish that fails for want of memory has changed nothing that counts, and may be made again after
    `smaller()`: windows that were finished stay finished.
    Raises ValueError for sizes that do not fit and when used after finish(). Runs without gradients.
    """

    def __init__(
        self,
        model: MambaMiaCompressor,
        *,
        window: int = 384,
        overlap: int = 64,
        chunk_frames: int = 32,
        offload: bool = False,
    ):
        if chunk_frames < 1 or overlap < 0 or window <= overlap:
            raise ValueError(
                f"need chunk_frames >= 1 and 0 <= overlap < window, got {chunk_frames}, {overlap} and {window}"
            )
        if model.training:
            raise ValueError(
                "the model is in training mode, where dropout makes chunks disagree: call model.eval() first"
            )
        self.model = model
        weight = model.model.norm_f.weight
        self._device, self._dtype = weight.device, weight.dtype
        kernels.kernels_for(self._device.type)  # chosen here, so that no import happens within a compiled window
        self._store = torch.device("cpu") if offload else self._device  # where what waits is kept
        self.bidirectional = model.config.bidirectional or model.config.taa_bidirectional
        self.window = window if self.bidirectional else chunk_frames
        self.overlap = overlap if self.bidirectional else 0
        self.chunk_frames = chunk_frames
        self._waiting: list[Tensor] = []  # patches (m, n, d_vision) of the frames at and after the window's start
        self._count = 0  # frames in _waiting
        self._states: list[MixerState | None] = [None] * (len(model.model.layers) + 1)  # layers, then the TAA
        self._ready: list[CompressorOutput] = []  # finished windows of a call that failed later
        self._finished = False

    def smaller(self) -> bool:
        """Halve the chunk, which changes no number but rounding. False when it is one frame already."""
        if self.chunk_frames == 1:
            return False
        self.chunk_frames = (self.chunk_frames + 1) // 2
        if not self.bidirectional:
            self.window = self.chunk_frames
        return True

    def push(self, patches: Tensor) -> list[CompressorOutput]:
        """patches (m, n, d_vision), m >= 0: the next frames. Returns what has become final."""
        outputs = []
        # By the chunk, so that one huge push needs no more memory than many small ones.
        for piece in patches.split(self.chunk_frames) if len(patches) else (patches,):
            self.take_in(piece)
            outputs += self.work()
        return outputs

    @torch.no_grad()
    def take_in(self, patches: Tensor) -> None:
        """patches (m, n, d_vision): the next frames, kept until `work` comes to them."""
        if self._finished:
            raise ValueError("push after finish: start a new StreamingCompressor for another video")
        c = self.model.config
        n = c.grid_rows * c.patches_per_row
        if patches.dim() != 3 or patches.shape[1:] != (n, c.vision_width):
            raise ValueError(f"patches must be (m, {n}, {c.vision_width}), got {tuple(patches.shape)}")
        # A copy: the caller may reuse its buffer.
        self._waiting.append(patches.to(self._store, self._dtype, copy=True))
        self._count += len(patches)

    @torch.no_grad()
    def work(self) -> list[CompressorOutput]:
        """Work through the windows that are full; returns what has become final."""
        # A full window waits for one more frame: the last window of a video is closed by finish().
        while self._count > self.window:
            self._ready.append(self._run_window(last=False))
        ready, self._ready = self._ready, []
        return ready

    @torch.no_grad()
    def finish(self) -> list[CompressorOutput]:
        """The frames not yet handed out. Raises ValueError when called twice."""
        if self._finished:
            raise ValueError("finish was called already")
        outputs = self.work()
        outputs += [self._run_window(last=True)] if self._count else []
        self._finished = True
        return outputs

    def _run_window(self, *, last: bool) -> CompressorOutput:
        frames = self._waiting[0] if len(self._waiting) == 1 else torch.cat(self._waiting)
        self._waiting = [frames]  # so that the pieces do not lie beside their sum while the window is worked on
        window = frames[: self.window]
        step = len(window) if last else self.window - self.overlap  # frames to the next window's start
        output, self._states = self._compress(window.unsqueeze(0), step)
        self._waiting = [frames[step:].clone()]
        self._count -= step
        return CompressorOutput(output.anchors[0, :step].clone(), output.delta[0, :step].clone())

    def _compress(self, patches: Tensor, step: int) -> tuple[CompressorOutput, list[MixerState | None]]:
        """patches (1, m, n, d_vision) -> output of the window's first `step` frames at least, and the states before frame `step`."""
        states: list[MixerState | None] = []
        model, c = self.model, self.model.config
        m = patches.shape[1]
        m_out = m if c.taa_bidirectional else step  # frames that the aggregator reads: without a backward branch, what is handed out
        spans = list(_spans(m, self.chunk_frames, step))
        hidden = patches.new_empty(1, m, c.grid_rows, c.patches_per_row + 1, c.hidden_size)  # (1, m, g, k + 1, d)
        for a, e in spans:
            hidden[:, a:e] = model.insert_queries(patches[:, a:e].to(self._device))
        for i, block in enumerate(model.model.layers):
            # Of the last layer's outputs the aggregator reads the queries of its frames alone, and so are they alone computed.
            last = i == len(model.model.layers) - 1
            every = c.patches_per_row + 1 if last and isinstance(block.mixer, Mamba2Mixer) else 1
            states.append(_run_layer(hidden, spans, step, block.aggregate, block.mixer, self._states[i], every, m_out if last else m))
        spans = [(a, e) for a, e in spans if e <= m_out]
        anchors = model.keep_queries(hidden[:, :m_out, :, -1:, :].to(self._device))  # (1, m_out, g, d)
        taa = model.taa
        frames = taa.to_sequence(anchors).clone()  # (1, m_out, g*d), or the rows as a batch: (g, m_out, d)
        states.append(_run_layer(frames, spans, step, taa.norm, taa.mixer, self._states[-1], 1, m_out))
        anchors, delta = taa.finish(frames, anchors.shape)
        return CompressorOutput(model.output_proj(anchors), delta), states


def _run_layer(
    hidden: Tensor,
    spans: list[tuple[int, int]],
    step: int,
    read: nn.Module,
    mixer: nn.Module,
    state: MixerState | None,
    every: int,
    until: int,
) -> MixerState | None:
    """hidden += out_proj(forward branch + backward branch), in place, over dim 1, span by span.

    hidden may lie in host memory: spans of it come to the mixer's device and go back.
    read: hidden of a span -> what the mixer reads, (b, l, width). state: the forward one before the window.
    every: hidden is (b, m, g, every, d), and of these the last alone is brought up to date.
    until: frames from this one on, which begins a span, are read by the backward branch and not brought up to date.
    Returns the forward state before frame `step`.
    """
    store, device = hidden.device, mixer.out_proj.weight.device
    some = {} if every == 1 else {"every": every}  # which Mamba-1 does not know
    backward: dict[int, Tensor] = {}
    if mixer.bidirectional:
        after = None  # state and convolution tail handed from right to left
        for a, e in reversed(spans):
            y, after = mixer.branch(mixer.project(read(hidden[:, a:e].to(device)), gated=False, **some), after, reverse=True, **some)
            if e <= until:
                backward[a] = y.to(store)
            del y
    at_step = None
    for a, e in ((a, e) for a, e in spans if e <= until):
        span = hidden[:, a:e].to(device)  # a view where it lies there already
        projected = mixer.project(read(span), **some)
        y, state = mixer.branch(projected, state, **some)  # (b, l, d_inner)
        gate, projected = projected[0], None
        if mixer.bidirectional:  # the gate is both branches'; the first pass did without it
            y = y.add_(mixer.finish(backward.pop(a).to(device), gate))
        changed = span if every == 1 else span[..., -1, :]
        changed += mixer.out_proj(y).view_as(changed)
        if store != device:
            hidden[:, a:e] = span
        del y, gate, span, changed
        if e == step:
            at_step = MixerState(*(part.clone() for part in state))
    return at_step


def _spans(m: int, chunk: int, cut: int) -> Iterator[tuple[int, int]]:
    """Frames 0 .. m in chunks, with a boundary at `cut`, where the next window's state is taken."""
    a = 0
    while a < m:
        e = min(a + chunk, m)
        if a < cut < e:
            e = cut
        yield a, e
        a = e
