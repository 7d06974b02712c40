"""Hard cuts seen frame by frame, on pictures whose cuts are known to the frame."""

from dataclasses import replace

import av
import cv2
import numpy as np
import pytest
from fixtures.moving_shots import FPS, shot

from mambamia_cli.pipeline import boundaries
from mambamia_cli.pipeline.glimpses import with_cuts, with_melts
from mambamia_cli.records import Candidate
from mambamia_cli.scenes import cuts
from mambamia_cli.scenes.cuts import CutStream, _Change
from mambamia_cli.scenes.evidence import Evidence
from mambamia_cli.scenes.refine import MOTION, Turn


def found(frames, piece=64, fps=FPS):
    stream, moments = CutStream(), [i / fps for i in range(len(frames))]
    for a in range(0, len(frames), piece):
        stream.push(frames[a : a + piece], moments[a : a + piece])
    stream.finish()
    return stream.times


@pytest.fixture(scope="module")
def film():
    """Shots of 0.4 to 2 s, and the first frame of each but the first."""
    lengths = [50, 15, 10, 15, 30, 12, 50, 25]
    frames = np.concatenate([shot(seed, n, step=0.3 * (seed % 4)) for seed, n in enumerate(lengths)])
    return frames, [k / FPS for k in np.cumsum(lengths)[:-1]]


@pytest.mark.parametrize("piece", [1, 7, 64, 10_000])
def test_every_cut_is_found_at_its_frame_in_pieces_of_any_size(film, piece):
    frames, truth = film
    assert found(frames, piece) == truth


def test_what_is_held_does_not_grow(film):
    frames, truth = film
    stream, seconds = CutStream(), len(frames) / FPS
    for again in range(12):
        stream.push(frames, [again * seconds + i / FPS for i in range(len(frames))])
    assert len(stream._moments) == len(stream._jumps) == len(stream._green) < 256 + 2 * len(frames)
    assert len(stream._changes) < 12
    stream.finish()
    every = [again * seconds + t for again in range(12) for t in (0.0, *truth)][1:]
    assert np.allclose(stream.times, every)


def test_a_pan_a_whip_pan_and_a_caption_are_no_cuts():
    slow = shot(1, 60)
    whip = shot(2, 12, step=22.0, begin=0)
    whip = np.stack([cv2.blur(frame, (9, 1)) for frame in whip])
    with_caption = shot(3, 60)
    with_caption[25:, 32:42, 10:70] = np.random.default_rng(0).integers(0, 2, (10, 60, 1), np.uint8) * 255
    assert found(np.concatenate([slow, slow[::-1]])) == []
    assert found(np.concatenate([whip, whip[::-1]] * 3)) == []
    assert found(with_caption) == []


