"""The tape of `pipeline.index.watch`: frames -> vision tower -> streaming compressor, with both in memory.

Bytes are counted in the order of the code they describe: vision.tower, compressor.stream, .model, .mixer, .ssd. Letters
as there: m frames of a chunk, n patches, g rows, k patches a row, d width, e inner width, s state, h heads, q scan chunk.
"""

from dataclasses import dataclass
from math import ceil

from mambamia_cli.compressor.config import CompressorConfig
from mambamia_cli.plan.sizes import VisionSizes, compressor_parameters
from mambamia_cli.plan.tape import DEVICE, HOST, Tape

TOWER_BATCH, EMBEDDED_BATCH = 8, 8  # vision.tower.BATCH, vision.backends.TorchBackend.batch
BLOCK_CPU, BLOCK_DEVICE = 1 << 18, 1 << 26  # compressor.ssd_block
BLOCK_ROWS_DEVICE = 1 << 24  # compressor.layers
LITE0_FRAME = 14_110_000  # bytes: EfficientNet-Lite0's most for one frame in torch, counted
LITE0_PARAMETERS = 4_631_000
QUEUE = 8  # chunks of frames beside the one that is worked on: six in the queue, one being filled, one handed over


@dataclass(frozen=True)
class Watch:
    """How a video is looked at. `frames` in all; chunk, window, overlap in frames; `item`: bytes of a number on the device.

    fused: mamba-ssm's kernels are used. cpu: the device is the host.
    """

    frames: int
    chunk: int = 32
    window: int = 384
    overlap: int = 64
    offload: bool = False
    item: int = 4
    cpu: bool = True
    fused: bool = False
    onnx: bool = False


def weights(vision: VisionSizes, compressor: CompressorConfig, item: int) -> tuple[int, int]:
    """Bytes of the tower and of the compressor on the device."""
    total, kept = compressor_parameters(compressor)
    tower = vision.parameters * (4 if vision.embedded else item)
    return tower, (total - kept) * item + kept * 4


def play(tape: Tape, vision: VisionSizes, config: CompressorConfig, watch: Watch) -> None:
    """The look at a video, from the first chunk to the last window."""
    tower, compressor = weights(vision, config, watch.item)
    m = min(watch.chunk, watch.frames)
    n, patch_item = vision.patches, 4 if vision.embedded else watch.item
    patches = m * n * vision_width(vision) * patch_item
    pixels = m * 3 * vision.height * vision.width
    store = HOST if watch.offload else DEVICE
    if watch.onnx and vision.embedded:
        tower = 0  # ONNX Runtime's own copy is no tensor of torch's
    both_ways = config.bidirectional or config.taa_bidirectional
    window = watch.window if both_ways else m
    held = min(watch.frames, window + m)  # frames waiting when a window is worked on
    waiting = held * n * config.vision_width * watch.item
    tape.alloc(tower + compressor)
    tape.alloc(8 * watch.frames, HOST)  # delta; the anchors of all frames go to a file
    tape.alloc(patches)
    with tape.hold(pixels, where=HOST), tape.hold(max(0, waiting - m * n * config.vision_width * watch.item), where=store):
        _encode(tape, vision, m, watch)
    tape.touch(waiting, waiting, where=store)  # the pieces and their sum
    with tape.hold(waiting, where=store):
        step = window - watch.overlap if both_ways else window
        more = max(0, ceil((watch.frames - window) / step))  # windows before the last one
        last = watch.frames - more * step
        if more:
            _window(tape, config, window, step, m, watch, store)
        _window(tape, config, last, last, m, watch, store)


def vision_width(vision: VisionSizes) -> int:
    return 432 if vision.embedded else vision.hidden


