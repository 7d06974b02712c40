"""Order, absence and number from made-up sightings: a few words, each with its odds in ten frames."""

import numpy as np
import pytest

from mambamia_cli.language.intent import Intent
from mambamia_cli.pipeline import ordering
from mambamia_cli.pipeline.sightings import Sightings


def sightings(**at):
    """name=(frame, presence) or (frame, presence, frames): odds of 6 in these frames and -6 elsewhere; frame None is nowhere."""
    odds = np.full((len(at), 10), -6.0, np.float32)
    for row, (frame, _, *length) in enumerate(at.values()):
        if frame is not None:
            odds[row, frame : frame + (length[0] if length else 1)] = 6
    presence = np.array([p for _, p, *_ in at.values()], np.float32)
    return Sightings(tuple(at), odds, presence, np.arange(10.0), 10.0)


def test_which_comes_sooner_is_even_for_what_is_seen_nowhere():
    when = ordering.moments(sightings(a=(2, 1), b=(7, 1), c=(None, 0)))
    assert when.sum(1) == pytest.approx([1, 1, 1])
    chance = ordering.sooner(when)
    assert chance[0, 1] > 0.99 and chance[1, 0] < 0.01 and chance[2, 2] == pytest.approx(0.5)
    assert chance + chance.T == pytest.approx(np.ones((3, 3)))
    assert 0.6 < chance[0, 2] < 0.8  # a uniform time is after frame 2 in seven frames of ten, and half of the one


def test_order_of_two_is_as_sure_as_that_both_are_there():
    assert ordering.order(sightings(a=(2, 0.9), b=(7, 0.9))) == pytest.approx(0.81 + 0.095, abs=0.01)
    assert ordering.order(sightings(a=(7, 0.9), b=(2, 0.9))) == pytest.approx(0.095, abs=0.01)
    assert ordering.order(sightings(a=(2, 0.9), b=(None, 0.0))) == pytest.approx(0.5)
    assert ordering.order(sightings(a=(2, 1, 4), b=(3, 1, 2))) == pytest.approx(0.5, abs=0.01)  # in the same stretch


def test_absent_is_what_is_seen_least():
    shares = np.exp(ordering.absent(sightings(a=(2, 0.9), b=(None, 0.05), c=(5, 0.6))))
    assert shares.sum() == pytest.approx(1) and shares.argmax() == 1 and shares[0] < shares[2] < 0.1


@pytest.mark.parametrize(("kind", "winner"), [("after", "c"), ("before", "b")])
def test_next_after_a_thing_is_the_nearest_that_is_there(kind, winner):
    # In time: d, b, a, (e, hardly there), c, f
    seen = sightings(a=(4, 0.9), b=(3, 0.9), c=(6, 0.9), d=(1, 0.9), e=(5, 0.02), f=(8, 0.95))
    intent = Intent(kind, ("b", "c", "d", "e", "f"), about="a")
    shares = np.exp(ordering.likelihoods(intent, seen))
    assert shares.sum() == pytest.approx(1) and intent.things[shares.argmax()] == winner and shares.max() > 0.7


def test_next_after_a_thing_in_its_own_frame_is_not_certain():
    shares = np.exp(ordering.after(sightings(a=(4, 1), b=(4, 1), c=(None, 0))))
    assert shares[0] > shares[1] and np.isfinite(shares).all()


def test_other_kinds_are_not_decided_here():
    assert ordering.likelihoods(Intent("first", ("a", "b")), sightings(a=(1, 1), b=(2, 1))) is None
    assert ordering.likelihoods(Intent("absent", ("a", "b")), sightings(a=(1, 0.9), b=(None, 0.1))).argmax() == 1


def test_the_list_is_in_order_of_first_times_and_one_stretch_gets_one_name():
    seen = sightings(late=(7, 0.9, 2), early=(1, 0.8, 2), weak=(4, 0.2), twin=(7, 0.9, 2))
    seen.odds[2, 4], seen.odds[3, 7:9] = 0.5, 5  # below the bar; a misreading of "late"
    seen.odds[0, 4] = 3  # "late" again, and earlier: its first time
    names = ordering.listed(seen, bar=1.0, drop=4.0)
    assert [(n.name, n.start, n.end) for n in names] == [("early", 1, 3), ("late", 4, 5)]
    assert names[0].chance == pytest.approx(0.8)
    assert ordering.listed(seen, bar=7.0, drop=4.0) == ()


def test_open_questions_are_told_from_the_list():
    names = ["cat", "dog", "egg"]
    say = {kind: ordering.told(Intent(kind, about="dog"), names) for kind in ("list", "count", "first", "last", "after", "before")}
    assert say == {"list": "cat, dog and egg", "count": "3", "first": "cat", "last": "egg", "after": "egg", "before": "cat"}
    assert ordering.told(Intent("after", about="egg"), names) is None and ordering.told(Intent("after", about="yak"), names) is None
    assert ordering.told(Intent("list"), []) is None and ordering.told(Intent("first"), []) is None and ordering.told(Intent("count"), []) == "0"
    assert ordering.joined(["a"]) == "a" and ordering.joined(["a", "b"]) == "a and b"


def test_a_number_of_things_from_the_chance_of_each():
    assert ordering.counted([0.5, 0.5]) == pytest.approx([0.25, 0.5, 0.25])
    shares = np.exp(ordering.count_among(("two", "3", "4 objects"), [1.0, 0.9, 0.8]))
    assert shares.argmax() == 1 and shares.sum() == pytest.approx(1)
    assert ordering.count_among(("two", "many"), [1.0]) is None and ordering.number("") is None


@pytest.mark.parametrize(("choices", "index"), [(("0:05", "0:20", "1:10"), 1), (("at 3 s", "18 seconds"), 1), (("1 minute", "30 s"), 1),
                                                (("at the start", "0:20"), None), ((), None)])  # fmt: skip
def test_the_nearest_of_times_offered(choices, index):
    assert ordering.closest(choices, 21.5) == index
