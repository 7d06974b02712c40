"""Which frames the vision encoder is spared, and what stands in for them."""

import numpy as np
import pytest
import torch

from mambamia_cli.pipeline.backoff import Backoff
from mambamia_cli.pipeline.sparing import ALIKE, CALM, THUMBNAIL, SparingEncoder, _thumbnails


class Encoder:
    """Patches are the mean colours; remembers how many frames came at once."""

    def __init__(self):
        self.given = []

    def encode(self, pixels):
        self.given.append(len(pixels))
        return pixels.float().mean((2, 3))[:, None]  # (m, 1, 3)


@pytest.fixture
def encoder():
    return Encoder()


def sparing(encoder, *, close):
    return SparingEncoder(Backoff(encoder, None, 32), close=close)


def whole(frames):
    return Encoder().encode(torch.from_numpy(frames).permute(0, 3, 1, 2)).numpy()


def grey(*levels):
    """Flat frames of these grey values, (m, 56, 56, 3)."""
    return np.stack([np.full((56, 56, 3), level, np.uint8) for level in levels])


def half_grey(*levels):
    """Flat frames whose left half is brighter by these levels: half as far from one another as their blocks."""
    frames = grey(*[60] * len(levels))
    frames[:, :, :28] += np.array(levels, np.uint8)[:, None, None, None]
    return frames


@pytest.mark.parametrize("close", [False, True])
def test_a_frame_that_equals_the_last_is_not_encoded_again(encoder, close):
    frames = np.random.default_rng(0).integers(0, 256, (5, 12, 8, 3), np.uint8)
    shown = frames[[0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 4, 4]]
    spare = sparing(encoder, close=close)
    parts = [spare.encode(shown[a:b]) for a, b in ((0, 1), (1, 2), (2, 7), (7, 9), (9, 10), (10, 12))]
    assert np.array_equal(np.concatenate([p.numpy() for p in parts]), whole(shown))
    assert encoder.given == [1, 2, 1, 1] and spare.spared == 7


def test_a_frame_near_the_last_stands_for_it_in_a_close_look_only(encoder):
    frames = grey(50, 50, 50)
    frames[1:, 3, 40] += 180  # one pixel: 180 / 64 of its block
    frames[2, 3, 40] -= 60
    assert 120 / 64 <= ALIKE < 180 / 64
    assert np.array_equal(sparing(encoder, close=False).encode(frames).numpy(), whole(frames))
    close = sparing(encoder, close=True)
    got = close.encode(frames[[0, 2]])
    assert close.spared == 1 and torch.equal(got[0], got[1])
    assert sparing(encoder, close=True).encode(frames[[0, 1]])[1].tolist() == whole(frames[1:2])[0].tolist()


def test_little_by_little_becomes_new(encoder):
    """Frames are compared with the last one encoded, not with their neighbour: a slow change is not missed."""
    frames = grey(*range(100, 130))
    got = sparing(encoder, close=True).encode(frames).numpy()
    assert np.abs(got - whole(frames)).max() <= ALIKE


def test_what_comes_after_a_change_is_not_taken_for_what_was_before(encoder):
    """A frame like its neighbours that the next one stands still at is encoded: it is what the next one shows."""
    frames = grey(100, 104, 105, 105, 105)
    got = sparing(encoder, close=True).encode(frames).numpy()
    assert got[0].max() == 100 and (got[1:] == 104).all()


def test_calm_frames_are_the_mean_of_their_neighbours(encoder):
    frames = grey(100, 106, 111, 116, 121, 170, 215)
    close = sparing(encoder, close=True)
    got, truth = close.encode(frames).numpy(), whole(frames)
    assert close.spared == 2
    assert np.allclose(got[1], (truth[0] + truth[2]) / 2) and np.allclose(got[3], (truth[2] + truth[4]) / 2)
    assert np.array_equal(got[5], truth[5])  # between 121 and 215
    assert encoder.given == [5]


def test_a_slow_stretch_is_seen_every_fourth_frame(encoder):
    frames = half_grey(0, 3, 6, 9, 12, 80, 160)
    close = sparing(encoder, close=True)
    got, truth = close.encode(frames).numpy(), whole(frames)
    assert encoder.given == [4] and close.spared == 3 and np.allclose(got, truth)


def test_four_frames_of_which_one_is_no_mixture_are_taken_by_twos(encoder):
    frames = half_grey(0, 3 + 3 * int(CALM), 6, 9, 12, 80)
    got = sparing(encoder, close=True).encode(frames).numpy()
    assert encoder.given == [5] and np.allclose(got, whole(frames))


def test_a_flash_between_like_frames_is_encoded(encoder):
    frames = grey(100, 100 + int(CALM), 103, 200, 106)
    got = sparing(encoder, close=True).encode(frames).numpy()
    assert np.array_equal(got[[1, 3]], whole(frames)[[1, 3]])


def test_the_same_frames_are_spared_whatever_is_taken_at_once(encoder):
    """But for the last frame of a chunk, whose neighbour is not there yet."""
    frames = grey(*range(60, 160, 4))
    one, two = sparing(encoder, close=True), sparing(encoder, close=True)
    whole_look = one.encode(frames)
    pieces = torch.cat([two.encode(frames[a : a + 7]) for a in range(0, len(frames), 7)])
    same = (whole_look == pieces).flatten(1).all(1)
    assert same.float().mean() > 0.8 and (whole_look - pieces).abs().max() <= CALM
    assert one.spared == 12 and 8 <= two.spared <= 12


@pytest.mark.parametrize("level", [8, 16, 24])
def test_a_small_change_at_once_between_like_frames_is_encoded(encoder, level):
    """A new slide of few words under a speaker who moves: the frames around it are no mixture of those farther away."""
    frames = grey(*[100] * 5)
    frames[:, :8, :8] += np.arange(0, 15, 3, dtype=np.uint8)[:, None, None, None]  # goes on evenly, so that no frame equals the last
    frames[2:, 28:] += np.uint8(level)
    got, truth = sparing(encoder, close=True).encode(frames).numpy(), whole(frames)
    assert level / 2 < CALM and encoder.given == [4]
    assert np.array_equal(got[:3], truth[:3]) and np.allclose(got[3], truth[3])


@pytest.mark.parametrize("size", [(224, 224), (100, 60), (20, 20)])
def test_thumbnails_are_means_of_green(size):
    frames = np.random.default_rng(0).integers(0, 256, (3, *size, 3), np.uint8)
    down, across = (max(1, side // THUMBNAIL) for side in size)
    small = _thumbnails(frames)
    assert small.dtype == np.float32 and small.shape == (3, size[0] // down, size[1] // across)
    assert small[1, 2, 3] == pytest.approx(frames[1, 2 * down : 3 * down, 3 * across : 4 * across, 1].mean(), abs=1e-4)
    assert small[2, -1, -1] == pytest.approx(frames[2, (len(small[2]) - 1) * down :][:down, (small.shape[2] - 1) * across :][:, :across, 1].mean(), abs=1e-4)
