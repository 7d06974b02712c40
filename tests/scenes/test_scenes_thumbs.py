"""Pictures of scenes: which frame, what file, and how much memory."""

import io
import tracemalloc
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from fixtures.records import scenes_record
from fixtures.videos import lower_color, read_number
from PIL import Image

from mambamia_cli.records import Scene
from mambamia_cli.scenes.thumbs import STEM_BYTES, evenly, file_name, moment, pictures, stem
from mambamia_cli.video.jpeg import QUANTIZERS, encode, fit


def test_the_picture_is_a_second_inside_and_past_the_transition():
    assert moment(Scene(1, 10.0, 20.0, 1.0)) == 11.0
    assert moment(Scene(1, 10.0, 10.6, 1.0)) == pytest.approx(10.2)
    assert moment(Scene(1, 10.0, 20.0, 1.0, transition="dissolve", transition_start=9.0, transition_end=11.0)) == 12.0
    for scene in (Scene(1, 5.0, 5.0, 1.0), Scene(1, 5.0, 5.4, 1.0, transition_start=4.0, transition_end=6.0)):
        assert scene.start <= moment(scene) <= scene.end


def test_pictures_are_those_of_their_scenes_by_presentation_time(numbered, late_start, vfr):
    for video in (numbered, late_start, vfr):
        cuts, length = [float(c) for c in video.cuts], float(video.times[-1] + 1 / video.fps)
        scenes = scenes_record(video.path, cuts, length).scenes
        taken = {i: (read_number(p), lower_color(p)) for i, p in pictures(video.path, scenes, (96, 128))}
        for i, scene in enumerate(scenes):
            wanted = max(k for k, t in enumerate(video.times) if t <= Fraction(moment(scene)) + Fraction(1, 1000))
            assert taken[i][0] == wanted
            assert np.abs(np.subtract(taken[i][1], video.colors[wanted])).max() < 25


def test_a_turned_picture_stays_within_its_box(rotated):
    [(_, picture)] = pictures(rotated.path, [Scene(1, 0.0, 1.0, 0.0)], (64, 64))
    assert picture.shape == (64, 48, 3)


def test_a_thousand_scenes_are_held_one_at_a_time(numbered):
    scenes = [Scene(i + 1, i * 0.004, i * 0.004 + 0.004, 1.0) for i in range(1000)]
    tracemalloc.start()
    count = sum(picture is not None for _, picture in pictures(numbered.path, scenes, (96, 128)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 1000 and peak < 6 << 20  # a thousand at once would be 37 MB


def test_where_nothing_decodes_there_is_no_picture_and_the_rest_have_theirs(numbered, monkeypatch):
    from mambamia_cli.video import grab

    real = grab.frames_from
    monkeypatch.setattr(grab, "_NEAR", Fraction(0))  # every time is sought anew
    monkeypatch.setattr(grab, "frames_from", lambda info, start, **more: (f for f in ()) if 1 < start < 2 else real(info, start, **more))
    scenes = [Scene(1, 0.0, 0.9, 0.0), Scene(2, 1.0, 1.9, 1.0), Scene(3, 2.0, 3.0, 1.0)]
    assert [(i, picture is None) for i, picture in pictures(numbered.path, scenes, (96, 128))] == [(0, False), (1, True), (2, False)]


@pytest.mark.parametrize("size", [(90, 160), (91, 161), (2, 2), (54, 30)])
def test_jpegs_have_the_size_and_colours_of_the_picture(size):
    picture = np.empty((*size, 3), np.uint8)
    picture[:] = (200, 60, 30)
    image = Image.open(io.BytesIO(encode(picture)))
    assert image.format == "JPEG" and image.size == size[::-1]
    assert np.abs(np.asarray(image.convert("RGB")).astype(int) - (200, 60, 30)).max() <= 4


def test_a_limit_lowers_the_quality_and_no_further_than_needed():
    noise = np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8)
    free, tight, hopeless = encode(noise), encode(noise, most=7000), encode(noise, most=1)
    assert len(free) > 7000 >= len(tight) > len(hopeless)
    assert Image.open(io.BytesIO(hopeless)).size == (160, 90) and len(QUANTIZERS) > 1


def test_fit_keeps_proportions_and_never_enlarges():
    assert fit((720, 1280), (180, 320)) == (180, 320) and fit((1920, 1080), (180, 320)) == (180, 102)
    assert fit((96, 128), (360, 640)) == (96, 128) and fit((1000, 3), (180, 320)) == (180, 2)


def test_few_of_many_are_spread_evenly():
    assert evenly(3, 8) == [0, 1, 2] and evenly(0, 8) == []
    assert evenly(1000, 4) == [125, 375, 625, 875]
    assert len(set(evenly(9, 8))) == 8


def test_names_sort_and_are_fit_for_files():
    assert file_name("a", 7, 12) == "a-scene-007.jpg" and file_name("a", 7, 12345) == "a-scene-00007.jpg"
    base = scenes_record("x.mp4", [1], 2)
    for title, wanted in (("film.one.mp4", "film.one"), ("../../etc/passwd", "passwd"), ("a:b?.mkv", "a_b_"), (".mp4", "mp4"), ("a\x00\n.mp4", "a__")):
        assert stem(replace(base, video=replace(base.video, title=title))) == wanted
    assert len(stem(replace(base, video=replace(base.video, title="é" * 300 + ".mp4"))).encode()) <= STEM_BYTES
