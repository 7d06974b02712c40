"""Every question's answer follows from the timeline, whatever the seed."""

import numpy as np
import pytest

from mambamia_cli.language.prompt import with_options
from mambamia_cli.training.questions import KINDS, NUMBERS, Timeline, ask, joined

NAMES = ["cat", "dog", "fox", "owl", "bee", "key", "bus", "pot"]
LINE = Timeline({"dog": (7, 8), "cat": (2, 3), "owl": (12,)}, ("espresso",))


def asked(kind, timeline=LINE, seeds=60):
    return [q for s in range(seeds) if (q := ask(np.random.default_rng(s), kind, timeline, NAMES)) is not None]


def test_first_and_last():
    assert {q.answer for q in asked("first")} == {"cat"}
    assert {q.answer for q in asked("last")} == {"owl"}


def test_options_hold_the_answer_once_and_are_distinct():
    for kind in ("appear", "first", "last"):
        for q in asked(kind):
            if q.options:
                assert q.options.count(q.answer) == 1 and len(set(q.options)) == 4


def test_appear_offers_nothing_else_that_appears():
    for q in asked("appear"):
        assert [o for o in q.options if o in LINE.frames] == [q.answer]


def test_before_takes_the_earlier_of_the_two_named():
    order = ["cat", "dog", "owl"]
    for q in asked("before"):
        other = [n for n in order if n != q.answer and (n in q.text or n in q.options)]
        assert other and all(order.index(q.answer) < order.index(n) for n in other)


def test_after_is_the_next_one():
    following = {"cat": "dog", "dog": "owl"}
    for q in asked("after"):
        named = next(n for n in following if f"the {n}" in q.text)
        assert q.answer == following[named]


def test_exists_is_balanced_and_true():
    answers = [(any(n in q.text.split() or n in q.text.rstrip("?").split() for n in LINE.frames), q.answer) for q in asked("exists", seeds=200)]
    assert all(present == (answer == "yes") for present, answer in answers)
    assert 0.35 < np.mean([a == "yes" for _, a in answers]) < 0.65


def test_count_order_list_and_description():
    assert {q.answer for q in asked("count")} == {NUMBERS[3]}
    assert {q.answer for q in asked("order")} == {"cat, dog and owl"} == {q.answer for q in asked("list")}
    assert all("espresso" in q.answer for q in asked("show"))
    assert asked("summary")[0].answer == "The video shows cat, then dog, then owl, then espresso."


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_on_screen_gives_no_false_answer(kind):
    for q in asked(kind, Timeline({}), seeds=20):
        assert q.answer in ("no", "zero", "nothing I can name")


def test_ties_are_not_asked():
    tie = Timeline({"cat": (2,), "dog": (2,), "owl": (9,)})
    assert not asked("first", tie) and not asked("order", tie) and asked("last", tie)


def test_wording():
    assert joined(["a"]) == "a" and joined(["a", "b", "c"]) == "a, b and c"
    assert with_options("Which?", ["x", "y"]) == "Which? Options: x, y." and with_options("Which?", ()) == "Which?"
