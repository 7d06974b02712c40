"""Questions of held-out videos: their answers follow from when each drawing is on screen, and from its pixels."""

from types import SimpleNamespace

import numpy as np
import pytest

from mambamia_cli.language.intent import read
from mambamia_cli.training import validation

NAMES = ["cat", "dog", "egg", "drum", "bus", "hat", "sofa", "camera"]


def drawing(rgb):
    """A disc of one colour with a black outline, on nothing: (H, W, 4)."""
    y, x = np.mgrid[:40, :40] - 19.5
    far = np.hypot(x, y)
    picture = np.zeros((40, 40, 4), np.uint8)
    picture[far < 19, 3] = 255
    picture[far < 16, :3] = rgb
    return picture


@pytest.fixture
def film():
    """A red cat, a blue dog and a yellow egg, three seconds each."""
    tracks = [SimpleNamespace(name=name, start=start, end=start + 3.0, picture=drawing(rgb))
              for name, start, rgb in (("cat", 5.5, (221, 46, 68)), ("dog", 17.0, (40, 90, 230)), ("egg", 30.0, (255, 220, 40)))]  # fmt: skip
    return SimpleNamespace(tracks=tuple(tracks))


@pytest.mark.parametrize("seed", range(8))
def test_answers_to_further_questions_are_those_of_the_film(film, seed):
    colours = {"cat": "red", "dog": "blue", "egg": "yellow"}
    rows = validation.further(film, "film.mp4", NAMES, np.random.default_rng(seed))
    assert len({row["id"] for row in rows}) == len(rows) == 9
    for row in rows:
        options = row["options"] or []
        assert not options or (row["answer"] in options and len(set(options)) == len(options))
        intent = read(row["question"], NAMES, tuple(options))
        assert intent.kind is not None  # the tool knows what is asked
        on = [t for t in film.tracks if t.name == (intent.things[0] if intent.things else None)]
        if row["kind"] in ("moment", "part"):
            start, end = intent.stretch.within(0.0, 45.0)
            there = [t.name for t in film.tracks if t.start < end and t.end > start]
            assert row["answer"] in there if row["kind"] == "moment" else (row["answer"] == "yes") == (on[0].name in there)
        elif row["kind"] == "times":
            assert row["answer"] == ("once" if on else "never")
        elif row["kind"].startswith("colour"):
            assert row["answer"] == colours[on[0].name]
        elif row["kind"] == "after":
            assert (intent.about, row["answer"]) == ("cat", "dog")
