"""The tape of an answer by UniMambaMia: frames -> its tower, sound -> its encoder and audio compressor, then Qwen2.

No delta is looked at: frames are spread evenly. The language model stays on the device; where memory is short, tower and encoder
come one after the other and leave (`turns`). Bytes are counted in the order of
language.unimambamia.senses, .model and language.transformers_lm. Letters: m frames, t tokens a frame, a audio tokens, d width.
"""

from dataclasses import dataclass
from math import ceil

from mambamia_cli.compressor.config import CompressorConfig
from mambamia_cli.errors import UsageError
from mambamia_cli.language.unimambamia.config import CONTEXT, RATE, RelativeConfig, own_name, state_size
from mambamia_cli.plan import answering, watching
from mambamia_cli.plan.answering import LOADED_AT_ONCE, Answering
from mambamia_cli.plan.frames import CHARACTERS_A_TOKEN, TEMPLATE_TOKENS, Prompt
from mambamia_cli.plan.headers import Entry
from mambamia_cli.plan.sizes import LanguageSizes, UnknownSizes, language_sizes
from mambamia_cli.plan.tape import HOST, Tape
from mambamia_cli.plan.watching import Watch

BATCH, WINDOW, FEATURES = 8, 480_000, 750  # language.unimambamia.senses: frames a pass; samples and features of a window of sound
MELS, FFT = 3000, 400  # mel frames of a window, twice the encoder's positions; samples of which each is made


@dataclass(frozen=True)
class RelativeSizes:
    """`sight` and `hearing`: parameters of the senses, never quantised (hearing 0 = it does not hear); `stored`: of the whole
    checkpoint. tower: the vision tower's name. state: of the audio compressor. silent: a video without sound."""

    config: RelativeConfig
    tower: str
    sight: int
    hearing: int
    stored: int
    state: int
    silent: bool = False

    @property
    def patches(self) -> int:
        """Of a frame, before pooling."""
        return self.config.grid**2


def sizes_of(name: str, config: RelativeConfig, entries: list[Entry]) -> tuple[RelativeSizes, LanguageSizes]:
    """From a checkpoint's headers. Raises UnknownSizes where there are none (pickles have none)."""
    found: dict[str, list[Entry]] = {"sight": [], "hearing": [], "language": []}
    for entry in entries:
        own = own_name(entry.name, config)
        if own is not None:
            part, _, rest = own.partition(".")
            found[part].append(Entry(rest, entry.shape, entry.dtype))
    if not found["sight"] or not found["language"]:
        raise UnknownSizes(f"the weights of {name} have no safetensors headers to plan with", "convert them to safetensors")
    text = {**config.text, "tie_word_embeddings": bool(config.text.get("tie_word_embeddings", False))}
    text["max_position_embeddings"] = min(int(text.get("max_position_embeddings") or CONTEXT), CONTEXT)
    counts = {part: sum(entry.elements for entry in own) for part, own in found.items()}
    shapes = {entry.name: entry.shape for entry in entries}
    sizes = RelativeSizes(config, str(config.text["mm_vision_tower"]), counts["sight"], counts["hearing"], sum(e.elements for e in entries),
                          state_size(config, shapes))  # fmt: skip
    return sizes, language_sizes(name, text, found["language"])


def sound_tokens(relative: RelativeSizes, kept: int, seconds: float) -> int:
    """Audio tokens in the prompt of `kept` frames: spread evenly, the last one repeated."""
    if not relative.hearing or relative.silent or kept < 2:
        return 0
    return ceil(ceil(seconds * 25 / relative.config.block) / kept) * kept


