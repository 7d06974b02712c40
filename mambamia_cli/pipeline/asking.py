"""One question -> an answer: what the frames that match its words show, what the language model says of the kept frames,
and the two weighed against each other.

Questions of when and whether are read off the frames alone. Where options are offered and the wording says how frames
decide among them (see language/intent.py), the language model breaks ties. All else is the language model's.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mambamia_cli.language.intent import Intent
from mambamia_cli.language.intent import read as read_intent
from mambamia_cli.language.prompt import with_options
from mambamia_cli.pipeline import sightings
from mambamia_cli.pipeline.answer import Answer, generate, kept_frames, likeliest, prompt
from mambamia_cli.pipeline.engine import Models
from mambamia_cli.pipeline.index import Index
from mambamia_cli.pipeline.relook import SecondLook
from mambamia_cli.pipeline.sightings import Sightings
from mambamia_cli.records import Evidence


@dataclass(frozen=True)
class Reply:
    """`kept`: the frames that the language model saw, None where it was not asked. `confidence`: None where there is no
    measure of it."""

    answer: Answer
    kept: list[int] | None
    evidence: tuple[Evidence, ...]
    confidence: float | None


@dataclass(frozen=True)
class Asking:
    """How questions of one look are answered. `budget`: visual tokens, None = the model's. `by` and `selection` as in Video.ask.
    `second`: where second looks may be taken."""

    index: Index
    models: Models
    budget: int | None
    max_tokens: int
    by: str = "blend"
    selection: str = "delta"
    second: SecondLook | None = None

    def reply(self, question: str, choices: Sequence[str] | None, on_text: Callable[[str], None] | None) -> Reply:
        """Raises UsageError when the question leaves no room for a frame."""
        began, models = time.perf_counter(), self.models
        intent, seen = Intent(None), None
        if models.lexicon is not None and self.by != "language":
            intent = read_intent(question, models.lexicon.named(question), tuple(choices or ()))
            seen = sightings.look_for(self.index, models, intent.things, self.second) if intent.kind and intent.things else None
        if seen is not None and intent.kind in ("when", "exists"):
            answer, confidence, ranges = self._read_off(intent, seen, choices)
            if on_text is not None and confidence >= models.match.unsure:
                on_text(answer.text)
            return Reply(answer, None, ranges, confidence)
        answer, kept = self.told(question, choices, on_text, began)
        answer, confidence = self._weighed(answer, intent, seen)
        return Reply(answer, kept, self._leaned_on(answer.text, seen, intent), confidence)

    def told(self, question: str, choices: Sequence[str] | None, on_text: Callable[[str], None] | None = None,
             began: float | None = None) -> tuple[Answer, list[int]]:  # fmt: skip
        """What the language model says of the kept frames, and these."""
        put = with_options(question, choices or ())
        kept = kept_frames(self.index, self.models, self.budget, put, self.max_tokens, selection=self.selection)
        embeds = prompt(self.index, self.models, kept, put)  # (l, width)
        if choices is not None:
            return likeliest(self.models, embeds, choices), kept
        return generate(self.models, embeds, self.max_tokens, on_text, began), kept

    def _read_off(self, intent: Intent, seen: Sightings, choices: Sequence[str] | None) -> tuple[Answer, float, tuple[Evidence, ...]]:
        """A question of when or whether, answered from the frames alone: -> answer, confidence, ranges."""
        chance = float(seen.presence[0])
        ranges = sightings.found(seen, self.models, 0)
        if intent.kind == "when":
            ranges = ranges or sightings.found(seen, self.models, 0, least=0.0, most=1)
            text = f"at {sightings.clock(ranges[0].start)}" if ranges else "not seen"
            return Answer(text, "evidence", 0.0), chance, ranges
        said = {(c.strip().lower()): c for c in choices or ("yes", "no")}
        yes, no = said.get("yes", "yes"), said.get("no", "no")
        listed = tuple(sorted(((yes, round(chance, 4)), (no, round(1 - chance, 4))), key=lambda pair: -pair[1]))
        answer = Answer(listed[0][0], "evidence", 0.0, choices=listed if choices else None)
        return answer, max(chance, 1 - chance), ranges if chance >= 0.5 else ()

    def _weighed(self, answer: Answer, intent: Intent, seen: Sightings | None) -> tuple[Answer, float | None]:
        """The language model's choice weighed with the evidence: -> answer, confidence."""
        if answer.choices is None or not self.models.has_lexicon:
            return answer, None  # no measure of how sure it is
        scores, rule = {text: math.log(max(share, 1e-6)) for text, share in answer.choices}, self.models.match
        known = sightings.likelihoods(intent, seen) if seen is not None else None
        if known is not None and set(intent.things) == set(scores):
            language = 0.0 if self.by == "evidence" else rule.language
            for thing, score in zip(intent.things, known, strict=True):
                scores[thing] = language * scores[thing] + rule.weight * float(score)
        top = max(scores.values())
        shares = {text: math.exp(score - top) for text, score in scores.items()}
        total = sum(shares.values())
        listed = tuple(sorted(((text, round(share / total, 4)) for text, share in shares.items()), key=lambda pair: -pair[1]))
        return replace(answer, text=listed[0][0], choices=listed), listed[0][1]

    def _leaned_on(self, text: str, seen: Sightings | None, intent: Intent) -> tuple[Evidence, ...]:
        """Where the things that an answer names are seen."""
        if self.models.lexicon is None:
            return ()
        named = [text] if seen is not None and text in intent.things else self.models.lexicon.named(text)[:4]
        if not named:
            return ()
        if seen is None or named[0] not in seen.words:
            seen = sightings.look_for(self.index, self.models, named, self.second)
        ranges = [r for word in named for r in sightings.found(seen, self.models, seen.words.index(word), most=5)]
        return tuple(sorted(ranges, key=lambda r: -r.score))
