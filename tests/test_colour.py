"""The colour of a thing from the pixels that speak for it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mambamia_cli.language.lexicon import Lexicon
from mambamia_cli.language.matching import MatchRule
from mambamia_cli.pipeline import colour
from mambamia_cli.pipeline.colour import COLOURS
from mambamia_cli.pipeline.sightings import Sightings


@pytest.mark.parametrize(("rgb", "name"), [
    ((0, 0, 0), "black"), ((60, 60, 64), "black"), ((255, 255, 255), "white"), ((235, 236, 240), "white"), ((150, 150, 150), "grey"), ((221, 46, 68), "red"),
    ((244, 144, 12), "orange"), ((255, 220, 40), "yellow"), ((119, 178, 85), "green"), ((85, 172, 238), "blue"), ((20, 30, 120), "blue"), ((146, 102, 204), "purple"),
    ((234, 89, 110), "red"), ((255, 170, 190), "pink"), ((193, 105, 79), "brown"), ((130, 80, 40), "brown"), ((102, 33, 19), "brown"),
])  # fmt: skip
def test_colours_by_their_names(rgb, name):
    assert COLOURS[colour.names(np.array(rgb, np.uint8))] == name


def test_names_keep_the_shape_of_a_picture():
    picture = np.random.default_rng(0).integers(0, 256, (3, 5, 3), np.uint8)
    assert colour.names(picture).shape == (3, 5)
    assert colour.names(picture)[2, 4] == colour.names(picture[2, 4])


def drawn(thing=(221, 46, 68), ground=(85, 172, 238)):
    """A square with a black outline before a ground: (H, W, 3), and its place (H, W)."""
    picture = np.empty((56, 56, 3), np.uint8)
    picture[:] = ground
    picture[16:40, 16:40] = 0
    picture[19:37, 19:37] = thing
    place = np.zeros((56, 56))
    place[12:44, 12:44] = 1.0  # patches hold ground too
    return picture, place


def test_ground_and_outline_do_not_name_a_thing():
    part = colour.painted(*drawn())
    assert COLOURS[part.argmax()] == "red" and part.sum() == pytest.approx(1) and part[COLOURS.index("black")] < part.max() / 2
    assert COLOURS[colour.painted(*drawn(thing=(0, 0, 0))).argmax()] == "black"


def test_a_colour_in_words():
    assert [colour.words_of(text) for text in ("Red", "dark gray", "violet", "red and blue", "happy", "")] == [3, 2, 8, None, None, None]


class Speaker:
    """A spotter of one token and one reader; only the patch in the middle of 7 x 7 speaks for the first word, by how blue it is."""

    config = SimpleNamespace(compressor=SimpleNamespace(grid_rows=7, patches_per_row=7))

    def __call__(self, patches):
        return torch.nn.functional.pad(patches[:, 24, 2:3], (0, 1))[:, None, None]  # (v, r, t, width)


def looked(pictures):
    """A second look whose views are these pictures, one a frame, and models that read them by their mean colours."""
    views = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)[:, None]  # (k, v, 3, H, W)

    def encode(frames):
        return torch.nn.functional.adaptive_avg_pool2d(frames.float() / 255, 7).flatten(2).mT

    lexicon = Lexicon(["cat", "dog"], torch.eye(2))
    models = SimpleNamespace(spotter=Speaker(), encoder=SimpleNamespace(encode=encode), device="cpu", match=MatchRule(slope=1.0), lexicon=lexicon, language=SimpleNamespace(tokenize=None, embed=None))
    second = SimpleNamespace(views=lambda frames: views[frames], words=lambda words: [words], frame_at=lambda seconds: round(seconds * 4))
    return models, second


def test_the_patches_that_speak_for_a_word_give_its_colour():
    """A blue square in the middle of a red picture; what lies anywhere else is not the thing's."""
    picture = np.empty((56, 56, 3), np.uint8)
    picture[:] = (221, 46, 68)
    picture[23:33, 23:33] = (40, 90, 230)
    models, second = looked([picture] * 4)
    seen = Sightings(("cat",), np.array([[0.0, 0.0, 5.0, 4.0]]), np.ones(1), np.arange(4) / 4, 1.0)
    part = colour.shares(seen, 0, second, models)
    assert COLOURS[part.argmax()] == "blue" and part.max() > 0.8 * part.sum()
    odds = float(colour._speaking(second.views([0])[0], "cat", second, models)[0].max())
    models.match = MatchRule(slope=1.0, middle=odds + 1)
    assert colour.shares(seen, 0, second, models).sum() == pytest.approx(1 / (1 + np.e))  # no surer than that the cat is seen in these views
    odds, maps = colour._speaking(second.views([0])[0], "cat", second, models)
    assert maps.shape == (1, 56, 56) and maps[0, 28, 28] == pytest.approx(1, abs=0.02) and maps[0, :8].max() == 0 and np.isfinite(odds).all()


def test_a_model_without_a_reader_of_views_has_no_colours():
    seen = Sightings(("cat",), np.zeros((1, 4)), np.ones(1), np.arange(4) / 4, 1.0)
    assert colour.shares(seen, 0, None, SimpleNamespace(spotter=None)) is None


def test_only_moments_at_which_the_thing_is_seen_as_well_are_looked_at():
    times = np.arange(12) / 4
    row = np.full(12, -9.0)
    row[4:7] = 6.0
    second = SimpleNamespace(frame_at=lambda seconds: int(np.abs(times - seconds).argmin()))
    seen = Sightings(("cat",), row[None], np.ones(1), times, 3.0)
    assert colour._moments(seen, 0, second) == [4, 6]
