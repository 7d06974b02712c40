"""What answers a question from kept frames: the seam between the kinds of model.

`Models` says which answerer a --model means; `pipeline.answer` asks it and knows nothing of kinds. A prompt is opaque: what
one answerer's `prompt` makes only its own `language` reads.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from mambamia_cli.pipeline.engine import Models
    from mambamia_cli.pipeline.index import Index
    from mambamia_cli.video import VideoInfo

Span = tuple[float, float]
"""Seconds from and to: the stretch of the video that is asked about. Matters to who hears: frames alone have no length."""


class Speaker(Protocol):
    """The part of language.model.LanguageModel that answers. `prompt` is what the answerer made."""

    name: str
    quant: str
    context_length: int
    warnings: tuple[str, ...]

    def generate(self, prompt: Any, *, max_tokens: int = 256, seed: int = 0) -> Any:
        """-> language.generation.Generation."""

    def score(self, prompt: Any, continuations: Sequence[str]) -> list[float]:
        """Log-probability of each continuation."""


class Answerer(Protocol):
    """`token_budget`: visual tokens it sees unless told otherwise, None = what its context holds. `most_frames`: it takes so
    many frames at most, spread evenly over what is asked about, and needs no delta; None = frames are kept by delta."""

    language: Speaker
    token_budget: int | None
    most_frames: int | None

    def frame_tokens(self, info: "VideoInfo") -> int:
        """Visual tokens of one frame of a video."""

    def length(self, index: "Index", kept: Sequence[int], question: str, span: Span) -> int:
        """Tokens of the prompt for these frames, without looking at them."""

    def prompt(self, index: "Index", kept: Sequence[int], question: str, span: Span) -> Any:
        """The prompt for frames `kept` (indices, in order) of an index."""


class NativeAnswerer:
    """A MambaMia model: the anchors of kept frames, projected, each behind its time."""

    most_frames = None

    def __init__(self, models: "Models"):
        self._models, self.language, self.token_budget = models, models.language, models.folder.token_budget

    def frame_tokens(self, info: "VideoInfo") -> int:
        return self._models.projector.config.tokens_per_frame

    def length(self, index: "Index", kept: Sequence[int], question: str, span: Span) -> int:
        from mambamia_cli.language.prompt import prompt_length

        seconds = [float(index.times[i]) for i in kept]
        return prompt_length(self.language, seconds, self.frame_tokens(index.info), question)

    def prompt(self, index: "Index", kept: Sequence[int], question: str, span: Span) -> Any:
        """-> (l, width) embeddings. A model with a lexicon was taught on readings, so its tokens are read first, the words of
        the question being likelier."""
        from mambamia_cli.language.projector import frozen_tokens
        from mambamia_cli.language.prompt import build

        models = self._models
        assert index.anchors is not None, "this look kept no anchors"
        # Prompts are laid out in host memory, where the lexicon lies too: fetched at once, not frame by frame.
        tokens = frozen_tokens(models.projector, index.anchors.read(list(kept)).to(models.device)).cpu()  # (k, t, width)
        if models.lexicon is not None:
            tokens = models.lexicon.reading(tokens, models.lexicon.named(question))
        return build(self.language, [(float(index.times[i]), tokens[at]) for at, i in enumerate(kept)], question)


class RelativeAnswerer:
    """UniMambaMia: frames spread evenly, and the sound. What a question's frames and sound came to is kept for the next one."""

    def __init__(self, model: Any):
        from mambamia_cli.language.unimambamia.config import FRAMES

        self._model, self.language, self.token_budget, self.most_frames = model, model.lm, None, FRAMES
        self._known: tuple[Any, Any] | None = None

    def frame_tokens(self, info: "VideoInfo") -> int:
        return self._model.config.frame_tokens

    def length(self, index: "Index", kept: Sequence[int], question: str, span: Span) -> int:
        from math import ceil

        sound = 0
        if self._model.hearing is not None and index.info.has_audio and len(kept) > 1:
            blocks = ceil((span[1] - span[0]) * 25 / self._model.config.block)  # features a second
            sound = ceil(blocks / len(kept)) * len(kept)
        return sum(map(len, self._model.texts(question))) + len(kept) * self.frame_tokens(index.info) + sound

    def prompt(self, index: "Index", kept: Sequence[int], question: str, span: Span) -> Any:
        """-> (l, width) embeddings."""
        times = tuple(index.times[i] for i in kept)
        key = (index.info.path, times, span)
        if self._known is None or self._known[0] != key:
            self._known = (key, self._watched(index.info, times, span))
        return self._model.prompt(self._known[1], question)

    def _watched(self, info: "VideoInfo", times: Sequence[Any], span: Span) -> Any:
        from mambamia_cli.video.audio import open_sound

        frames = self._model.see(pictures(info, times))  # (m, t, width)
        sound = None
        if self._model.hearing is not None and info.has_audio and len(times) > 1:
            end = None if info.duration is None or span[1] >= info.duration else span[1]
            sound = self._model.hear(open_sound(info.path, span[0], end, info=info))  # (a, width)
        return self._model.lay_out(frames, sound)


class ShownAnswerer:
    """An image-text-to-text model of transformers: the kept frames as pictures, each behind its time. `longest`: pixels of a
    frame's longer side, None = as the family has it best."""

    most_frames = None

    def __init__(self, model: Any, longest: int | None = None):
        from mambamia_cli.models.vlm import TOKEN_BUDGET

        self._model, self.language, self._longest = model, model, longest
        self.token_budget = min(TOKEN_BUDGET, model.context_length)

    def frame_tokens(self, info: "VideoInfo") -> int:
        return self._model.processor.tokens(self._size(info)[0])

    def length(self, index: "Index", kept: Sequence[int], question: str, span: Span) -> int:
        return len(self._model.processor.ids(self._seconds(index, kept), question, self._size(index.info)[0]))

    def prompt(self, index: "Index", kept: Sequence[int], question: str, span: Span) -> Any:
        """-> language.vlm.model.Shown. Frames are grabbed when the model gets to them."""
        info, times = index.info, tuple(index.times[i] for i in kept)
        size, scaled = self._size(info)

        def grabbed(first: int, last: int) -> list[Any]:
            return list(pictures(info, times[first:last], scaled))

        return self._model.prompt(self._seconds(index, kept), question, size, grabbed, key=(info.path, info.stream, times, size))

    def _seconds(self, index: "Index", kept: Sequence[int]) -> list[float]:
        return [float(index.times[i]) for i in kept]

    def _size(self, info: "VideoInfo") -> tuple[tuple[int, int], tuple[int, int] | None]:
        """(height, width) of a frame as it is shown, and the size to scale to, None for the video's own."""
        from mambamia_cli.models.vlm import picture_size

        scaled = picture_size(self._model.processor.kind, info.height, info.width, self._longest)
        return scaled or (info.height, info.width), scaled


GROUP = 8
"""Frames of full size in memory at once."""


def pictures(info: "VideoInfo", times: Sequence[Any], size: tuple[int, int] | None = None):
    """The frames on screen at `times`, one by one: (H, W, 3) uint8, of the display size or of `size` (height, width)."""
    from mambamia_cli.video.grab import grab

    for at in range(0, len(times), GROUP):
        yield from grab(info.path, times[at : at + GROUP], size, stream=info.stream)
