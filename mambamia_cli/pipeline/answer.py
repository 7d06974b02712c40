"""Kept frames and a question -> text: which frames the language model sees, and what it says."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mambamia_cli.errors import UsageError
from mambamia_cli.pipeline.answerers import Span
from mambamia_cli.pipeline.engine import Models
from mambamia_cli.pipeline.index import Index
from mambamia_cli.records import Evidence


@dataclass(frozen=True)
class Answer:
    """`first_token`: seconds from asking to the first piece of text; None when the answer was chosen, not written."""

    text: str
    finish: str
    seconds: float
    first_token: float | None = None
    choices: tuple[tuple[str, float], ...] | None = None


@dataclass(frozen=True)
class Reply:
    """`kept`: the frames that the language model saw, None where it was not asked. `confidence`: None where there is no
    measure of it. `guess`: nothing that was seen speaks for the answer."""

    answer: Answer
    kept: list[int] | None
    evidence: tuple[Evidence, ...]
    confidence: float | None
    guess: bool = False


def kept_frames(
    index: Index, models: Models, budget: int | None, question: str, max_tokens: int,
    *, within: Sequence[int] | None = None, most: int | None = None, selection: str = "delta", span: Span | None = None,
) -> list[int]:  # fmt: skip
    """The frames that the language model sees, in order of time: all of them where they fit, else by cumulative delta
    sampling with the threshold solved from the budget.

    Args:
        budget: visual tokens; None = the model's own, else what its context holds.
        within: choose among these frames only.
        most: no more frames than this.
        span: the stretch that is asked about, None = all that was looked at.
        selection: "delta" (for answerers that take few frames spread evenly it is always "uniform"); for comparison "uniform" to
            spread the same number of frames evenly, or "all" for every frame: the model's own budget does not count, and where
            the context (or `budget`) holds fewer, they are spread evenly.

    Raises:
        UsageError: the budget is below one frame, or the question leaves no room for one.
    """
    from mambamia_cli.compressor.select import select_frames, threshold_for_budget, uniform_frames

    answerer, language = models.answerer, models.language
    each = answerer.frame_tokens(index.info)
    if answerer.most_frames is not None:
        selection = "uniform"
        if index.sampler is None:  # else the frames were chosen for this answerer
            most = min(most or answerer.most_frames, answerer.most_frames)
    frames = list(range(len(index.times))) if within is None else list(within)
    budget = budget or (None if selection == "all" else answerer.token_budget) or language.context_length
    if budget < each:
        raise UsageError(f"--token-budget {budget} is less than one frame's {each} tokens", f"give at least {each}")
    limit = min(budget // each, most or len(frames), len(frames))
    room = language.context_length - max_tokens
    while True:
        kept = frames
        if limit < len(frames):
            delta = index.delta[frames]  # (m,)
            chosen = uniform_frames(len(frames), limit) if selection != "delta" else select_frames(delta, threshold_for_budget(delta, limit))
            kept = [frames[i] for i in chosen]
        length = answerer.length(index, kept, question, span or index.range)
        if length <= room:
            return kept
        if limit == 1:
            raise UsageError(f"the question leaves no room in the context of {language.context_length} tokens", "shorten it or lower --max-tokens")
        limit = max(1, min(limit - 1, limit * room // length))


def prompt(index: Index, models: Models, kept: Sequence[int], question: str, span: Span | None = None) -> Any:
    """The prompt for kept frames, as the model's answerer makes it. `span`: the stretch asked about, None = all of it."""
    return models.answerer.prompt(index, kept, question, span or index.range)


def generate(models: Models, prompt: Any, max_tokens: int, on_text: Callable[[str], None] | None = None,
             began: float | None = None) -> Answer:  # fmt: skip
    """Write an answer. `began`: when the question was asked, by time.perf_counter."""
    began = time.perf_counter() if began is None else began
    pieces, first, start = [], None, time.perf_counter()
    stream = models.language.generate(prompt, max_tokens=max_tokens, seed=models.seed)
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


def likeliest(models: Models, prompt: Any, choices: Sequence[str]) -> Answer:
    """Answer with the likeliest of the choices. Probabilities are among the choices."""
    import math

    start = time.perf_counter()
    scores = models.language.score(prompt, list(choices))
    top = max(scores)
    shares = [math.exp(score - top) for score in scores]
    ranked = sorted(zip(choices, (share / sum(shares) for share in shares), strict=True), key=lambda pair: -pair[1])
    listed = tuple((text, round(share, 4)) for text, share in ranked)
    return Answer(ranked[0][0], "choice", time.perf_counter() - start, choices=listed)
