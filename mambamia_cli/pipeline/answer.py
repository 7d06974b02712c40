"""Kept frames and a question -> text: which frames the language model sees, and what it says."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mambamia_cli.errors import UsageError
from mambamia_cli.pipeline.engine import Models
from mambamia_cli.pipeline.index import Index

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Answer:
    """`first_token`: seconds from asking to the first piece of text; None when the answer was chosen, not written."""

    text: str
    finish: str
    seconds: float
    first_token: float | None = None
    choices: tuple[tuple[str, float], ...] | None = None


def kept_frames(
    index: Index, models: Models, budget: int | None, question: str, max_tokens: int,
    *, within: Sequence[int] | None = None, most: int | None = None, selection: str = "delta",
) -> list[int]:  # fmt: skip
    """The frames that the language model sees, in order of time: all of them where they fit, else by cumulative delta
    sampling with the threshold solved from the budget.

    Args:
        budget: visual tokens; None = the model's own, else what its context holds.
        within: choose among these frames only.
        most: no more frames than this.
        selection: "delta", or "uniform" to spread the same number of frames evenly, for comparison.

    Raises:
        UsageError: the budget is below one frame, or the question leaves no room for one.
    """
    from mambamia_cli.compressor.select import select_frames, threshold_for_budget, uniform_frames
    from mambamia_cli.language.prompt import prompt_length

    language, each = models.language, models.projector.config.tokens_per_frame
    frames = list(range(len(index.times))) if within is None else list(within)
    budget = budget or models.folder.token_budget or language.context_length
    if budget < each:
        raise UsageError(f"--token-budget {budget} is less than one frame's {each} tokens", f"give at least {each}")
    limit = min(budget // each, most or len(frames), len(frames))
    room = language.context_length - max_tokens
    seconds = index.seconds  # (m,)
    while True:
        kept = frames
        if limit < len(frames):
            delta = index.delta[frames]  # (m,)
            chosen = uniform_frames(len(frames), limit) if selection == "uniform" else select_frames(delta, threshold_for_budget(delta, limit))
            kept = [frames[i] for i in chosen]
        length = prompt_length(language, [float(seconds[i]) for i in kept], each, question)
        if length <= room:
            return kept
        if limit == 1:
            raise UsageError(f"the question leaves no room in the context of {language.context_length} tokens", "shorten it or lower --max-tokens")
        limit = max(1, min(limit - 1, limit * room // length))


def prompt(index: Index, models: Models, kept: Sequence[int], question: str) -> "Tensor":
    """-> (l, width): the prompt's embeddings, each kept frame's tokens behind its time.

    A model with a lexicon was taught on readings, so its tokens are read first, the words of the question being likelier.
    """
    from mambamia_cli.language.projector import frozen_tokens
    from mambamia_cli.language.prompt import build

    assert index.anchors is not None, "this look kept no anchors"
    tokens = frozen_tokens(models.projector, index.anchors.read(list(kept)).to(models.device))  # (k, t, width)
    if models.lexicon is not None:
        tokens = models.lexicon.reading(tokens, models.lexicon.named(question))
    return build(models.language, [(float(index.times[i]), tokens[at]) for at, i in enumerate(kept)], question)


def generate(models: Models, embeds: "Tensor", max_tokens: int, on_text: Callable[[str], None] | None = None,
             began: float | None = None) -> Answer:  # fmt: skip
    """Write an answer. embeds (l, width). `began`: when the question was asked, by time.perf_counter."""
    began = time.perf_counter() if began is None else began
    pieces, first, start = [], None, time.perf_counter()
    stream = models.language.generate(embeds, max_tokens=max_tokens, seed=models.seed)
    for piece in stream:
        first = time.perf_counter() - began if first is None else first
        if not pieces:
            piece = piece.lstrip()
            if not piece:
                continue
        pieces.append(piece)
        if on_text is not None:
            on_text(piece)
    return Answer("".join(pieces).strip(), stream.finish, time.perf_counter() - start, first)


def likeliest(models: Models, embeds: "Tensor", choices: Sequence[str]) -> Answer:
    """Answer with the likeliest of the choices. embeds (l, width). Probabilities are among the choices."""
    import math

    start = time.perf_counter()
    scores = models.language.score(embeds, list(choices))
    top = max(scores)
    shares = [math.exp(score - top) for score in scores]
    ranked = sorted(zip(choices, (share / sum(shares) for share in shares), strict=True), key=lambda pair: -pair[1])
    listed = tuple((text, round(share, 4)) for text, share in ranked)
    return Answer(ranked[0][0], "choice", time.perf_counter() - start, choices=listed)
