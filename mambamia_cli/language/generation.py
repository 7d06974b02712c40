"""One answer, token by token: choosing the next token, turning tokens into text as they come, knowing when to stop.

Both back ends drive this loop; what differs between them is only how logits are made.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mambamia_cli.errors import UsageError
from mambamia_cli.language.tokenizer import Tokenizer

LONGEST_LOOP = 48  # tokens: the longest repeated passage that is looked for
REPEATS = 4  # an n-gram that stands this often in a row...
LOOP_SPAN = 24  # ...and covers this many tokens is a loop: "ha ha ha ha" or a short list is not


@dataclass(frozen=True)
class GenerationOptions:
    """How to write an answer. temperature 0 = greedy; `stop` strings end it and are not part of it."""

    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self):
        if self.max_tokens < 1:
            raise UsageError(f"--max-tokens {self.max_tokens} leaves no answer", "give 1 or more")
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(f"--temperature {self.temperature} is out of range", "give 0 (greedy) or more")
        if any(not text for text in self.stop):
            raise UsageError("an empty stop text would end every answer at once", "leave it out")


def loop_period(ids: Sequence[int]) -> int | None:
    """Length of the n-gram that the tail of `ids` repeats REPEATS times over at least LOOP_SPAN tokens, else None."""
    for period in range(1, LONGEST_LOOP + 1):
        span = max(REPEATS * period, LOOP_SPAN)
        if len(ids) < span:
            break  # longer periods need a longer tail still
        # Comparing with itself one period back: the tail is periodic exactly when both agree everywhere.
        if ids[-1] == ids[-1 - period] and list(ids[-span + period :]) == list(ids[-span:-period]):
            return period
    return None


def next_token(logits: Tensor, temperature: float, generator: torch.Generator) -> int:
    """logits (vocabulary,) -> a token id: the most likely one, or one drawn at `temperature`."""
    if temperature == 0:
        return int(logits.argmax())
    # Drawn on the CPU, so that a seed means the same draw on every device.
    chances = torch.softmax(logits.float().cpu() / temperature, dim=-1)  # (vocabulary,)
    return int(torch.multinomial(chances, 1, generator=generator))


class TextStream:
    """Tokens in, text pieces out: whole characters only, and never the beginning of a stop text."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()):
        self._tokenizer, self._stop = tokenizer, tuple(stop)
        self._ids: list[int] = []
        self._done = 0  # ids before this one are in the text for good
        self._shown = ""  # text of ids[_done:] that is already in _pending
        self._pending = ""  # text not handed out yet
        self.stopped = False

    def push(self, token: int) -> str:
        """The text that became certain with this token, maybe none."""
        self._ids.append(token)
        text = self._tokenizer.decode(self._ids[self._done :])
        if not text.endswith("\ufffd"):  # else half a character: its other bytes come with the next tokens
            self._pending += text[len(self._shown) :]
            # One token of context stays: some decoders write a token's leading space only after another token.
            self._done = len(self._ids) - 1
            self._shown = self._tokenizer.decode(self._ids[self._done :])
        return self._release(final=False)

    def finish(self) -> str:
        """What is left when no more tokens come."""
        if self.stopped:
            return ""
        self._pending += self._tokenizer.decode(self._ids[self._done :])[len(self._shown) :]
        self._shown = self._tokenizer.decode(self._ids[self._done :])
        return self._release(final=True)

    def _release(self, *, final: bool) -> str:
        for text in self._stop:
            if (at := self._pending.find(text)) >= 0:
                self._pending, self.stopped = self._pending[:at], True
        keep = 0 if final or self.stopped else self._possible_stop()
        piece, self._pending = self._pending[: len(self._pending) - keep], self._pending[len(self._pending) - keep :]
        return piece

    def _possible_stop(self) -> int:
        """Length of the longest end of the pending text with which a stop text begins."""
        longest = 0
        for text in self._stop:
            for length in range(1, len(text)):
                if self._pending.endswith(text[:length]):
                    longest = max(longest, length)
        return longest


class Generation:
    """Iterator over an answer's text pieces. After the last one: `finish`, `text` and `tokens`.

    finish is "stop" (end token or stop text), "length" (max_tokens or the context is full) or "repeat" (a loop).
    """

    def __init__(self, logits: Tensor, step: Callable[[int], Tensor], tokenizer: Tokenizer, options: GenerationOptions):
        """logits (vocabulary,) after the prompt; step(token) -> logits (vocabulary,) after one more token."""
        self.finish: str | None = None
        self.text = ""
        self.tokens = 0
        self._pieces = self._run(logits, step, tokenizer, options)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._pieces)

    def _run(self, logits, step, tokenizer, options) -> Iterator[str]:
        stream = TextStream(tokenizer, options.stop)
        generator = torch.Generator().manual_seed(options.seed)
        ids: list[int] = []
        while self.finish is None:
            token = next_token(logits, options.temperature, generator)
            if token in tokenizer.stop_ids:
                self.finish = "stop"
                break
            ids.append(token)
            self.tokens = len(ids)
            if piece := stream.push(token):
                self.text += piece
                yield piece
            if stream.stopped:
                self.finish = "stop"
            elif loop_period(ids) is not None:
                self.finish = "repeat"
            elif len(ids) >= options.max_tokens:
                self.finish = "length"
            else:
                logits = step(token)
        if piece := stream.finish():
            self.text += piece
            yield piece