def _encode(tape: Tape, vision: VisionSizes, m: int, watch: Watch) -> None:
    """One batch of vision.tower.TowerEncoder._run, the largest there is."""
    batch = min(EMBEDDED_BATCH if vision.embedded else TOWER_BATCH, m)
    picture = batch * 3 * vision.height * vision.width  # elements
    if vision.embedded:
        if not watch.onnx:
            tape.touch(batch * LITE0_FRAME)
        return
    item = watch.item
    tape.touch(0 if watch.cpu else picture, 4 * picture, 4 * picture)  # uint8, float, scaled
    tape.touch(4 * picture, 4 * picture, max(4, 4 if item == 4 else item + 4) * picture)  # scaled, less the mean, over std
    flexible = vision.model_type.startswith("siglip2")
    u = batch * (vision.patches + vision.prefix) * vision.hidden * item  # one hidden state
    inner = batch * (vision.patches + vision.prefix) * vision.inner * item
    with tape.hold(item * picture, item * picture if flexible else 0):
        if flexible:
            tape.touch(u, u, u)  # patches embedded, positions, their sum
        else:
            tape.touch(u, u)
        # residual, normed, q, k, v, attended, out; then residual, normed, and the MLP's two
        tape.touch(7 * u)
        tape.touch(2 * u, 2 * inner)


def _window(tape: Tape, config: CompressorConfig, frames: int, out: int, m: int, watch: Watch, store: str) -> None:
    """compressor.stream.StreamingCompressor._compress of a window of `frames`, of which the first `out` are handed out."""
    d, item, tokens = config.hidden_size, watch.item, config.tokens_per_frame
    unit = tokens * d * item  # one frame's hidden states
    moved = watch.offload
    with tape.hold(frames * unit, where=store):
        rows = m * config.grid_rows * config.patches_per_row
        arriving = rows * config.vision_width * item if moved else 0
        tape.touch(arriving, 0 if config.vision_width == d else rows * d * item, m * unit)
        expand = round(config.expand * d)
        # Of the last layer only the queries' outputs are computed: it counts where it is the only one.
        every = config.patches_per_row + 1 if config.num_layers == 1 and config.ssm == "mamba2" else 1
        behind = out if config.num_layers == 1 and not config.taa_bidirectional else frames  # whose backward outputs are kept
        _layer(tape, config, watch, behind, m, tokens * m, d, expand, config.state_size, config.bidirectional, store, 1, every=every)
    out = frames if config.taa_bidirectional else out
    anchors = out * config.grid_rows * d * item
    with tape.hold(frames * unit, where=store), tape.hold(anchors, anchors):  # hidden, the anchors, and their sequence
        rows_layout = config.taa_layout == "rows"
        width, batch = (d, config.grid_rows) if rows_layout else (d * config.grid_rows, 1)
        inner = round(config.taa_expand * width)
        _layer(tape, config, watch, out, m, m, width, inner, config.taa_state_size, config.taa_bidirectional, DEVICE,
               batch, gpa=False)  # fmt: skip
        projected = out * config.grid_rows * config.anchor_width * item if config.output_size else 0
        tape.touch(anchors if rows_layout else 0, projected, max(projected, anchors))


