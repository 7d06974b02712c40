"""Dissolves and fades seen frame by frame, on moving pictures whose transitions are known."""

import numpy as np
import pytest
from fixtures.moving_shots import FPS, shot

from mambamia_cli.scenes.melts import MeltStream, is_melt
from mambamia_cli.scenes.refine import Turn, find_gradual


def moments_of(frames, piece=64):
    stream, times = MeltStream(), [i / FPS for i in range(len(frames))]
    for a in range(0, len(frames), piece):
        stream.push(frames[a : a + piece], times[a : a + piece])
    stream.finish()
    return stream.moments


def mixed(length, how="dissolve", step=0.2, begin=60):
    """Two pans of `begin` frames with `length` between them in which one makes way for the other: frames, (start, end) in seconds."""
    a, b = shot(1, begin + length, step), shot(2, begin + length, step)
    u = (np.arange(1, length + 1) / (length + 1))[:, None, None, None]
    if how == "dissolve":
        between = a[begin:] * (1 - u) + b[:length] * u
    else:
        level = {"black": 0.0, "white": 255.0}[how]
        between = np.where(u < 0.5, a[begin:] + (level - a[begin:]) * 2 * u, b[:length] + (level - b[:length]) * 2 * (1 - u))
    return np.concatenate([a[:begin], between.astype(np.uint8), b[length:]]), ((begin - 1) / FPS, (begin + length) / FPS)


def melts(frames):
    """The transitions that are beyond doubt, as a close look goes about it."""
    times, found = np.arange(len(frames)) / FPS, []
    for moment, depth in moments_of(frames):
        inside = np.abs(times - moment) <= 1.7
        turn = find_gradual(frames[inside], times[inside], moment)
        if is_melt(turn, depth, frames[inside], times[inside]):
            found.append(turn)
    return found


@pytest.mark.parametrize("length", [8, 15, 30, 45])
@pytest.mark.parametrize("how", ["dissolve", "black", "white"])
def test_a_transition_between_moving_shots_is_found_with_its_ends(length, how):
    frames, (start, end) = mixed(length, how)
    found = melts(frames)
    assert found and {t.kind for t in found} == {"dissolve" if how == "dissolve" else f"fade-{how}"}
    for turn in found:
        assert abs((turn.start + turn.end) / 2 - (start + end) / 2) < 3 / FPS
        assert abs(turn.start - start) < 5 / FPS and abs(turn.end - end) < 5 / FPS


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_pieces_of_any_size_give_the_same_moments(piece):
    frames = np.concatenate([mixed(length, step=0.7)[0] for length in (12, 20, 30)])
    assert len(moments_of(frames)) >= 3
    np.testing.assert_allclose(moments_of(frames, piece), moments_of(frames, 64), rtol=1e-5)


def test_twice_the_frames_a_second_make_no_difference():
    frames = np.concatenate([mixed(length)[0] for length in (12, 30)])
    stream, twice = MeltStream(), np.repeat(frames, 2, axis=0)
    stream.push(twice, [i / (2 * FPS) for i in range(len(twice))])
    stream.finish()
    np.testing.assert_allclose(stream.moments, moments_of(frames), rtol=1e-5)


def test_what_is_held_does_not_grow():
    frames, stream = mixed(20)[0], MeltStream()
    for again in range(20):
        stream.push(frames, [again * len(frames) / FPS + i / FPS for i in range(len(frames))])
    assert len(stream._times) == len(stream._blocks) == len(stream._power) < 256 + 2 * len(frames)
    stream.finish()
    assert len(stream.moments) >= 20


def test_pans_zooms_and_a_light_that_pulses_do_not_melt():
    pan, slow = shot(1, 150, step=1.2), shot(1, 150, step=0.2)
    pulse = (slow * (1 - 0.9 * np.exp(-(((np.arange(150) - 75) / 8) ** 2)))[:, None, None, None]).astype(np.uint8)
    for frames in (pan, pulse, shot(3, 150, step=0.0)):
        assert melts(frames) == []


def test_a_dissolve_between_views_of_one_place_needs_to_be_plainer():
    """Each rule once at its limit: a turn that sinks less, or whose ends are more alike, is not taken."""
    frames, _ = mixed(20)
    turn = melts(frames)[0]
    inside = np.arange(len(frames)) / FPS
    moved = Turn(turn.start, turn.end, "dissolve", turn.time, 0.1)
    assert is_melt(turn, 0.5, frames, inside) and not is_melt(moved, 0.5, frames, inside)
    assert not is_melt(Turn(turn.start, turn.end, "wipe", turn.time, 0.5), 0.5, frames, inside)
    assert not is_melt(None, 0.5, frames, inside)
    assert not is_melt(Turn(turn.start, turn.start + 0.1, "dissolve", turn.start, 0.5), 0.5, frames, inside)
    alike = np.concatenate([shot(1, 70), shot(1, 70)])
    assert not is_melt(turn, 0.5, alike, inside)


def test_ends_that_look_alike_need_a_plainer_mixture():
    """Two views of one place, a few pixels apart."""
    a, b, u = shot(1, 1, begin=20)[0], shot(1, 1, begin=30)[0], np.linspace(0, 1, 22)[:, None, None, None]
    frames = np.concatenate([[a] * 20, (a * (1 - u) + b * u).astype(np.uint8), [b] * 20])
    times = np.arange(len(frames)) / FPS
    assert not is_melt(Turn(20 / FPS, 41 / FPS, "dissolve", 30.5 / FPS, 0.25), 0.5, frames, times)
    assert is_melt(Turn(20 / FPS, 41 / FPS, "dissolve", 30.5 / FPS, 0.35), 0.5, frames, times)
