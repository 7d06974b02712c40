"""Conversations as token sequences: the prompt that `ask` makes, the answer after it, and a label where a loss is due.

The first turn up to its answer is built by language/prompt.py itself, so what is trained is what is asked later, token by
token. Answers are tokenised by themselves, as a model writes them, and end with the model's own end token. Later turns
follow in the chat template's words; they see the medium through the first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mambamia_cli.errors import ModelError
from mambamia_cli.language.prompt import SYSTEM, frame_label, split_template

IGNORED = -100  # the label of a token without a loss
_SENTINEL = "\ufffcanswer\ufffc"


@dataclass(frozen=True)
class Tokens:
    """ids (l,), 0 where a visual token stands; visual (l,) says where; labels (l,): the id on answer tokens, else IGNORED."""

    ids: list[int]
    visual: list[bool]
    labels: list[int]

    @property
    def answer_tokens(self) -> int:
        return sum(label != IGNORED for label in self.labels)


class Dialogue:
    """Turns conversations into sequences for one language model (a TransformersLanguageModel)."""

    def __init__(self, lm):
        self.lm = lm
        self.stops = lm.tokenizer.stop_ids
        if not self.stops:
            raise ModelError(f"{lm.name} has no token that ends an answer", "choose a model with an end-of-sequence token")

    def layout(self, turns: Sequence[tuple[str, str]], seconds: Sequence[float], tokens_per_frame: int, system: str | None = None) -> Tokens:
        """turns: (question, answer) pairs; seconds: times of the frames that are shown -> the sequence."""
        ids, visual, labels = [], [], []

        def add(part: list[int], *, loss: int = 0, seen: bool = False) -> None:
            """Tokens with a loss on the first `loss` of them, or slots of visual tokens."""
            ids.extend(part)
            visual.extend([seen] * len(part))
            labels.extend([*part[:loss], *[IGNORED] * (len(part) - loss)])

        before, after = split_template(self.lm, turns[0][0], system)
        add(self.lm.tokenize(before))
        for moment in seconds:
            add(self.lm.tokenize(frame_label(moment)))
            add([0] * tokens_per_frame, seen=True)
        add(self.lm.tokenize(after))
        for k, (_, answer) in enumerate(turns):
            # A template that ends its prompt with a word (base models: "Answer:") wants a space before the next.
            spaced = answer if after[-1:].isspace() else f" {answer}"
            part = self.lm.tokenize(spaced, special=False)
            add(part, loss=len(part))
            after = self._after(turns, k, system)
            closing = self.lm.tokenize(after)
            if not closing or closing[0] not in self.stops:
                closing = [min(self.stops), *closing]
            add(closing if k + 1 < len(turns) else closing[:1], loss=1)
        return Tokens(ids, visual, labels)

    def _after(self, turns: Sequence[tuple[str, str]], k: int, system: str | None) -> str:
        """What the template puts after answer k: its end, and the next question up to where its answer begins."""
        messages = [{"role": "system", "content": SYSTEM if system is None else system}]
        messages = messages if messages[0]["content"] else []
        for question, answer in turns[:k]:
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        messages += [{"role": "user", "content": turns[k][0]}, {"role": "assistant", "content": _SENTINEL}]
        more = k + 1 < len(turns)
        if more:
            messages.append({"role": "user", "content": turns[k + 1][0]})
        return self.lm.tokenizer.render(messages, reply=more).partition(_SENTINEL)[2]
