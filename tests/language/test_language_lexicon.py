"""A lexicon reads tokens back as words, lets a question make words likelier, and survives its folder."""

import pytest
import torch

from mambamia_cli.errors import ModelError
from mambamia_cli.language.lexicon import Lexicon, word_point

WORDS = ["cat", "dog", "hot dog", "berry", "leaf", "glass", "scene"]


@pytest.fixture
def lexicon():
    torch.manual_seed(0)
    return Lexicon(WORDS, torch.randn(len(WORDS), 16)).requires_grad_(False)


def test_token_on_a_word_reads_as_that_word(lexicon):
    assert lexicon.scores(lexicon.table).argmax(-1).tolist() == list(range(len(WORDS)))
    torch.testing.assert_close(lexicon.reading(lexicon.table), lexicon.table, atol=0.05, rtol=0.05)


def test_question_tips_a_token_between_two_words(lexicon):
    between = (0.5 * (lexicon.table[0] + lexicon.table[1]))[None]
    plain = lexicon.posterior(between)[0]
    for k in (0, 1):
        tipped = lexicon.posterior(between, [WORDS[k]])[0]
        assert tipped[k] > plain[k] and tipped.argmax() == k
    assert lexicon.posterior(lexicon.table[3][None], ["cat"])[0].argmax() == 3  # what is plain to see is not talked away


@pytest.mark.parametrize(("text", "found"), [
    ("Which appears first, the cat or the dog?", ["cat", "dog"]),
    ("How many hot dogs?", ["hot dog"]), ("Dogs, berries; leaves!", ["dog", "berry", "leaf"]),
    ("A glass, two glasses", ["glass"]), ("What scene is it, category?", []), ("", []),
])  # fmt: skip
def test_words_named_in_a_text(lexicon, text, found):
    assert lexicon.named(text) == found


def test_saved_and_read_with_the_points_of_the_language_model(lexicon, tmp_path):
    lexicon.log_scale.fill_(2.5)
    lexicon.save_pretrained(tmp_path)
    rows = dict(zip(WORDS, lexicon.table, strict=True))
    again = Lexicon.from_pretrained(tmp_path, rows.__getitem__)
    probe = torch.randn(5, 16)
    torch.testing.assert_close(again.scores(probe), lexicon.scores(probe))
    wider = again.extended(["yak", "cat"], lambda word: torch.ones(16))
    assert wider.words == [*WORDS, "yak"]
    torch.testing.assert_close(wider.scores(probe)[:, : len(WORDS)], lexicon.scores(probe))


@pytest.mark.parametrize("text", ["", "[]", '{"words": [1]}', '{"words": [""]}', "{}"])
def test_damaged_folder_is_refused(lexicon, tmp_path, text):
    lexicon.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match="lexicon"):
        Lexicon.from_pretrained(tmp_path, lambda word: torch.zeros(16))


def test_point_of_a_word_is_the_mean_of_its_tokens():
    table = torch.arange(12.0).view(4, 3)
    torch.testing.assert_close(word_point("ab", lambda text: [len(text), 1], lambda ids: table[ids]), (table[3] + table[1]) / 2)


@pytest.mark.parametrize(("text", "spelt"), [
    ("a bear", "bear"), ("Bear.", "bear"), ("The Bears", "bear"), ("potatoes", "potato"), ("mice", "mouse"), ("model t", "Model T"), ("motorbikes", "motorcycle"), ("a plane", "airplane"),
    ("TV", "television"), ("mobile phones", "phone"), ("an old bus", "bus"), ("the acoustic guitar", "acoustic guitar"), ("a very big guitar", "guitar"), ("Penguins", "penguin"),
    ("man with a bear", "man with a bear"), ("statue of liberty", "statue of liberty"), ("Unicorns", "unicorns"), ("the", "the"), ("??", "??"), ("Cardigan", "Cardigan"),
    ("cardigan", "cardigan"), ("jack-o'-lantern", "jack-o'-lantern"), ("lorry", "lorry"),
])  # fmt: skip
def test_anybodys_words_are_spelt_as_the_lexicon_does(text, spelt):
    words = ["bear", "potato", "mouse", "Model T", "motorcycle", "airplane", "plane", "television", "phone", "bus", "guitar", "acoustic guitar", "king penguin", "Cardigan", "cardigan",
             "jack-o'-lantern", "scene"]  # fmt: skip
    assert Lexicon(words, torch.zeros(len(words), 2)).spelling(text) == spelt