def prompt_of(relative: RelativeSizes, frames: int, seconds: float, budget: int, context: int, max_tokens: int, question: int) -> Prompt:
    """As plan.frames.prompt_of. frames: looked at, at most. Raises UsageError when not even one frame fits."""
    each, text = relative.config.frame_tokens, TEMPLATE_TOKENS + ceil(question / CHARACTERS_A_TOKEN)
    if budget < each:
        raise UsageError(f"--token-budget {budget} is less than one frame's {each} tokens", f"give at least {each}")
    kept = max(1, min(frames, ceil(seconds * RATE), budget // each))
    while (length := text + kept * each + sound_tokens(relative, kept, seconds)) > context - max_tokens:
        if kept == 1:
            raise UsageError(f"the question leaves no room in the context of {context} tokens", "shorten it or lower --max-tokens")
        kept = max(1, min(kept - 1, kept * max(0, context - max_tokens) // length))
    return Prompt(kept, kept * each, length, seconds)


def senses(relative: RelativeSizes, asked: Answering) -> tuple[int, int]:
    """Bytes of what sees and of what hears."""
    item = _item(asked)
    return relative.sight * item, relative.hearing * item


def _item(asked: Answering) -> int:
    return 4 if asked.quant == "fp32" or (asked.cpu and asked.quant != "bf16") else 2


def weights(model: LanguageSizes, relative: RelativeSizes, asked: Answering) -> int:
    """Bytes of the whole model in memory."""
    return answering.weights(model, asked) + sum(senses(relative, asked))


def play(tape: Tape, model: LanguageSizes, relative: RelativeSizes, asked: Answering, seconds: float, *, turns: bool = False) -> None:
    """From loading the model to the last token of the answer about `seconds` of video."""
    turns, item = turns and not asked.cpu, _item(asked)
    sees, hears = senses(relative, asked)
    held = answering.weights(model, asked) + (0 if turns else sees + hears)
    visiting, waiting = (sees, hears) if turns else (0, 0), sees + hears if turns else 0
    tape.alloc(held)
    tape.alloc(waiting, HOST)
    if not asked.cpu:
        tape.touch(model.largest * LOADED_AT_ONCE if asked.quant in ("nf4", "fp4", "int8") else 0)
    each = relative.config.frame_tokens * model.width * item  # of a frame in the prompt
    frames = asked.kept * each
    batch = min(BATCH, asked.kept)
    with tape.hold(frames - batch * each, visiting[0]):
        _look(tape, relative, model.width, batch, item, host=not asked.cpu)
    tape.touch(frames, frames, visiting[0])
    prompt = asked.tokens * model.width * item
    with tape.hold(frames):
        if relative.hearing and not relative.silent:
            with tape.hold(visiting[1]):
                _listen(tape, relative, item, min(FEATURES, ceil(seconds * 25)), host=not asked.cpu)
        tape.touch(prompt - frames, prompt)  # the sound, then both woven
    with tape.hold(prompt):  # what was seen and heard is kept for the next question
        own = prompt if asked.cpu and asked.item == 4 else 0  # else the tape of the answer has it
        with tape.hold(own):
            answering.read_and_write(tape, model, asked)
    tape.alloc(-held)
    tape.alloc(-waiting, HOST)


def _look(tape: Tape, relative: RelativeSizes, width: int, batch: int, item: int, *, host: bool) -> None:
    """One batch of senses.Sight: pixels, the tower's layers, the projector, the pooling."""
    vision, config = relative.config.vision, relative.config
    picture = batch * 3 * config.side**2
    tape.touch(2 * picture * 4, where=HOST)  # one by one, and stacked
    hidden, inner = int(vision["hidden_size"]), int(vision["intermediate_size"])
    tokens = batch * relative.patches
    u = tokens * hidden * item
    with tape.hold(picture * item if host else 2 * picture * 4, 0 if host or item == 4 else picture * item):
        tape.touch(7 * u)  # residual, normed, q, k, v, attended, out
        tape.touch(2 * u, 2 * tokens * inner * item)
        wide = tokens * width * item
        tape.touch(u, 2 * wide if config.projector_layers > 1 else wide)
        tape.touch(2 * wide, 2 * wide // config.pool**2)  # turned round for the pooling


def _listen(tape: Tape, relative: RelativeSizes, item: int, features: int, *, host: bool) -> None:
    """One window of senses.Hearing: mel frames, the encoder's layers, the audio compressor over `features` that are no padding."""
    config, audio = relative.config, relative.config.audio or {}
    bins, d, ffn = (int(audio[key]) for key in ("num_mel_bins", "d_model", "encoder_ffn_dim"))
    positions = MELS // 2
    tape.touch(2 * WINDOW * 4, MELS * FFT * 4, MELS * (FFT // 2 + 1) * 8, where=HOST)  # samples, padded; windows, their spectra
    with tape.hold(bins * MELS * item if host else bins * MELS * 4):
        u = positions * d * item
        tape.touch(2 * d * MELS * item)  # the first convolution
        tape.touch(d * MELS * item, 2 * u)
        # what came into the encoder and the layer, residual, normed; then q, k, v, attended, out, or the MLP's two
        tape.touch(9 * u)
        tape.touch(4 * u, 2 * positions * ffn * item)
    blocks = max(1, features // config.block)
    inner = round(config.audio_hidden * config.audio_expand)
    made = CompressorConfig(vision_width=d, hidden_size=config.audio_hidden, grid_rows=1, patches_per_row=config.block, bidirectional=False,
                            state_size=relative.state, head_dim=64, expand=config.audio_expand, chunk_size=256)  # fmt: skip
    length = blocks * (config.block + 1)
    x = length * config.audio_hidden * item
    with tape.hold(features * d * item, x):
        tape.touch(x)
        watching._branch(tape, made, Watch(1, item=item, cpu=not host), length, config.audio_hidden, inner, relative.state, 1, True, 1)
