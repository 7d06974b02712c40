"""One question -> an answer: what the frames that match its words show, what the language model says of the kept frames,
and the two weighed against each other.

What frames decide is read off them alone (pipeline/verdicts.py): when, how long and whether a thing is seen, which of two comes
first, what there is to see. Where options are offered, or named in the question, and the wording says how frames decide among
them (see language/intent), the language model breaks ties. All else is the language model's, if it can be trusted with it
(MatchRule.writes).
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mambamia_cli.language.intent import OF_ONE, Intent
from mambamia_cli.language.intent import read as read_intent
from mambamia_cli.language.prompt import with_options
from mambamia_cli.pipeline import colour, ordering, sightings, verdicts
from mambamia_cli.pipeline.answer import Answer, Reply, generate, kept_frames, likeliest, prompt
from mambamia_cli.pipeline.engine import Models
from mambamia_cli.pipeline.index import Index
from mambamia_cli.pipeline.relook import SecondLook
from mambamia_cli.pipeline.sightings import Sightings
from mambamia_cli.records import Evidence

OPEN = ("list", "count", "first", "last", "after", "before")
"""Kinds that may name no thing to choose among: what there is to choose from is then all that is recognised."""

FRAMES_ALONE = ("when", "exists", "order", "coloured", *OF_ONE)
"""Kinds about one thing or two that the language model has no say in, where what is seen decides them."""


@dataclass(frozen=True)
class Asking:
    """How questions of one look are answered. `budget`: visual tokens, None = the model's. `by` and `selection` as in Video.ask.
    `second`: where second looks may be taken. `names`: gives what is seen when nobody asks for anything (pipeline/survey.py)."""

    index: Index
    models: Models
    budget: int | None
    max_tokens: int
    by: str = "blend"
    selection: str = "delta"
    second: SecondLook | None = None
    names: Callable[[], tuple[ordering.Named, ...]] | None = None

    def reply(self, question: str, choices: Sequence[str] | None, on_text: Callable[[str], None] | None) -> Reply:
        """Raises UsageError when the question leaves no room for a frame."""
        began = time.perf_counter()
        intent = self._intent(question, tuple(choices or ()))
        if (decided := self._decided(intent, question, choices)) is not None:
            return decided
        seen = self._sought(intent) if intent.things and intent.kind not in ("count", *FRAMES_ALONE) else None
        offered = choices if choices or seen is None else intent.things  # "the cat or the dog" are choices as well
        if not offered and not self._writes:
            return self._untold(question)
        answer, kept = self.told(question, offered, on_text, began, self._within(intent))
        answer, confidence = self._weighed(answer, intent, seen)
        guess = seen is None and answer.choices is not None and not self._writes
        if guess and confidence is not None:
            confidence = min(confidence, 1 / len(offered or ()))  # which nobody taught it to choose
        return Reply(answer, kept, self._leaned_on(answer.text, seen, intent), confidence, guess)

    @property
    def _writes(self) -> bool:
        """Whether what the language model says on its own is an answer."""
        return self.models.lexicon is None or self.by == "language" or self.models.match.writes

    def _intent(self, question: str, choices: tuple[str, ...]) -> Intent:
        """What is asked; of no kind where matching decides nothing."""
        lexicon = self.models.lexicon
        return Intent(None) if lexicon is None or self.by == "language" else read_intent(question, lexicon.named(question), choices)

    def _decided(self, intent: Intent, question: str, choices: Sequence[str] | None) -> Reply | None:
        """What frames alone decide."""
        if intent.stretch is not None:
            start, end = intent.stretch.within(*self.index.range)
            if start >= end:
                return verdicts.outside(*self.index.range)
        if intent.kind == "length" and not choices:
            return Reply(verdicts.read_off(sightings.clock(float(self.index.info.duration or self.index.range[1]))), None, (), 1.0)
        if intent.kind in FRAMES_ALONE and intent.things:
            seen = self._sought(replace(intent, about=None))  # where that is a colour, it is sought in the thing
            if intent.kind not in ("colour", "coloured"):
                return verdicts.of_one(intent, seen, self.models, choices)
            shares = None if self.second is None else colour.shares(seen, 0, self.second, self.models)
            return None if shares is None else verdicts.colour(intent, seen, shares, self.models, choices)
        if intent.kind == "count" and choices:
            return verdicts.counted(self._things(intent), choices)
        if intent.kind in OPEN and not intent.things and not choices and self.names is not None:
            told = verdicts.surveyed(intent, self._things(intent))
            return verdicts.nothing() if told is None and intent.kind == "list" and not self._writes else told
        return None

    def _within(self, intent: Intent) -> tuple[float, float] | None:
        return None if intent.stretch is None else intent.stretch.within(*self.index.range)

    def _sought(self, intent: Intent) -> Sightings:
        """Where the things that a question is about are seen."""
        words = (intent.about, *intent.things) if intent.about else intent.things
        return sightings.look_for(self.index, self.models, words, self.second, self._within(intent))

    def _things(self, intent: Intent) -> tuple[ordering.Named, ...]:
        """What is recognised in the part of the video that is meant, and what the question itself takes for granted, if that is seen."""
        things = self.names() if self.names is not None else ()
        if intent.about and intent.about not in [thing.name for thing in things]:
            seen = sightings.look_for(self.index, self.models, [intent.about], self.second)
            things = (*things, *(ordering.Named(intent.about, r.start, r.end, r.score) for r in sightings.found(seen, self.models, 0, most=1)))
        return ordering.during(things, *(self._within(intent) or self.index.range))

    def _untold(self, question: str) -> Reply:
        """In place of what the language model would make up."""
        assert self.models.lexicon is not None
        asked = self.models.lexicon.named(question)
        if asked:
            return verdicts.untold((), sightings.look_for(self.index, self.models, asked, self.second), self.models)
        return verdicts.untold(self.names() if self.names is not None else (), None, self.models)

    def told(self, question: str, choices: Sequence[str] | None, on_text: Callable[[str], None] | None = None,
             began: float | None = None, span: tuple[float, float] | None = None) -> tuple[Answer, list[int]]:  # fmt: skip
        """What the language model says of the frames kept of a stretch of time (None = all), and these."""
        put = with_options(question, choices or ())
        inside = None if span is None else sightings.frames_within(self.index.seconds, *span).tolist()
        kept = kept_frames(self.index, self.models, self.budget, put, self.max_tokens, selection=self.selection, within=inside, span=span)
        embeds = prompt(self.index, self.models, kept, put, span)  # (l, width)
        if choices is not None:
            return likeliest(self.models, embeds, choices), kept
        return generate(self.models, embeds, self.max_tokens, on_text, began), kept

    def _weighed(self, answer: Answer, intent: Intent, seen: Sightings | None) -> tuple[Answer, float | None]:
        """The language model's choice weighed with the evidence: -> answer, confidence."""
        if answer.choices is None or not self.models.has_lexicon:
            return answer, None  # no measure of how sure it is
        scores, rule = {text: math.log(max(share, 1e-6)) for text, share in answer.choices}, self.models.match
        known = None
        if seen is not None:
            known = sightings.likelihoods(intent, seen) if intent.about is None else None
            known = ordering.likelihoods(intent, seen) if known is None else known
        if known is not None and set(intent.things) == set(scores):
            language = 0.0 if self.by == "evidence" else rule.language
            for thing, score in zip(intent.things, known, strict=True):
                scores[thing] = language * scores[thing] + rule.weight * float(score)
        top = max(scores.values())
        shares = {text: math.exp(score - top) for text, score in scores.items()}
        total = sum(shares.values())
        listed = tuple(sorted(((text, round(share / total, 4)) for text, share in shares.items()), key=lambda pair: -pair[1]))
        confidence = listed[0][1]
        if known is not None and intent.kind != "absent":  # of things none of which is seen, the likeliest is no answer to be sure of
            confidence = min(confidence, float(seen.presence[seen.words.index(listed[0][0])]))
        return replace(answer, text=listed[0][0], choices=listed), confidence

    def _leaned_on(self, text: str, seen: Sightings | None, intent: Intent) -> tuple[Evidence, ...]:
        """Where the things that an answer names are seen."""
        if self.models.lexicon is None:
            return ()
        named = [text] if seen is not None and text in intent.things else self.models.lexicon.named(text)[:4]
        if not named:
            return ()
        if seen is None or named[0] not in seen.words:
            seen = sightings.look_for(self.index, self.models, named)
        ranges = [r for word in named for r in sightings.found(seen, self.models, seen.words.index(word), most=5)]
        return tuple(sorted(ranges, key=lambda r: -r.score))
