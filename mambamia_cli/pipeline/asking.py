"""One question -> an answer: what the frames that match its words show, what the language model says of the kept frames,
and the two weighed against each other.

Questions of when, whether and in which order are read off the frames alone. Where options are offered, or named in the
question, and the wording says how frames decide among them (see language/intent.py), the language model breaks ties. All
else is the language model's.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mambamia_cli.language.intent import Intent, affirmation
from mambamia_cli.language.intent import read as read_intent
from mambamia_cli.language.prompt import with_options
from mambamia_cli.pipeline import ordering, sightings
from mambamia_cli.pipeline.answer import Answer, generate, kept_frames, likeliest, prompt
from mambamia_cli.pipeline.engine import Models
from mambamia_cli.pipeline.index import Index
from mambamia_cli.pipeline.relook import SecondLook
from mambamia_cli.pipeline.sightings import Sightings
from mambamia_cli.records import Evidence, timecode

OPEN = ("list", "count", "first", "last", "after", "before")
"""Kinds that may name no thing to choose among: what there is to choose from is then all that is recognised."""


ABSENT = 0.05
"""Chance that a thing is there below which a question of its time is answered that it is not seen."""


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
        intent, seen = self._matched(question, tuple(choices or ()))
        if seen is not None and intent.kind == "when":
            return self._time(intent, seen, choices)
        if seen is not None and intent.kind in ("exists", "order"):
            return self._yes_or_no(intent, seen, choices)
        if intent.kind == "count" and choices and (told := self._counted(choices)) is not None:
            return told
        if seen is None and not choices and intent.kind in OPEN and (told := self._surveyed(intent)) is not None:
            return told
        offered = choices if choices or seen is None else intent.things  # "the cat or the dog" are choices as well
        answer, kept = self.told(question, offered, on_text, began)
        answer, confidence = self._weighed(answer, intent, seen)
        return Reply(answer, kept, self._leaned_on(answer.text, seen, intent), confidence)

    def _matched(self, question: str, choices: tuple[str, ...]) -> tuple[Intent, Sightings | None]:
        """What is asked, and where the things it is about are seen; None where matching does not decide it."""
        models = self.models
        if models.lexicon is None or self.by == "language":
            return Intent(None), None
        intent = read_intent(question, models.lexicon.named(question), choices)
        if intent.kind is None or not intent.things or intent.kind == "count":
            return intent, None
        words = (intent.about, *intent.things) if intent.about else intent.things
        return intent, sightings.look_for(self.index, models, words, self.second)

    def told(self, question: str, choices: Sequence[str] | None, on_text: Callable[[str], None] | None = None,
             began: float | None = None) -> tuple[Answer, list[int]]:  # fmt: skip
        """What the language model says of the kept frames, and these."""
        put = with_options(question, choices or ())
        kept = kept_frames(self.index, self.models, self.budget, put, self.max_tokens, selection=self.selection)
        embeds = prompt(self.index, self.models, kept, put)  # (l, width)
        if choices is not None:
            return likeliest(self.models, embeds, choices), kept
        return generate(self.models, embeds, self.max_tokens, on_text, began), kept

    def _time(self, intent: Intent, seen: Sightings, choices: Sequence[str] | None) -> Reply:
        """When a thing is seen: the start of its best stretch, of its first or last one, or the end of that, as was asked."""
        chance = float(seen.presence[0])
        ranges = sightings.found(seen, self.models, 0) or sightings.found(seen, self.models, 0, least=0.0, most=1)
        if not ranges or (chance < ABSENT and not choices):  # among times that are offered, a guess is what is asked for
            return Reply(Answer("not seen", "evidence", 0.0), None, (), 1 - chance)
        told = ranges[0] if intent.edge is None else (min if intent.edge == "first" else max)(ranges, key=lambda r: r.start)
        ranges = (told, *(r for r in ranges if r is not told))
        moment = told.end if intent.edge == "end" else told.start
        near = ordering.closest(choices or (), moment)
        text = f"at {sightings.clock(moment)}" if near is None else choices[near]
        return Reply(Answer(text, "evidence", 0.0), None, ranges, chance)

    def _yes_or_no(self, intent: Intent, seen: Sightings, choices: Sequence[str] | None) -> Reply:
        """Whether a thing is there, or comes before another."""
        chance = ordering.order(seen) if intent.kind == "order" else float(seen.presence[0])
        yes, no = affirmation(tuple(choices or ())) or ("yes", "no")
        listed = tuple(sorted(((yes, round(chance, 4)), (no, round(1 - chance, 4))), key=lambda pair: -pair[1]))
        answer = Answer(listed[0][0], "evidence", 0.0, choices=listed if choices else None)
        ranges = [r for word in range(len(seen.words)) for r in sightings.found(seen, self.models, word, most=5)]
        shown = chance >= 0.5 or intent.kind == "order"
        return Reply(answer, None, tuple(sorted(ranges, key=lambda r: -r.score)) if shown else (), max(chance, 1 - chance))

    def _surveyed(self, intent: Intent) -> Reply | None:
        """A question that names nothing to choose among, from all that is recognised; None where that does not say."""
        if self.names is None:
            return None
        things = self.names()
        text = ordering.told(intent, [thing.name for thing in things])
        if text is None:
            return None
        # Of a list or a number nothing says how likely it is to be whole: what is named is mostly there, but not all is named.
        sure = None if intent.kind in ("list", "count") else next(t.chance for t in things if t.name == text)
        ranges = [Evidence(round(t.start, 3), round(t.end, 3), timecode(t.start), round(t.chance, 4)) for t in things]
        return Reply(Answer(text, "evidence", 0.0), None, tuple(sorted(ranges, key=lambda r: -r.score)), sure)

    def _counted(self, choices: Sequence[str]) -> Reply | None:
        """Which of the choices is the number of things recognised; None where one is no number."""
        things = self.names() if self.names is not None else ()
        scores = ordering.count_among(choices, [thing.chance for thing in things])
        if not things or scores is None:
            return None
        listed = tuple(sorted(((text, round(math.exp(s), 4)) for text, s in zip(choices, scores, strict=True)), key=lambda pair: -pair[1]))
        ranges = [Evidence(round(t.start, 3), round(t.end, 3), timecode(t.start), round(t.chance, 4)) for t in things]
        return Reply(Answer(listed[0][0], "evidence", 0.0, choices=listed), None, tuple(sorted(ranges, key=lambda r: -r.score)), None)

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
