"""A question and kept frames -> the input embeddings of the language model.

Each kept frame is written as its time in whole seconds, a colon, and its visual tokens: `12:` <t> <t>. The form is
compact because a small model on a CPU pays for each token of prefill, and textual because any model can read it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the constants are read by code that must not load torch
    from torch import Tensor

PLACEHOLDER = "\ufffcvideo\ufffc"  # cut out of the rendered chat template; no user types object-replacement characters
SYSTEM = "You watch a video and answer."
# What the tool asks by itself; training asks the same, so that the embedded model has met them.
TITLE_QUESTION = "What is shown? Answer in a few words."
SUMMARY_QUESTION = "The scenes of the video are, in order:\n{titles}\nSummarize the video in one paragraph."


def with_options(question: str, options: Sequence[str]) -> str:
    """A question with the answers it may have, as `ask --choices` puts it."""
    return f"{question} Options: {', '.join(options)}." if options else question


def frame_label(seconds: float) -> str:
    """The text that stands before a frame's tokens."""
    return f"{seconds:.0f}:"


def frame_clock(seconds: float) -> str:
    """The text that stands before a frame where it is shown as a picture: 0:12, 1:02:03."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02d}"


def split_template(lm, question: str, system: str | None = None) -> tuple[str, str]:
    """The model's chat template around the frames: text before them and text after them up to the answer."""
    text = lm.chat_text(f"{PLACEHOLDER}\n{question.replace(PLACEHOLDER, '')}", system=SYSTEM if system is None else system)
    before, _, after = text.partition(PLACEHOLDER)
    return before, after


def build_prefix(lm, frames: Sequence[tuple[float, "Tensor"]], before: str) -> "Tensor":
    """Text `before`, then every frame's label and tokens (t, width) -> (l, width). Times in seconds, in order."""
    import torch

    ids = [lm.tokenize(before)] + [lm.tokenize(frame_label(seconds)) for seconds, _ in frames]
    table = lm.embed([i for part in ids for i in part])  # (sum of label lengths, width)
    pieces, at = [table[: len(ids[0])]], len(ids[0])
    for label, (_, tokens) in zip(ids[1:], frames, strict=True):
        pieces += [table[at : at + len(label)], tokens.to(table)]
        at += len(label)
    return torch.cat(pieces)


def build(lm, frames: Sequence[tuple[float, "Tensor"]], question: str, *, system: str | None = None) -> "Tensor":
    """-> (l, width) embeddings of the whole prompt, ready for `lm.generate`."""
    import torch

    before, after = split_template(lm, question, system)
    return torch.cat([build_prefix(lm, frames, before), lm.embed(lm.tokenize(after))])


def prompt_length(lm, seconds: Sequence[float], tokens_per_frame: int, question: str) -> int:
    """Tokens that `build` would make, for budgets: nothing is embedded."""
    before, after = split_template(lm, question)
    labels = sum(len(lm.tokenize(frame_label(s))) for s in seconds)
    return len(lm.tokenize(before)) + len(lm.tokenize(after)) + labels + tokens_per_frame * len(seconds)
