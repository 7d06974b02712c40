"""Shots merged to scenes and chapters, and a record marked anew."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest

from mambamia_cli.errors import InputError
from mambamia_cli.records import Candidate, SamplingRecord, ScenesRecord, VideoRecord, to_dict
from mambamia_cli.scenes import levels, marking

LOOKS = {name: tuple(int(v) for v in np.random.default_rng(i).integers(-99, 99, levels.WIDTH)) for i, name in enumerate("ABCDE")}


def candidates(script, seconds=4.0):
    """One candidate for each letter of the script: a shot of `seconds` that looks like this letter."""
    return tuple(Candidate(i * seconds, i * seconds, 2.0 if i else 0.0, signature=LOOKS[c]) for i, c in enumerate(script))


def starts(script, level, seconds=4.0):
    found = marking.scenes_of(candidates(script, seconds), threshold=1.0, min_scene_len=0.6, start=0.0, end=len(script) * seconds, level=level)
    assert [s.n for s in found] == list(range(1, len(found) + 1)) and found[-1].end == len(script) * seconds
    return [round(s.start / seconds) for s in found]


def test_a_dialogue_cut_to_and_fro_is_one_scene():
    assert starts("ABABCDCDCEE", "shot") == list(range(11))
    assert starts("ABABCDCDCEE", "scene") == [0, 4, 9]


def test_what_looks_alike_only_after_a_long_time_is_another_scene():
    assert starts("A" + "B" * 3 + "A", "scene", seconds=20.0) == [0, 1, 4]


def test_a_chapter_is_not_shorter_than_its_least_length_and_holds_whole_scenes():
    script = "AAAAAAABBBBBBBCDCDCDC"
    scenes, chapters = starts(script, "scene"), starts(script, "chapter")
    assert set(chapters) <= set(scenes) and len(chapters) > 1
    assert min(np.diff([*chapters, len(script)])) * 4 >= levels.CHAPTER_LEAST


def test_hours_of_shots_are_merged_in_a_moment():
    """A search through all pairs at every merge took a quarter of a minute."""
    rng, began = np.random.default_rng(5), time.process_time()
    made = tuple(Candidate(i * 4.0, i * 4.0, 2.0 if i else 0.0, signature=tuple(map(int, rng.integers(-99, 99, levels.WIDTH)))) for i in range(2500))
    opens = levels.merge(made, made[1:], start=0.0, end=10_000.0, level="chapter")
    assert 5 < len(opens) < 10_000 / levels.CHAPTER_MOST
    assert time.process_time() - began < 4


def test_signatures_of_like_frames_are_alike_and_of_others_are_not():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 432))
    stream = levels.SignatureStream()
    for chunk in (a, b, a):
        stream.push((chunk + rng.normal(size=(20, 432)) * 0.2).astype(np.float32))
    rows = np.array(levels.stretches(stream.finish(), np.arange(60) / 4, [0.0, 5.0, 10.0]), float)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert rows[0] @ rows[2] > 0.9 and rows[0] @ rows[1] < 0.3


def record():
    made = candidates("ABAC")
    weak = replace(made[1], score=0.7)
    delta = tuple((i / 4, 0.1) for i in range(64))
    return ScenesRecord(VideoRecord("v.mp4"), SamplingRecord("fps"), (), delta, range=(0.0, 16.0), threshold=1.0,
                        candidates=(made[0], weak, *made[2:]), candidates_from=0.6)  # fmt: skip


def test_a_record_is_marked_anew_at_another_threshold_length_and_level():
    assert [s.start for s in marking.remark(record()).scenes] == [0, 8, 12]
    assert [s.start for s in marking.remark(record(), threshold=0.65).scenes] == [0, 4, 8, 12]
    assert [s.start for s in marking.remark(record(), min_scene_len=5).scenes] == [0, 8]
    merged = marking.remark(record(), threshold=0.65, level="scene")
    assert [s.start for s in merged.scenes] == [0, 12] and to_dict(merged)["level"] == "scene"


def test_a_record_without_candidates_is_marked_by_its_curve_and_has_no_levels():
    delta = tuple((i / 4, 1.0 if i == 30 else 0.01) for i in range(64))
    old = replace(record(), candidates=None, candidates_from=None, delta=delta)
    assert [s.start for s in marking.remark(old).scenes] == [0.0, 7.5]
    with pytest.raises(InputError, match="scene"):
        marking.remark(old, level="scene")


def test_fields_that_do_not_apply_are_left_out_of_the_json():
    scene = json.loads(json.dumps(to_dict(marking.remark(record()))))["scenes"][0]
    assert set(scene) == {"n", "start", "end", "peak"}