def _layer(tape: Tape, config: CompressorConfig, watch: Watch, frames: int, m: int, length: int, d: int, e: int, state: int,
           both: bool, store: str, batch: int, *, gpa: bool = True, every: int = 1) -> None:  # fmt: skip
    """compressor.stream._run_layer. length: tokens of a chunk, `batch` times over; outputs for one in `every`."""
    item, tokens = watch.item, length * batch
    u = tokens * d * item
    behind = ceil(frames / m) * tokens * e * item // every if both else 0
    behind = round(behind * frames / (ceil(frames / m) * m))  # the last chunk may be short
    moved = u if store == HOST and not watch.cpu else 0
    with tape.hold(behind, where=store), tape.hold(moved):
        _branch(tape, config, watch, length, d, e, state, batch, gpa, every)
        # y, what comes from the right, and out_proj's
        tape.touch(tokens * e * item // every, tokens * e * item // every if moved and both else 0, u // every)


def _branch(tape: Tape, config: CompressorConfig, watch: Watch, length: int, d: int, e: int, state: int, batch: int,
            gpa: bool, every: int) -> None:  # fmt: skip
    """mixer.branch(mixer.project(read(hidden))) of one chunk, up to the branch's output."""
    item, tokens = watch.item, length * batch
    u, block = tokens * d * item, _norm_block(watch, tokens, d)
    tape.touch(u, block)  # the norm, its float32 rows
    if gpa:
        patches = u * config.patches_per_row // (config.patches_per_row + 1)
        tape.touch(u, patches)
        tape.touch(u, u)
    if config.ssm == "mamba1":
        _mamba1(tape, config, watch, length, d, e, state, batch)
        return
    heads = max(1, e // config.head_dim)
    conv = e + 2 * state
    gate, convolved = tokens * e * item // every, tokens * conv * item
    z = gate + tokens * (conv + heads) * item
    with tape.hold(u):
        tape.touch(z, gate)
    with tape.hold(z, gate):
        tape.touch(convolved, convolved, min(convolved, (BLOCK_CPU if watch.cpu else BLOCK_ROWS_DEVICE) * item))
        with tape.hold(convolved):
            steps = tokens * heads * 4
            out = tokens * e * item // every
            with tape.hold(steps, out):
                tape.touch(steps)
                if watch.fused:
                    _fused_scan(tape, config, length, heads, e, state, batch)
                else:
                    _scan(tape, config, watch, length, heads, e, state, batch, every)
            with tape.hold(out):
                tape.touch(out, _norm_block(watch, tokens // every, e))


def _norm_block(watch: Watch, rows: int, width: int) -> int:
    """Float32 rows of an RMS norm, and beside them their squares, or in half precision the rounded ones."""
    return 8 * min(rows * width, BLOCK_CPU if watch.cpu else BLOCK_ROWS_DEVICE)


def _scan(tape: Tape, config: CompressorConfig, watch: Watch, length: int, heads: int, e: int, state: int, batch: int,
          every: int) -> None:  # fmt: skip
    """compressor.ssd._SSDScan.forward: float32 throughout, a block of chunks at a time."""
    q = min(config.chunk_size, length)
    chunks = max(1, length // q)
    limit = BLOCK_CPU if watch.cpu else BLOCK_DEVICE
    block = min(chunks, max(1, limit // (batch * heads * config.chunk_size**2)))
    tokens = batch * block * q
    x, added = tokens * e * 4, batch * block * e * state * 4
    matrix, small = batch * block * heads * q * q * 4, tokens * heads * 4
    wide = x + 2 * tokens * state * 4 if watch.item != 4 else 0  # float32 copies of x, B and C
    # Of the blocks before; where few outputs are wanted, no gradient is, and nothing is kept for it.
    entering = batch * (ceil(length / q) - block) * e * state * 4 if every == 1 else 0
    scores = batch * block * q * q * 4 // every
    with tape.hold(entering, wide, 3 * small, scores):
        tape.touch(matrix // every, x, x // every)  # decays, dt x by head, y inside
        tape.touch(x // every, x, added)
        tape.touch(x // every, added, added, x // every)


def _fused_scan(tape: Tape, config: CompressorConfig, length: int, heads: int, e: int, state: int, batch: int) -> None:
    """What mamba_chunk_scan_combined allocates, by its source; not counted on a card."""
    q = max(16, 1 << (config.chunk_size - 1).bit_length())
    chunks = ceil(length / q)
    states, steps = batch * chunks * e * state * 4, batch * chunks * q * heads * 4
    tape.touch(2 * states, 3 * steps, batch * chunks * q * q * 4)


def _mamba1(tape: Tape, config: CompressorConfig, watch: Watch, length: int, d: int, e: int, state: int, batch: int) -> None:
    """compressor.mamba1.Mamba1Mixer: like Mamba-2's, with states of all channels for one chunk of tokens."""
    tokens, item = length * batch, watch.item
    inner = tokens * e * item
    rank = ceil(d / 16)
    q = min(config.chunk_size, length)
    states = batch * q * e * state * 4
    convolved = inner + tokens * (rank + 2 * state) * item  # and dt, B and C
    with tape.hold(2 * inner, inner), tape.hold(convolved), tape.hold(4 * tokens * e, inner):  # in_proj's, the gate first
        tape.touch(states, states, states)
