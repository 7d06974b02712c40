"""What ImageNet's head names in real clips, and that views which do not agree are not believed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mambamia_cli.pipeline.imagenet_sight import APART, Sight, boxes, cut, looker, spotted
from mambamia_cli.video.probe import probe
from mambamia_cli.vision.everyday import FAMILIES, RANGES, UNTELLING, folded, folding
from mambamia_cli.vision.imagenet import labels


@pytest.fixture(scope="module")
def encoder():
    from mambamia_cli.vision.embedded import EmbeddedEncoder

    return EmbeddedEncoder(threads=1)


def test_every_class_folds_into_one_word_or_none():
    names = set(labels())
    assert {n for pair in RANGES.values() for n in pair} | {n for members in FAMILIES.values() for n in members} <= names
    assert set(UNTELLING) <= names and not set(UNTELLING) & {n for members in FAMILIES.values() for n in members}
    words, index = folding()
    assert len(set(words)) == len(words) and set(index) == set(range(-1, len(words)))
    of = {name: words[i] for name, i in zip(labels(), index, strict=True) if i >= 0}
    assert [of[n] for n in ("mountain bike", "minivan", "cab", "beagle", "impala", "tabby", "agaric", "tench")] == [
        "bicycle", "car", "taxi", "dog", "deer", "cat", "mushroom", "fish"]  # fmt: skip
    assert of["paintbrush"] == "paintbrush" and "web site" not in of


def test_probabilities_of_a_family_add_up():
    shares = np.zeros((2, 1000))
    shares[0, labels().index("minivan")], shares[0, labels().index("convertible")], shares[0, labels().index("web site")] = 0.3, 0.4, 0.3
    found = folded(shares)
    words, _ = folding()
    assert found.shape == (2, len(words)) and found[0].sum() == pytest.approx(0.7) and found[0, words.index("car")] == pytest.approx(0.7)


def test_squares_cover_the_picture_and_overlap():
    picture = np.zeros((100, 230, 3), np.uint8)
    picture[:, 200:] = 255
    at = boxes(picture, 100)
    assert [x for x, _, _ in at] == [0, 43, 87, 130] and {(y, side) for _, y, side in at} == {(0, 100)}
    parts = cut(picture, at, (50, 50))
    assert parts.shape == (4, 3, 50, 50) and parts.dtype == torch.uint8
    assert parts[-1, :, :, -10:].min() == 255 and parts[0].max() == 0  # the last ends with the picture
    assert boxes(picture[:, :100], 100) == [(0, 0, 100)] and boxes(np.zeros((240, 100, 3)), 100)[-1] == (0, 140, 100)


class Scripted:
    """Stands in for the encoder: names a square "minivan" by its brightness, in colour and in grey."""

    input_size = (8, 8)
    rest = 1e-6

    def __init__(self, colour, grey):
        self.colour, self.grey = colour, grey

    def encode_and_classify(self, frames):
        plain = bool((frames[:, 0] == frames[:, 1]).all())
        share = self.grey if plain else self.colour
        shares = torch.full((len(frames), 1000), self.rest)
        bright = frames[:, 0].float().mean((1, 2)) > 50
        shares[bright, labels().index("minivan")] = share
        return None, shares.log()


def picture(bright):
    out = np.zeros((40, 60, 3), np.uint8)
    out[..., 0], out[..., 2] = (200, 180) if bright else (5, 0)
    return out


@pytest.mark.parametrize(("colour", "grey", "named"), [(50.0, 50.0, True), (50.0, 1e-6, False), (1e-6, 50.0, False)])
def test_a_name_needs_colour_and_grey(colour, grey, named):
    assert [score >= 0.55 for score in spotted(picture(True), Scripted(colour, grey), 0.55).values()] == [True] * named


@pytest.mark.parametrize(("bright", "times"), [
    ({4.0, 4.4}, (4.0,)), ({4.0, 3.6}, (4.0,)), ({4.0}, ()), ({0.0}, ()), ({0.0, 2 * APART}, (0.0,)), (set(), ()),
])  # fmt: skip
def test_a_name_needs_another_moment_on_either_side(bright, times):
    def look(moments):
        return (picture(any(abs(t - b) < 1e-6 for b in bright)) for t in moments)

    found = Sight(look, [0.0, 2.0, 4.0], Scripted(50.0, 50.0), end=10.0).recognise()
    assert [(k.name, k.times) for k in found] == ([("car", times)] if times else [])
    assert all(0.55 <= k.score <= 1 for k in found)


@pytest.mark.parametrize(("share", "times", "named"), [(1.6, (4.0,), False), (50.0, (4.0,), True), (1.6, (4.0, 6.0), True)])
def test_what_one_look_alone_finds_must_be_plainer(share, times, named):
    """A share of 1.6 to the rest's 1 over a thousand classes is a probability of 0.62."""
    script = Scripted(share, share)
    script.rest = 1 / 999
    found = Sight(lambda moments: (picture(min(abs(t - b) for b in times) < 0.5) for t in moments), [0.0, 2.0, 4.0, 6.0], script, end=10.0).recognise()
    assert [k.name for k in found] == ["car"] * named and all(k.times == times for k in found)


def test_bicycles_and_cars_in_a_street(encoder, bikes):
    found = {k.name: k for k in Sight(looker(probe(bikes)), [1.25, 1.75, 4.75, 5.25, 9.0], encoder, end=10.0).recognise()}
    assert set(found) == {"bicycle", "car"} and found["bicycle"].times == (4.75, 5.25) and found["car"].times == (1.25, 1.75)


def test_words_that_are_asked_for_are_found_as_in_all_and_with_fewer_looks(encoder, bikes):
    seen = 0

    class Counting:
        input_size = encoder.input_size

        def encode_and_classify(self, frames):
            nonlocal seen
            seen += len(frames)
            return encoder.encode_and_classify(frames)

    times = [1.25, 1.75, 9.0]
    sight = Sight(looker(probe(bikes)), times, Counting(), end=10.0)
    every, all_looks = sight.recognise(), seen
    seen = 0
    assert sight.recognise(("zebra",)) == () and seen == 0  # the large squares are known by now
    for thing in every:
        assert sight.recognise((thing.name, "zebra")) == (thing,)
    seen = 0
    assert Sight(looker(probe(bikes)), times, Counting(), end=10.0).recognise(("zebra",)) == () and 0 < seen < all_looks / 4


def test_nothing_is_invented_in_a_cartoon(encoder, bigbuckbunny):
    """Its rabbit is taken for an albatross with 0.9, by its colours."""
    assert Sight(looker(probe(bigbuckbunny)), [2.25, 3.25], encoder, end=5.28).recognise() == ()


def test_a_tie_in_a_car(encoder, bikes):
    clip = Path(bikes).with_name("carphone_pristine.mp4")
    assert [k.name for k in Sight(looker(probe(clip)), [1.0, 3.0], encoder, end=4.0).recognise()] == ["tie"]