@pytest.mark.parametrize("flash", [False, True])
def test_a_cut_in_fast_movement_stands_out_by_its_grey_values_and_a_flash_does_not(flash):
    a, b = shot(2, 40, step=3.0), shot(5, 40, step=3.0)
    frames = np.concatenate([a // 2, b // 2 + 110]).astype(np.uint8)
    if flash:  # the same shot, and light that fades from it
        frames = shot(2, 80, step=3.0) // 2
        for i, light in enumerate((120, 40)):
            frames[40 + i] = np.clip(frames[40 + i].astype(np.int16) + np.random.default_rng(i).normal(light, 30, (45, 80, 1)), 0, 255)
    stream = CutStream()
    stream.push(frames, [i / FPS for i in range(80)])
    share = stream._across(40, 40)
    beside = max(stream._across(j, j) for j in range(35, 46) if abs(j - 40) > 1)
    assert beside > cuts.ALONE * share
    stream.finish()
    assert stream.times == ([] if flash else [40 / FPS])


def soft_shot(seed, frames):
    """Wide hills of brightness, which have few blocks with structure beside a caption."""
    y, x = np.mgrid[:45, :80]
    places = np.random.default_rng(seed).uniform(0, 1, (3, 2)) * (80, 30)
    hills = sum(np.exp(-(((x - cx) / 9) ** 2) - ((y - cy) / 7) ** 2) for cx, cy in places)
    return np.repeat((60 + 120 * np.clip(hills, 0, 1)).astype(np.uint8)[None, ..., None], 3, -1).repeat(frames, 0)


def caption(frames, seed):
    frames[:, 36:42, 5:75] = np.random.default_rng(seed).integers(0, 2, (6, 70, 1), np.uint8) * 255
    return frames


def test_low_in_the_picture_no_more_is_lost_than_above():
    stands = np.ones(144, bool)
    low, both = np.zeros(144, bool), np.zeros(144, bool)
    low[96:], both[90:] = True, True
    assert cuts.lost_share(low, stands) == 0
    assert cuts.lost_share(both, stands) == pytest.approx(12 / 144)
    assert cuts.lost_share(stands, stands) == 1


def test_captions_that_follow_each_other_are_no_cut_and_hide_none():
    a, b = soft_shot(0, 60), soft_shot(1, 60)
    assert found(np.concatenate([caption(a[:30], 1), caption(a[30:], 2), a])) == []
    assert found(np.concatenate([caption(a, 1), caption(b, 1)])) == [60 / FPS]


def test_frames_that_all_differ_between_two_shots_are_no_cut():
    """As a whip pan from one to the other is, a few frames long."""
    whip = [shot(30 + n, 1)[0] for n in range(5)]
    assert found(np.concatenate([shot(1, 60), np.stack(whip), shot(2, 60)])) == []


def test_the_bottom_of_a_quick_fade_is_no_cut():
    """Both pictures are faint there, and neither is gone."""
    a, b, levels = shot(1, 60), shot(2, 60), (0.75, 0.5, 0.3)
    down = [(a[-1] * level).astype(np.uint8) for level in levels]
    up = [(b[0] * level).astype(np.uint8) for level in reversed(levels)]
    assert found(np.concatenate([a, np.stack(down + up), b])) == []


@pytest.mark.parametrize("length", [1, 4, 10])
@pytest.mark.parametrize("what", ["white", "insert"])
def test_what_comes_back_is_no_cut(length, what):
    frames = shot(1, 100, step=0.2)
    frames[50 : 50 + length] = 255 if what == "white" else shot(9, length)
    assert found(frames) == []


def test_a_picture_shown_longer_than_a_flash_has_two_cuts():
    frames = shot(1, 100, step=0.2)
    frames[40:60] = shot(9, 20)
    assert found(frames) == [40 / FPS, 60 / FPS]


@pytest.mark.parametrize("length", [8, 16])
def test_a_fade_and_a_dissolve_are_no_cuts(length):
    a, b = shot(1, 40 + length), shot(2, 40 + length)
    u = np.linspace(0, 1, length)[:, None, None, None]
    mixed = a[40:] * (1 - u) + b[:length] * u
    black = np.where(u < 0.5, a[40:] * (1 - 2 * u), b[:length] * (2 * u - 1))
    for between in (mixed, black):
        assert found(np.concatenate([a[:40], between.astype(np.uint8), b[length:]])) == []


def test_a_cut_over_a_blend_of_both_shots_is_one_at_the_blend():
    """As frame rates are changed: one frame shows both."""
    a, b = shot(1, 50), shot(2, 50)
    blend = (a[-1:] * 0.5 + b[:1] * 0.5).astype(np.uint8)
    assert found(np.concatenate([a, blend, b])) == [2.0]


def replaced(seed, begin, frames, step=0.6):
    """A shot of which the left third is another: as two views of one stage."""
    frames[begin:, :, :30] = shot(seed, len(frames) - begin, step)[:, :, :30]
    return frames


def test_a_part_that_changes_once_is_a_cut_and_not_where_it_jumps_again_and_again():
    once = replaced(7, 60, shot(1, 150, step=0.1))
    stream = CutStream()
    stream.push(once, [i / FPS for i in range(150)])
    assert cuts.SOME < stream._across(60, 60) < cuts.MOST
    stream.finish()
    assert stream.times == [60 / FPS]
    jerky = shot(1, 150, step=0.1)
    for n, begin in enumerate(range(60, 150, 15)):
        jerky = replaced(20 + n, begin, jerky)
    assert found(jerky) == []


def passed(frames, begin):
    """Somebody passes the lens in ten frames."""
    coat = shot(99, 1)[0]
    for i in range(10):
        frames[begin + i, :, max(0, 13 * i - 50) : 13 * i] = coat[:, max(0, 50 - 13 * i) : min(50, 50 - 13 * i + 80)]
    return frames


@pytest.mark.parametrize(("step", "moves"), [(0.6, True), (0.0, False)])
def test_who_passes_the_lens_hides_no_cut_of_a_part_where_the_picture_moves(step, moves):
    once = passed(replaced(7, 60, shot(1, 150, step), step), 72)
    stream = CutStream()
    stream.push(once, [i / FPS for i in range(150)])
    assert cuts.SOME < stream._across(60, 60) < cuts.MOST and max(stream._across(k, k) for k in range(72, 80)) > cuts.HALF * stream._across(60, 60)
    stream.finish()
    assert stream.times == ([60 / FPS] if moves else [])
    assert found(passed(shot(1, 150, step=step), 72)) == []


@pytest.mark.parametrize(("after", "counts"), [(0.033, True), (0.5, False)])
def test_what_follows_at_once_counts_though_it_jumps_less(after, counts):
    """As the second frame of a flash does: the figures of one over a dancer, and of the same half a second later."""
    flash = _Change(2.0, share=0.43, jump=146.0, moves=True, alone=True, likely=True)
    other = _Change(2.0 + after, share=0.31, jump=46.0, moves=True, alone=False, likely=False)
    assert CutStream()._like(flash, other) is counts


def test_a_part_that_jumps_again_in_a_moving_picture_is_no_cut():
    jerky = shot(1, 150, step=0.6)
    for n, begin in enumerate(range(60, 150, 15)):
        jerky = replaced(20 + n, begin, jerky)
    assert found(jerky) == []


def test_what_jumps_less_than_half_as_far_hides_no_cut_of_a_part():
    frames = replaced(7, 60, shot(1, 150, step=0.6))
    for begin, end, seed in ((0, 78, 31), (78, 150, 32)):  # of little contrast
        part = shot(seed, end - begin, step=0.6)[:, :, 30:60]
        frames[begin:end, :, 30:60] = 112 + part // 8
    stream = CutStream()
    stream.push(frames, [i / FPS for i in range(150)])
    assert stream._across(78, 78) > cuts.HALF * stream._across(60, 60) and stream._jumps[78] < cuts.HALF * stream._jumps[60]
    stream.finish()
    assert stream.times[:1] == [60 / FPS]


def test_frames_of_other_rates(film):
    frames, _ = film
    assert found(np.repeat(frames, 2, axis=0), fps=50) == pytest.approx(found(frames))


def test_few_frames_and_none_make_no_trouble():
    assert found(shot(1, 1)) == [] and found(np.zeros((40, 45, 80, 3), np.uint8)) == []
    stream = CutStream()
    stream.push(np.zeros((0, 45, 80, 3), np.uint8), [])
    stream.finish()
    assert stream.times == []


def test_a_real_clip(bikes):
    """bikes.mp4: cuts between shots of one street, which a person sees at these frames."""
    with av.open(str(bikes)) as file:
        frames = np.stack([f.reformat(80, 45, "rgb24", interpolation="AREA").to_ndarray() for f in file.decode(video=0)])
    assert set(found(frames)) <= {1.2, 3.04, 4.12, 5.48, 7.48, 9.68} and len(found(frames)) >= 5


def test_a_cut_seen_frame_by_frame_is_a_marker_whatever_the_sampled_frames_say(tmp_path):
    """What was not found where it shows is left out."""
    times = np.arange(0, 10, 0.25)
    nothing = Evidence(*(np.zeros(len(times)) for _ in range(6)))
    score, rule = np.full(len(times), 0.1), boundaries.RefineRule()
    score[20] = 3.0  # at 5 s, where nothing is found

    class Nothing:
        def find(self, windows, sharp, times):
            return dict.fromkeys(windows)

    found = boundaries.refine(tmp_path / "none.mp4", times, score, [20], nothing, cuts=[2.6, 4.9], seen=Nothing())
    assert [(c.time, c.look, c.transition) for c in found] == [(2.6, 2.75, "cut"), (4.9, 5.0, "cut")]
    assert [c.score for c in found] == pytest.approx([rule.seen + rule.confirmed, 3.0 + rule.confirmed])


def test_what_scrolls_in_its_window_is_no_cut_though_it_is_seen_as_one(tmp_path):
    times = np.arange(0, 10, 0.25)
    values = {name: np.zeros(len(times)) for name in ("gone", "mixed", "faded", "swapped")}
    scrolls = Evidence(**values, stays=np.full(len(times), 0.6), scrolled=np.ones(len(times)))
    moves = Evidence(**values, stays=np.full(len(times), 0.1), scrolled=np.ones(len(times)))
    scores = [boundaries.refine(tmp_path / "none.mp4", times, np.zeros(len(times)), [], known, cuts=[2.6])[0].score for known in (scrolls, moves)]
    assert scores[0] == 0.0 and scores[1] > 1.5


def test_a_wipe_that_is_made_out_in_a_pan_is_taken_for_movement(monkeypatch):
    hills = soft_shot(3, 1)[0]
    pan = np.stack([np.roll(hills, k, 1) for k in range(40)])
    wipe, times = Turn(0.4, 1.2, "wipe", 0.8, 0.2), [k / FPS for k in range(40)]
    monkeypatch.setattr(boundaries, "find_gradual", lambda *_: wipe)
    sampled = np.arange(0, 1.6, 0.25)
    assert boundaries.turn_at(pan, times, sampled, 3, False) == replace(wipe, kind=MOTION)
    monkeypatch.setattr(boundaries, "only_moves", lambda *_: False)
    assert boundaries.turn_at(pan, times, sampled, 3, False) == wipe


def test_a_soft_change_of_slide_that_looks_like_movement_is_told_from_it_by_its_words():
    turn, rule = Turn(2.4, 3.0, MOTION, 2.7), boundaries.RefineRule()
    known = Evidence(*(np.zeros(3) for _ in range(6)))
    known.swapped[1:], known.stays[:] = 4.0, (0.5, 0.5, 0.05)
    assert boundaries._of_slides(turn, 2, known, rule) is turn  # nothing stays: a whip pan between standing pictures
    assert boundaries._of_slides(turn, 0, known, rule) is turn and boundaries._of_slides(turn, 0, None, rule) is turn
    assert boundaries._of_slides(turn, 1, known, rule) == Turn(2.4, 3.0, "dissolve", 2.7)
    caption = Turn(2.4, 2.4, MOTION, 2.4)
    assert boundaries._of_slides(caption, 1, known, rule) is caption
    assert boundaries._told(turn, 0, known, boundaries.RefineRule()) == -2.0
    assert boundaries._candidate(2.5, 1.0, turn) == Candidate(2.5, 2.5, 1.0)


def test_what_is_seen_twice_is_told_once_with_the_higher_score():
    cut, again, other = Candidate(2.6, 2.75, 2.1, "cut"), Candidate(2.56, 2.75, 4.0, "cut"), Candidate(7.0, 7.25, 2.0, "fade-black", 6.5, 7.5)
    assert sorted((c.time, c.score) for c in with_cuts([again, other], [cut])) == [(2.6, 4.0), (7.0, 2.0)]
    melt, wider = Candidate(7.1, 7.25, 3.0, "dissolve", 6.7, 7.5), Candidate(12.0, 12.0, 1.5, "dissolve", 11.5, 12.5)
    assert with_melts([other], [melt, wider]) == [Candidate(7.0, 7.25, 3.0, "fade-black", 6.5, 7.5), wider]
    beside = Candidate(7.9, 8.0, 1.5, "wipe", 7.4, 8.4)
    assert with_melts([beside], [melt]) == [beside, melt]


def test_a_window_of_what_is_gradual_ends_at_a_cut():
    times, rule = np.arange(0, 10, 0.25), boundaries.RefineRule()
    windows = boundaries._far(times, [20], [20], rule, [])
    assert windows[20] == (5.0 - rule.far, 5.0 + rule.far)
    low, high = boundaries._far(times, [20], [20], rule, [4.2, 5.72])[20]
    assert low == 4.2 and 5.7 < high < 5.72
    inside = boundaries._far(times, [20], [20], rule, [4.8])[20]
    assert inside == windows[20]  # it may be what the frame stands for


@pytest.mark.parametrize("begin, until", [(1, 100), (30, 60), (1, 5), (90, 100), (5, 5)])
def test_what_is_usual_is_the_median_of_the_frames_there_are(begin, until):
    stream = CutStream()
    stream._jumps = np.random.default_rng(0).random(100).tolist()
    around = [stream._jumps[max(0, k - cuts.AROUND) : k + cuts.AROUND + 1] for k in range(begin, until)]
    assert list(stream._usual(begin, until)) == [np.median(jumps) for jumps in around]
