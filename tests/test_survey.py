"""The whole lexicon read from a video, without a question."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from mambamia_cli.pipeline import Models, open_video, ordering
from mambamia_cli.pipeline.imagenet_sight import LOOKS, Known, spread
from mambamia_cli.pipeline.relook import SecondLook
from mambamia_cli.pipeline.sightings import Sightings
from mambamia_cli.pipeline.survey import LISTED, MIDDLE, merged, named, pooled, survey


def test_classes_of_one_name_add_up_and_what_is_common_is_taken_off():
    shares = torch.tensor([[[0.3, 0.2, 0.4, 0.1], [0.05, 0.05, 0.85, 0.05]]])  # one frame, two tokens
    odds = pooled(shares, ["crane", "Crane", "cat", "scene"], ["cat", "crane"], torch.tensor([0.0, 0.5, -1.0, 9.0]))
    assert odds.shape == (2, 1)
    assert odds[:, 0].tolist() == pytest.approx([np.log(0.85 / 0.15) + 1, 0.0 - 0.5], abs=1e-5)


def test_survey_of_a_street_holds_every_word_once_and_names_no_emoji(bikes, smollm):
    models = Models("mambamia-tiny")
    index = open_video(bikes, models=models).index(default_rate=Fraction(4))
    seen = survey(index, models)
    assert seen.odds.shape == (len(seen.words), len(index.times)) and np.isfinite(seen.odds).all()
    lower = [word.lower() for word in seen.words]
    assert len(set(lower)) == len(lower) and set(lower) == {w.lower() for w in models.lexicon.words} - {"scene"}
    assert ((seen.presence > 0.5) == (seen.odds.max(1) > MIDDLE)).all()
    found = [thing.name for thing in named(index, models, SecondLook(index, models))]
    assert {"car", "bicycle"} <= set(found) <= {"car", "suit", "bicycle", "motorcycle"} and found.index("car") < found.index("bicycle")


def test_a_thing_that_both_name_stands_once():
    drawn = (ordering.Named("dog", 1.0, 4.0, 0.9, ((1.0, 4.0),)), ordering.Named("cat", 6.0, 8.0, 0.8, ((6.0, 8.0),)))
    known = (Known("cat", 0.95, (2.0, 6.5)), Known("car", 0.7, (9.0,)), Known("dog", 0.6, (3.0,)))
    dog, cat, car = merged(drawn, known)
    assert dog.within(0, 2) and cat.within(2.1, 2.2) and cat.within(7, 9) and not cat.within(3, 6) and car.within(9, 10)
    assert [(t.name, t.start, t.chance) for t in (dog, cat, car)] == [("dog", 1.0, 0.9), ("cat", 2.0, 0.95), ("car", 9.0, 0.7)]


@pytest.mark.parametrize(("start", "end", "count"), [(0, 10, 20), (5, 5.2, 1), (0, 7200, LOOKS), (3, 3, 1)])
def test_moments_to_look_at_lie_within(start, end, count):
    at = spread(start, end)
    assert len(at) == count and all(start <= t <= end for t in at) and at == sorted(at)


def test_survey_reads_a_drawing_where_the_odds_say_so(smollm):
    """A made index: tokens that are the words themselves, in the order of time."""
    models = Models("mambamia-tiny")
    lexicon = models.lexicon
    told = [lexicon.words.index(w) for w in ("guitar", "cat")]
    tokens = lexicon.table[[lexicon.words.index("scene")] * 3 + [told[0]] * 3 + [lexicon.words.index("scene")] * 2 + [told[1]] * 3][:, None]  # (m, 1, width)
    names = list(dict.fromkeys(w.lower() for w in lexicon.words if w != "scene"))
    odds = pooled(lexicon.posterior(tokens), lexicon.words, names, lexicon.common)

    seen = Sightings(tuple(names), odds.detach().numpy(), np.ones(len(names)), np.arange(11.0), 11.0)
    assert [(n.name, n.start, n.end) for n in ordering.listed(seen, bar=LISTED, drop=4.0)] == [("guitar", 3, 6), ("cat", 8, 11)]


def test_likely_words_are_looked_at_once_more_and_the_others_are_not():
    """What a second look says moves a candidate's odds; a word below the bar keeps its own, and without a reader all do."""
    from types import SimpleNamespace

    from mambamia_cli.language.lexicon import Lexicon
    from mambamia_cli.language.matching import MatchRule
    from mambamia_cli.pipeline.survey import ALONE, CANDIDATE, closer

    torch.manual_seed(0)
    lexicon = Lexicon(["cat", "dog", "fox", "scene"], torch.eye(4))
    odds = np.full((3, 12), CANDIDATE - 3.0)
    odds[0, 4:6], odds[1, 8:10] = 1.0, 0.5
    seen = Sightings(("cat", "dog", "fox"), odds, np.zeros(3), np.arange(12) / 1.0, 12.0)
    asked = []

    class Second:
        """Every view shows a fox but for frame 8, which shows a dog."""

        def odds(self, frames, words, measure):
            asked.extend(frames)
            return measure(words, torch.stack([lexicon.table[1 if i in (8, 9) else 2].expand(1, 4) for i in frames])).detach().numpy()

        def swept(self):
            return always

    always: list[int] = []
    models = SimpleNamespace(spotter=object(), lexicon=lexicon, match=MatchRule(again=1.0))
    after = closer(seen, models, Second())
    assert after.odds[0].max() < -2 and after.odds[1].argmax() in (8, 9) and after.odds[1].max() > 2
    assert np.array_equal(after.odds[2], odds[2] - (ALONE - LISTED)) and set(asked) <= set(range(12)) and {4, 8} <= set(asked)
    assert after.presence[1] > 0.5 > after.presence[0]
    always = [1, 11]  # whatever is likely, these are looked at, and show a fox
    swept = closer(seen, models, Second())
    assert swept.odds[2, [1, 11]].min() > 2 and swept.presence[2] > 0.5 and swept.odds[0].max() < -2
    assert closer(seen, SimpleNamespace(spotter=None), Second()) is seen
