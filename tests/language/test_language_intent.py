"""Questions are sorted by their wording; what is not plain is left to the language model."""

import pytest

from mambamia_cli.language.intent import read

CASES = [
    ("At what time does the pill appear?", ["pill"], (), "when"), ("When does the cat enter?", ["cat"], (), "when"),
    ("How many seconds into the video is the drum shown?", ["drum"], (), "when"), ("At which second is there a dog?", ["dog"], (), "when"),
    ("Is there a cat in the video?", ["cat"], (), "exists"), ("Does a dog appear?", ["dog"], ("yes", "no"), "exists"),
    ("Which appears first, the cat or the dog?", ["cat", "dog"], (), "first"), ("Does the cat or the dog appear first?", ["cat", "dog"], (), "first"),
    ("Which appears before the other?", [], ("cat", "dog"), "first"), ("Which comes after the other?", [], ("cat", "dog"), "last"),
    ("Which of these appears last?", [], ("cat", "dog", "egg"), "last"), ("Which of these can be seen?", [], ("cat", "dog"), "appear"),
    ("What appears after the cat?", ["cat"], ("dog", "egg"), None), ("How many cats are there?", ["cat"], (), None),
    ("What happens?", [], (), None), ("What colour is the car?", ["car"], ("red", "blue"), None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "named", "choices", "kind"), CASES)
def test_kind_of_a_question(text, named, choices, kind):
    assert read(text, named, choices).kind == kind


def test_things_are_the_choices_or_what_the_question_names():
    assert read("Which appears first?", [], ("cat", "dog")).things == ("cat", "dog")
    assert read("What comes earlier: cat or dog?", ["cat", "dog"]).things == ("cat", "dog")
