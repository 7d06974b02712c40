"""How many frames of a video are looked at, and how many of them the language model gets to see."""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from mambamia_cli.errors import UsageError

ASK_RATE, SCENES_RATE = Fraction(1), Fraction(4)
"""Frames a second looked at when nothing else is said. Markers need more than answers do."""

MOST_FRAMES = 2400
"""Frames at SCENES_RATE in ten minutes: `ask` looks at longer videos at a lower rate, down to ASK_RATE."""

TEMPLATE_TOKENS = 48
"""Room for a chat template and the system's sentence, in tokens of any tokenizer."""

CHARACTERS_A_TOKEN = 3
"""Of a question; English has about four."""


@dataclass(frozen=True)
class Prompt:
    """Frames that stay and what they come to: `visual` tokens of theirs, `tokens` of the whole prompt."""

    kept: int
    visual: int
    tokens: int
    seconds: float  # the last frame's time, whose label is the longest


def asking_rate(span: Fraction) -> Fraction:
    """SCENES_RATE for what is short: a thing of three seconds must not be missed. ASK_RATE from 40 minutes on."""
    return max(ASK_RATE, min(SCENES_RATE, MOST_FRAMES / span)) if span > 0 else ASK_RATE


def frame_count(span: Fraction, rate: Fraction | None, own_rate: Fraction | None, max_frames: int | None) -> int:
    """Frames sampled from `span` seconds at `rate` (None: every frame, at the video's own rate); at least one."""
    if rate is None:
        rate = own_rate or Fraction(25)
    elif own_rate:
        rate = min(rate, own_rate)  # a frame is sampled once, however many ticks it is on screen for
    count = max(1, ceil(span * rate))
    return count if max_frames is None else min(count, max_frames)


def prompt_of(frames: int, seconds: float, each: int, budget: int, context: int, max_tokens: int, question: int,
              around: int = 0) -> Prompt:  # fmt: skip
    """What `pipeline.answer.kept_frames` keeps of `frames`, at most, under `budget` visual tokens and a context.

    each: tokens a frame, `around` beside these, 0 = a label in seconds. seconds: the video's length, for the labels. question: its characters.
    Raises UsageError when not even one frame fits.
    """
    label = around or len(f"{seconds:.0f}:")  # no tokenizer makes more than a token of a digit
    text = TEMPLATE_TOKENS + ceil(question / CHARACTERS_A_TOKEN)
    if budget < each:
        raise UsageError(f"--token-budget {budget} is less than one frame's {each} tokens", f"give at least {each}")
    kept = min(frames, budget // each, (context - max_tokens - text) // (each + label))
    if kept < 1:
        raise UsageError(f"the question leaves no room in the context of {context} tokens", "shorten it or lower --max-tokens")
    return Prompt(kept, kept * each, text + kept * (each + label), seconds)
