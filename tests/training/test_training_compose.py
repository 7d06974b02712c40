"""Composed footage: what the truth says is on screen is on screen, and boundaries stand where shots meet."""

import numpy as np
import pytest

from mambamia_cli.training.compose import SIZE, Footage, Pan, Part, Track, premultiply
from mambamia_cli.training.needles import Haystack, _truth, random_shot
from mambamia_cli.training.styles import Drawing

HEIGHT, WIDTH = SIZE


def flat(value):
    return Pan(np.full((400, 700, 3), value, np.uint8), (0.5, 0.5, 0.8), (0.5, 0.5, 0.8), 10.0)


def square(colour):
    picture = np.zeros((64, 64, 4), np.uint8)
    picture[..., :3], picture[..., 3] = colour, 255
    return picture


def test_track_is_drawn_only_while_it_is_on_and_at_its_size():
    track = Track("red", premultiply(square((250, 0, 0))), 1.0, 3.0, 0.5, (0.5, 0.5), (0.5, 0.5))
    film = Footage((Part(flat(100), 0.0),), (track,))
    assert not ((film.frame(0.99)[..., 0] > 200).any())
    red = film.frame(1.0)[..., 0] > 200
    assert red.sum() == pytest.approx((0.5 * HEIGHT) ** 2, rel=0.05)
    assert red[HEIGHT // 2, WIDTH // 2]
    assert not ((film.frame(3.0)[..., 0] > 200).any())


def test_half_transparent_ink_is_mixed_not_added():
    picture = square((200, 200, 200))
    picture[..., 3] = 128
    track = Track("grey", premultiply(picture), 0.0, 1.0, 0.5, (0.5, 0.5), (0.5, 0.5))
    middle = Footage((Part(flat(100), 0.0),), (track,)).frame(0.5)[HEIGHT // 2, WIDTH // 2]
    assert np.abs(middle.astype(int) - 150).max() <= 3


@pytest.mark.parametrize(("kind", "wanted"), [("dissolve", 125), ("fade", 0), ("wipe", None)])
def test_transition_at_its_middle(kind, wanted):
    film = Footage((Part(flat(50), 0.0), Part(flat(200), 2.0, 1.0, kind)))
    frame = film.frame(2.5)
    assert np.abs(film.frame(1.9).astype(int) - 50).max() <= 1
    assert np.abs(film.frame(3.1).astype(int) - 200).max() <= 1
    if kind == "wipe":
        assert frame[0, 0, 0] == 200 and frame[0, -1, 0] == 50
    else:
        assert np.abs(frame.astype(int) - wanted).max() <= 2


def test_truth_names_boundary_and_entry():
    track = Track("cat", square((1, 2, 3)), 1.5, 3.5, 0.5, (0.5, 0.5), (0.5, 0.5))
    film = Footage((Part(flat(50), 0.0), Part(flat(200), 2.0, 1.0, "dissolve")), (track,))
    names, boundary, entry = _truth(film, (0.0, 1.0, 2.0, 3.0, 4.0))
    assert names == ((), (), ("cat",), ("cat",), ())
    assert boundary == (False, False, False, True, False)  # the dissolve's middle, 2.5 s, lies before frame 3
    assert entry == (False, False, True, False, False)


@pytest.fixture
def stack():
    pictures = np.stack([square((250, 0, 0)), square((0, 250, 0)), square((0, 0, 250))])
    drawings = [Drawing("cat", "noto", 0), Drawing("dog", "noto", 1), Drawing("dog", "streamline-emojis", 2)]
    photos = {"a": np.full((500, 800, 3), 90, np.uint8), "b": np.full((500, 300, 3), 160, np.uint8)}
    return Haystack(photos, {}, drawings, pictures)


def test_held_out_style_is_never_drawn_from(stack):
    assert {d.style for choices in stack.by_name.values() for d in choices} == {"noto"}


def test_same_seed_same_shot(stack):
    one, two = (random_shot(stack, np.random.default_rng(5), 8) for _ in range(2))
    assert one.names == two.names
    assert all((one.footage.frame(t) == two.footage.frame(t)).all() for t in one.times)
    assert any(random_shot(stack, np.random.default_rng(s), 8).names != one.names for s in range(6, 12))
