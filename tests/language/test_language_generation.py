"""Stopping, loops, sampling and streaming of text, with a tokenizer of single bytes."""

import pytest
import torch
from fixtures.language_models import small_tokenizer

from mambamia_cli.errors import UsageError
from mambamia_cli.language.generation import Generation, GenerationOptions, TextStream, loop_period, next_token

END = 257


class ByteTokenizer:
    """The Tokenizer protocol over the 256 bytes."""

    stop_ids = frozenset({END})

    def __init__(self):
        self.backend = small_tokenizer()

    def encode(self, text, *, special=True):
        return self.backend.encode(text).ids

    def decode(self, ids):
        return self.backend.decode(list(ids), skip_special_tokens=True)


def answer(ids, **options):
    """Drive a Generation with a model that says `ids` one after another."""
    logits = [torch.nn.functional.one_hot(torch.tensor(i), 320).float() for i in ids]
    steps = iter(logits[1:])
    asked = []

    def step(token):
        asked.append(token)
        return next(steps)

    generation = Generation(logits[0], step, ByteTokenizer(), GenerationOptions(**options))
    pieces = list(generation)
    assert "".join(pieces) == generation.text
    return generation, pieces, asked


def test_an_end_token_stops_and_is_not_text():
    ids = ByteTokenizer().encode("hello")
    generation, pieces, asked = answer([*ids, END])
    assert (generation.text, generation.finish, generation.tokens) == ("hello", "stop", 5)
    assert pieces == list("hello") and asked == ids


def test_max_tokens_ends_with_length_and_asks_the_model_no_more():
    ids = ByteTokenizer().encode("hello")
    generation, _, asked = answer(ids, max_tokens=3)
    assert (generation.text, generation.finish) == ("hel", "length") and asked == ids[:2]


def test_a_stop_text_is_cut_even_across_tokens_and_never_shown():
    ids = ByteTokenizer().encode("one\nQuestion: two")
    generation, pieces, _ = answer(ids, stop=("\nQuestion:",))
    assert (generation.text, generation.finish) == ("one", "stop") and pieces == ["o", "n", "e"]


def test_the_beginning_of_a_stop_text_is_given_back_when_it_does_not_come():
    generation, _, _ = answer([*ByteTokenizer().encode("a\nQu"), END], stop=("\nQuestion:",))
    assert generation.text == "a\nQu"


def test_characters_come_whole():
    ids = ByteTokenizer().encode("né 日")  # 2 and 3 bytes, a token each
    _, pieces, _ = answer([*ids, END])
    assert pieces == ["n", "é", " ", "日"]


def test_half_a_character_at_the_end_is_not_lost():
    ids = ByteTokenizer().encode("a日")[:-1]
    generation, _, _ = answer([*ids, END])
    assert generation.text == "a\ufffd"


def test_a_loop_is_ended():
    ids = ByteTokenizer().encode("so:" + "the dog " * 50)
    generation, _, _ = answer(ids, max_tokens=400)
    assert generation.finish == "repeat" and generation.tokens == 3 + 4 * 8


@pytest.mark.parametrize(
    ("ids", "period"),
    [
        ([7] * 23, None),  # short runs are allowed...
        ([7] * 24, 1),
        ([1, 2, 3] * 7, None),
        ([9, 9] + [1, 2, 3] * 8, 3),
        (list(range(48)) * 3, None),
        (list(range(48)) * 4, 48),
        (list(range(49)) * 4, None),  # longer than what is looked for
        ([*[1, 2, 3] * 8, 4], None),  # ...and a loop that was left
        ([], None),
    ],
)
def test_loop_period(ids, period):
    assert loop_period(ids) == period


def test_sampling_follows_seed_and_temperature():
    logits = torch.tensor([0.0, 1.0, 2.0])

    def draw(seed, temperature):
        generator = torch.Generator().manual_seed(seed)
        return [next_token(logits, temperature, generator) for _ in range(300)]

    assert draw(1, 1.0) == draw(1, 1.0) != draw(2, 1.0)
    assert set(draw(1, 0.0)) == {2} and set(draw(1, 1.0)) == {0, 1, 2}
    share = draw(3, 1.0).count(2) / 300
    assert abs(share - float(logits.softmax(0)[2])) < 0.1
    assert draw(3, 0.2).count(2) > draw(3, 1.0).count(2)


@pytest.mark.parametrize("bad", [{"max_tokens": 0}, {"temperature": -1.0}, {"temperature": float("nan")}, {"stop": ("",)}])
def test_bad_options_are_refused(bad):
    with pytest.raises(UsageError):
        GenerationOptions(**bad)


def test_stream_is_empty_after_a_stop():
    stream = TextStream(ByteTokenizer(), ("b",))
    assert [stream.push(i) for i in ByteTokenizer().encode("ab")] == ["a", ""]
    assert stream.stopped and stream.finish() == ""
