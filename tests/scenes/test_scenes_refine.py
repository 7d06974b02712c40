"""Refinement on pictures and videos whose transitions are known to the frame."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from mambamia_cli.pipeline import boundaries
from mambamia_cli.records import Candidate
from mambamia_cli.scenes import evidence, marking, peaks
from mambamia_cli.scenes.evidence import EvidenceStream
from mambamia_cli.scenes.refine import (
    COARSE,
    FLASH,
    MOTION,
    SIZE,
    RefineRule,
    Turn,
    _apart,
    _coarse,
    find_cut,
    find_gradual,
)
from mambamia_cli.video import SampleSpec, open_frames
from mambamia_cli.video.windows import open_windows


def picture(seed, size=(96, 128), cell=8):
    """A random mosaic: a picture with structure everywhere, (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    small = rng.integers(20, 236, (size[0] // cell, size[1] // cell, 3), np.uint8)
    return small.repeat(cell, 0).repeat(cell, 1)


def slide(lines, size=(224, 224)):
    """Text-like bars on one background: each entry of `lines` is (row, seed)."""
    frame = np.full((*size, 3), 230, np.uint8)
    for row, seed in lines:
        bars = np.random.default_rng(seed).integers(0, 2, size[1] // 4).repeat(4)[: size[1] - 40].astype(bool)
        frame[row : row + 12, 20 : size[1] - 20][:, bars] = 30
    return frame


def write(path, frames, *, fps=25, pts=None, base=None):
    """frames: (H, W, 3) arrays; pts in `base` units for a variable rate."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=Fraction(fps), options={"crf": "12"})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        if base is not None:
            stream.time_base = stream.codec_context.time_base = base
        for i, frame in enumerate(frames):
            made = av.VideoFrame.from_ndarray(frame, "rgb24")
            if pts is not None:
                made.pts, made.time_base = pts[i], base
            out.mux(stream.encode(made))
        out.mux(stream.encode())
    return path


def seen(path):
    """(times (m,), Evidence) at four frames a second."""
    stream, times = EvidenceStream(), []
    with open_frames(path, SampleSpec(fps=Fraction(4), size=(224, 224))) as frames:
        for chunk in frames:
            stream.push(chunk.frames)
            times += [float(t) for t in chunk.times]
    return np.array(times), stream.finish()


def refined(path, delta_at=()):
    """The markers of a video whose delta stands out at the times `delta_at`, as the pipeline finds them."""
    times, known = seen(path)
    contrast = np.zeros(len(times))
    contrast[[int(np.searchsorted(times, t - 1e-6)) for t in delta_at]] = 2.0
    score = evidence.combine(contrast, 1.0, known)
    at = marking.candidates_of(score, times, 1.0)
    return marking.choose(boundaries.refine(path, times, score, at, known), 1.0, 0.6, 0.0, float(times[-1]) + 0.25)


def dissolve(a, b, u):
    return (a * (1 - u) + b * u).astype(np.uint8)


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001)])
def test_a_cut_is_found_on_its_frame(tmp_path, fps):
    frames = [picture(1)] * 61 + [picture(2)] * 73 + [picture(3)] * 60
    found = refined(write(tmp_path / "cuts.mp4", frames, fps=fps))
    assert [c.transition for c in found] == ["cut", "cut"]
    assert [c.time for c in found] == pytest.approx([float(61 / fps), float(134 / fps)], abs=1e-3)


def test_a_cut_of_a_variable_rate_is_found_on_its_presentation_time(tmp_path):
    pts = [i * 40 for i in range(50)] + [2000 + 13 + i * 70 for i in range(40)]
    frames = [picture(1)] * 63 + [picture(2)] * 27
    found = refined(write(tmp_path / "vfr.mkv", frames, pts=pts, base=Fraction(1, 1000)))
    assert len(found) == 1 and found[0].time == pytest.approx(pts[63] / 1000, abs=1.1e-3)


def test_a_dissolve_gets_its_start_middle_and_end(tmp_path):
    a, b = picture(1), picture(2)
    frames = [a] * 50 + [dissolve(a, b, i / 25) for i in range(25)] + [b] * 50
    (found,) = refined(write(tmp_path / "dissolve.mp4", frames))
    assert found.transition == "dissolve" and found.time == pytest.approx(2.5, abs=0.08)
    assert found.transition_start == pytest.approx(2.0, abs=0.12) and found.transition_end == pytest.approx(3.0, abs=0.12)


@pytest.mark.parametrize(("ground", "kind"), [(0, "fade-black"), (255, "fade-white")])
def test_a_fade_stands_in_its_dark_or_white(tmp_path, ground, kind):
    a, b, flat = picture(1), picture(2), np.full((96, 128, 3), ground, np.uint8)
    frames = [a] * 50 + [dissolve(a, flat, i / 12) for i in range(12)] + [flat] + [dissolve(flat, b, i / 12) for i in range(1, 12)] + [b] * 50
    (found,) = refined(write(tmp_path / "fade.mp4", frames))
    assert found.transition == kind and found.time == pytest.approx(62 / 25, abs=0.09)
    assert found.transition_start == pytest.approx(2.0, abs=0.15) and found.transition_end == pytest.approx(74 / 25, abs=0.15)


def test_a_wipe_is_told_from_a_dissolve():
    a, b = picture(1, (45, 80), 5), picture(2, (45, 80), 5)
    frames = [a] * 20 + [np.concatenate([b[:, : 4 * i], a[:, 4 * i :]], 1) for i in range(20)] + [b] * 20
    turn = find_gradual(np.stack(frames), np.arange(60) / 25, 1.2)
    assert turn.kind == "wipe" and turn.time == pytest.approx(1.2, abs=0.08)


def panned(seed, seconds, *, fps=25, pace=40.0, size=(224, 224)):
    """A photograph-like picture, smooth at many scales, that moves `pace` pixels a second: (seconds * fps, H, W, 3) uint8."""
    rng, wide = np.random.default_rng(seed), size[1] + int(pace * seconds) + 2
    whole = np.zeros((size[0], wide, 3), np.float32)
    for cell in (64, 32, 16, 8):
        grid = rng.normal(0, cell / 3, (size[0] // cell + 2, wide // cell + 2, 3)).astype(np.float32)
        whole += cv2.resize(grid, (wide, size[0]), interpolation=cv2.INTER_CUBIC)
    whole = np.clip(whole + rng.uniform(90, 160, 3), 0, 255)
    cut = [int(pace * i / fps) for i in range(int(seconds * fps))]
    return np.stack([whole[:, x : x + size[1]] for x in cut]).astype(np.uint8)


def melted(a, b, first, frames):
    """Film a, from frame `first` on mixed with b for so many frames, then b."""
    u = np.clip((np.arange(len(a)) - first) / frames, 0, 1)[:, None, None, None]
    return (a * (1 - u) + b * u).astype(np.uint8)


def test_a_dissolve_of_moving_pictures_is_told_from_a_pan_by_the_detail_that_sinks():
    """What two pictures explain of a third is little when all move, in a pan not less."""
    film = melted(panned(1, 9, pace=14), panned(2, 9, pace=14), 100, 35)
    stream = EvidenceStream()
    stream.push(film[::6])
    known = stream.finish()
    middle, moves = slice(18, 21), np.r_[3:12, 29:34]
    assert known.mixed[middle].max() > evidence.EvidenceRule().dissolve > known.mixed[moves].max() + 0.1


def test_a_dissolve_of_moving_pictures_is_placed_by_what_motion_hardly_changes():
    film = melted(panned(1, 5, pace=24), panned(2, 5, pace=0), 50, 30)
    small = np.stack([cv2.resize(f, (80, 45), interpolation=cv2.INTER_AREA) for f in film])
    turn = find_gradual(small, np.arange(len(small)) / 25, 2.3)
    assert turn.kind == "dissolve" and turn.time == pytest.approx(2.6, abs=0.03) and turn.dip > 0.35
    pan = np.stack([cv2.resize(f, (80, 45), interpolation=cv2.INTER_AREA) for f in panned(3, 5, pace=12)])
    turn = find_gradual(pan, np.arange(len(pan)) / 25, 2.3)
    assert turn is None or turn.dip < 0.2


def gradual(start, end, dip):
    return Turn(start, end, "dissolve", (start + end) / 2, dip)


def test_two_readings_of_one_dissolve_become_the_wider():
    wide, narrow, pan = gradual(2.0, 3.8, 0.5), gradual(3.2, 3.8, 0.45), gradual(3.0, 6.0, 0.05)
    cut = Turn(3.5, 3.5, "cut", 3.5)
    assert boundaries._whole({8: wide, 9: narrow, 10: pan, 11: cut, 12: None}, RefineRule()) == {8: wide, 9: wide, 10: pan, 11: cut, 12: None}


def test_a_dissolve_whose_detail_sinks_is_surer_and_one_whose_does_not_less_sure():
    stays = evidence.Evidence(*(np.zeros(3) for _ in range(6)))
    rule = RefineRule()
    told = [boundaries._told(gradual(1.0, 2.0, dip), 1, stays, rule) for dip in (0.5, 0.2, 0.0, None)]
    assert told == [rule.melted[0], pytest.approx(0), -rule.melted[1], 0.0]
    stays.stays[:] = 1.0  # a bullet that appears softly
    assert boundaries._told(gradual(1.0, 2.0, 0.5), 1, stays, rule) == 0.0


def test_what_is_noticed_inside_a_stronger_transition_is_that_transition():
    fade = Candidate(16.2, 16.0, 2.5, "fade-black", 15.3, 17.1)
    pan = Candidate(14.5, 15.5, 1.4, "dissolve", 13.8, 15.2)
    assert marking.choose([pan, fade], 1.0, 0.6, 0.0, 30.0) == [fade]
    early = Candidate(14.5, 14.5, 1.4, "dissolve", 13.8, 15.1)
    assert marking.choose([early, fade], 1.0, 0.6, 0.0, 30.0) == [early, fade]


def test_of_cuts_in_quick_succession_as_many_stay_as_can():
    cuts = [Candidate(t, t, score, "cut") for t, score in ((2.0, 2.1), (2.45, 3.0), (2.9, 1.9), (3.4, 3.1))]
    assert [c.time for c in marking.choose(cuts, 1.0, 0.6, 0.0, 9.0)] == [2.0, 2.9]
    unsure = [Candidate(2.0, 2.0, 1.2, "cut"), *cuts[1:]]
    assert [c.time for c in marking.choose(unsure, 1.0, 0.6, 0.0, 9.0)] == [2.45, 3.4]


def test_a_flash_is_no_cut_and_does_not_draw_one_to_itself():
    a, b = picture(1, (45, 80), 5), picture(2, (45, 80), 5)
    flash = np.full_like(a, 255)
    frames = np.stack([a] * 10 + [flash] * 2 + [a] * 4 + [b] * 14)
    times = np.arange(30) / 25
    assert find_cut(frames, times, 0.2, 1.0).time == 16 / 25
    assert find_cut(frames[:16], times[:16], 0.2, 0.6) is None


def test_scenes_of_the_shortest_length_are_kept_in_floating_point():
    cuts = [Candidate(t, t, 2.0, "cut") for t in (54.2, 54.8, 55.4, 55.9)]
    assert 54.8 - 54.2 < 0.6
    assert [c.time for c in marking.choose(cuts, 1.0, 0.6, 0.0, 60.0)] == [54.2, 54.8, 55.4]


@pytest.mark.parametrize("frames", [3, 5])
def test_a_flash_over_a_pan_is_no_fade_and_costs_what_delta_says_of_it(tmp_path, frames):
    shot = panned(1, 4.0)
    for i in range(50, 50 + frames):
        shot[i] = dissolve(shot[i], np.full_like(shot[i], 255), 1 - abs(2 * (i - 50) - frames + 1) / (frames + 1) / 2)
    path = write(tmp_path / "flash.mp4", shot)
    turn = find_gradual(next(iter(open_windows(path, [(1.0, 3.2)], (45, 80)))).frames, np.arange(25, 81) / 25, 50 / 25)
    assert turn is None or turn.kind == FLASH
    assert boundaries._told(Turn(2.0, 2.2, FLASH, 2.1), 0, seen(path)[1], RefineRule()) == -2.0
    assert refined(path, (2.0, 2.25)) == []


def test_a_quick_fade_between_different_pictures_is_no_flash():
    a, b = picture(1, (45, 80), 5), picture(2, (45, 80), 5)
    white = np.full_like(a, 255)
    frames = [a] * 25 + [dissolve(a, white, u) for u in (0.3, 0.6, 0.9)] + [white] + [dissolve(white, b, u) for u in (0.1, 0.4, 0.7)] + [b] * 25
    turn = find_gradual(np.stack(frames), np.arange(len(frames)) / 25, 28 / 25)
    assert turn.kind == "fade-white" and turn.end - turn.start < 0.4


@pytest.mark.parametrize("delta_at", [(), (2.0,)])
def test_a_flash_is_refused_whatever_delta_says(tmp_path, delta_at):
    a = picture(1)
    frames = [a] * 49 + [np.full_like(a, 255)] * 5 + [a] * 60
    assert refined(write(tmp_path / "flash.mp4", frames), delta_at) == []


def test_a_bullet_is_refused_and_a_new_slide_is_kept_whatever_delta_says(tmp_path):
    rng = np.random.default_rng(0)
    title, one, two = (20, 1), (80, 2), (120, 3)
    shown = [slide([title])] * 50 + [slide([title, one])] * 50 + [slide([title, one, two])] * 50 + [slide([(20, 4), (80, 5), (120, 6)])] * 50
    frames = []
    for frame in shown:  # a speaker who never keeps still
        frames.append(frame.copy())
        frames[-1][170:210, 170:210] = rng.integers(0, 256, (5, 5, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    path = write(tmp_path / "lecture.mp4", frames)
    for delta_at in ((), (2.0, 4.0)):
        assert [c.time for c in refined(path, delta_at)] == [6.0]


def test_a_subtitle_that_goes_is_no_cut(tmp_path):
    """Over a soft picture it is most of what changes for good."""
    y, x = np.mgrid[:180, :320]
    ground = (90 + 60 * np.exp(-(((x - 160) / 90) ** 2) - ((y - 60) / 40) ** 2)).astype(np.uint8)[..., None].repeat(3, -1)
    titled = ground.copy()
    titled[148:164, 40:280:3] = 250
    path = write(tmp_path / "subtitle.mp4", [titled] * 30 + [ground] * 30)
    stretch = next(iter(open_windows(path, [(0.2, 2.2)], (45, 80))))
    turn = find_cut(stretch.frames, [float(t) for t in stretch.times], 1.1, 1.3)
    assert (turn.kind, turn.time) == (MOTION, 1.2)
    titled[20:120, 60:260:5] = 250  # words above it go, too
    path = write(tmp_path / "title.mp4", [titled] * 30 + [ground] * 30)
    stretch = next(iter(open_windows(path, [(0.2, 2.2)], (45, 80))))
    assert find_cut(stretch.frames, [float(t) for t in stretch.times], 1.1, 1.3).kind == "cut"


@pytest.mark.parametrize("soft", [0, 12])
def test_a_slide_of_few_words_makes_way_for_another_though_all_else_stays(tmp_path, soft):
    def bare(row, seed):
        """One short line beside a frame, a logo and a picture, which every slide has."""
        frame = np.full((224, 224, 3), 230, np.uint8)
        frame[:, :8] = frame[216:] = 90
        frame[120:200, 120:200] = picture(7, (80, 80), 8)
        bars = np.random.default_rng(seed).integers(0, 2, 16).repeat(4).astype(bool)
        frame[row : row + 12, 30:94][:, bars] = 30
        return frame

    slides = [bare(40, 1), bare(48, 2), bare(96, 3)]
    added = np.minimum(slides[2], bare(110, 4))  # a bullet close below: no boundary
    frames, shown = [], [slides[0], slides[1], slides[2], added]
    for a, b in zip(shown, [*shown[1:], added], strict=True):
        frames += [a] * (62 - soft) + [dissolve(a, b, (i + 1) / (soft + 1)) for i in range(soft)]
    found = refined(write(tmp_path / "few.mp4", frames))
    middle = (62 - soft / 2) / 25
    assert [c.time for c in found] == pytest.approx([middle, middle + 62 / 25], abs=0.05)


def test_evidence_does_not_depend_on_the_chunk_size():
    noise = np.random.default_rng(5).integers(0, 90, (40, 112, 112, 3))
    frames = [np.roll(picture(i // 9, (112, 112), 4) // 2, i, 1) + noise[i] for i in range(40)]
    frames += [slide([(8 + 30 * (i // 10), i // 10)], (112, 112)) for i in range(30)]
    window = [np.concatenate([noise[1][:48], np.roll(noise[0], 6 * (i // 6), 0)[48:]]) for i in range(21)]
    frames = np.stack([*frames, *window]).astype(np.uint8)  # the last ones scroll under a title
    whole, parts = EvidenceStream(), EvidenceStream()
    whole.push(frames)
    for at in range(0, 91, 7):
        parts.push(frames[at : at + 7])
    known = whole.finish()
    assert all(np.nanstd(values) > 0 for values in vars(known).values())
    for a, b in zip(vars(known).values(), vars(parts.finish()).values(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_windows_give_every_frame_once_in_each_window_and_may_overlap(numbered):
    windows = [(0.4, 0.8), (0.6, 1.2), (3.0, 3.2)]
    parts = list(open_windows(numbered.path, windows, (48, 64)))
    for (a, b), part in zip(windows, parts, strict=True):
        assert [float(t) for t in part.times] == [i / 25 for i in range(100) if a - 1e-9 <= i / 25 <= b + 1e-9]
        assert part.frames.shape == (len(part.times), 48, 64, 3)


def test_without_refinement_the_choice_is_that_of_the_peak_rule():
    rng = np.random.default_rng(3)
    times, delta = np.arange(400) / 4, rng.gamma(1.0, 1.0, 400)
    rule = peaks.PeakRule()
    score = peaks.scores(delta, times, rule)
    for threshold in (1.0, 2.0, 4.0):
        at = marking.candidates_of(score, times, 0.5)
        found = marking.choose([Candidate(times[i], times[i], float(score[i])) for i in at], threshold, 0.6, 0.0, 100.0)
        assert [c.time for c in found] == [times[i] for i in peaks.markers(score, times, threshold, 0.6, 100.0)]
        assert found


def test_coarse_pixels_are_means_of_their_own_part_and_colour():
    frames = np.random.default_rng(0).random((4, *SIZE, 3), np.float32) * 255
    coarse = _coarse(frames.reshape(4, -1)).reshape(4, SIZE[0] // COARSE[0], SIZE[1] // COARSE[1], 3)
    for k, y, x, c in ((0, 0, 0, 0), (1, 2, 5, 1), (3, 4, 7, 2)):
        part = frames[k, y * COARSE[0] : (y + 1) * COARSE[0], x * COARSE[1] : (x + 1) * COARSE[1], c]
        assert coarse[k, y, x, c] == pytest.approx(part.mean(), abs=1e-3)


@pytest.mark.parametrize("k, reach", [(1, 5), (4, 5), (9, 5), (9, 1)])
def test_differences_of_rows_are_those_of_each_pair(k, reach):
    x = np.random.default_rng(k).random((k, 300), np.float32)
    apart = _apart(x, reach)
    for i in range(k):
        for j in range(k):
            expected = np.abs(x[i] - x[j]).mean() if 0 < j - i <= reach else np.inf
            assert apart[i, j] == expected
