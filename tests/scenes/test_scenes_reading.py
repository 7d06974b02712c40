"""Saved records: read whole or refused with one sentence, and marked anew as a look at the video would have."""

import json
from dataclasses import replace

import pytest

from mambamia_cli.errors import InputError
from mambamia_cli.pipeline import open_video
from mambamia_cli.records import ErrorRecord, to_dict, to_json
from mambamia_cli.scenes import reading
from mambamia_cli.scenes.marking import remark


@pytest.fixture(scope="module")
def video(three_cuts, tiny_model):
    return open_video(three_cuts.path, model=str(tiny_model))


@pytest.fixture(scope="module")
def looked_at(video):
    return video.scenes(threshold=0.05)


@pytest.fixture
def saved(looked_at, tmp_path):
    """saved(field=value, ...) -> the record's file with these fields changed (None: left out)."""

    def write(**changes):
        data = {name: value for name, value in {**to_dict(looked_at), **changes}.items() if value is not None}
        path = tmp_path / "record.json"
        path.write_text(json.dumps(data), "utf-8")
        return str(path)

    return write


def test_a_record_is_read_as_it_was_written(looked_at, saved):
    assert reading.load(saved()) == [looked_at] and looked_at.candidates and looked_at.candidates_from is not None
    assert looked_at.video.audio is False and looked_at.video.offset is None and looked_at.min_scene_len == 0.6


def test_records_of_several_videos_line_by_line_and_failed_ones_among_them(looked_at, tmp_path):
    failed = ErrorRecord("gone.mp4", {"class": "input", "message": "gone", "hint": ""})
    path = tmp_path / "all.jsonl"
    path.write_text("".join(to_json(one) + "\n" for one in (looked_at, failed, looked_at)))
    assert reading.load(str(path)) == [looked_at, failed, looked_at]


def test_fields_of_a_later_version_are_left_out(looked_at, saved):
    assert reading.load(saved(novelty=[1])) == [looked_at]


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"schema": "mambamia.scenes/2"}, "is a record of kind mambamia.scenes/2 and version"),
        ({"schema": "mambamia.answer/1"}, "is a record of kind mambamia.answer/1"),
        ({"schema": None}, "is not a record of mambamia"),
        ({"scenes": None}, "is not a whole record: 'scenes' is missing"),
        ({"video": {}}, "'video.source' is missing"),
        ({"video": {"source": "a", "fps": "x"}}, "'video.fps' is not a rate"),
        ({"video": {"source": "a", "fps": "0/1"}}, "'video.fps' is not a rate"),
        ({"video": {"source": 3}}, "'video.source' is 3, which is no str"),
        ({"delta": [[0, 1], [1]]}, "'delta' is not the list it must be"),
        ({"delta": [[0, float("nan")]]}, "'delta' is NaN, which is no float"),
        ({"threshold": "4"}, "'threshold' is \"4\", which is no float"),
        ({"scenes": [{"n": True, "start": 0, "end": 1, "peak": 0}]}, "'scenes.n' is true, which is no int"),
        ({"scenes": [{"n": 1, "start": 2, "end": 1, "peak": 0}]}, "the times in 'scenes' are not in order"),
        ({"range": [5, 1]}, "the times in 'range' are not in order"),
        ({"candidates": []}, "'candidates' is empty"),
        ({"sampling": []}, "'sampling' is not an object"),
        ({"level": "film"}, "'level' is none of shot, scene, chapter"),
        ({"scenes": [{"n": 1, "start": 0, "end": 1, "peak": 0, "transition_start": 0.5}]}, "a transition in 'scenes' has only one end"),
        ({"candidates": [{"time": 0, "look": 0, "score": 0, "transition_end": 1}]}, "a transition in 'candidates' has only one end"),
        ({"candidates": [{"time": t, "look": t, "score": 1, "signature": [1] * (t + 1)} for t in (0, 1)]}, "are not of one length"),
    ],
)
def test_what_is_no_whole_record_of_this_version_is_refused_in_a_sentence(saved, changes, said):
    path = saved(**changes)
    with pytest.raises(InputError) as refused:
        reading.load(path)
    assert said in str(refused.value) and path in str(refused.value) and "make it again with 'mambamia scenes VIDEO --json'" in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"  \n", b"{", b"no json\n", b"\xff\xfe", b"[1, 2]", b"3", b"[" * 100_000])
def test_what_is_no_json_record_at_all(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError):
        reading.load(str(path))
    with pytest.raises(InputError, match="no such file"):
        reading.load(str(tmp_path / "none.json"))


@pytest.mark.parametrize("threshold", [None, 0.05, 0.3, 2.0, 1e9])
@pytest.mark.parametrize("level", ["shot", "scene", "chapter"])
@pytest.mark.parametrize("shortest", [0.6, 2.5])
def test_marking_anew_is_what_the_video_itself_would_give(video, saved, threshold, level, shortest):
    wanted = {"threshold": threshold, "level": level, "min_scene_len": shortest}
    again = remark(reading.load(saved())[0], **{**wanted, "threshold": 0.05 if threshold is None else threshold})
    direct = video.scenes(**{**wanted, "threshold": 0.05 if threshold is None else threshold})
    assert again.scenes == direct.scenes and again.threshold == direct.threshold and again.level == direct.level


def test_a_range_is_marked_anew_from_its_first_frame(three_cuts, tiny_model):
    looked = open_video(three_cuts.path, model=str(tiny_model), start=1.5, end=7).scenes(threshold=0.05)
    assert remark(looked).scenes == looked.scenes and remark(looked, threshold=1e9).scenes[0].start == looked.scenes[0].start == 1.5


def test_what_is_not_said_stays_as_the_record_was_marked(video):
    looked = video.scenes(threshold=0.3, min_scene_len=2.1, level="scene")
    assert remark(looked) == looked
    assert remark(looked, level="shot").scenes == video.scenes(threshold=0.3, min_scene_len=2.1).scenes
    assert remark(replace(looked, min_scene_len=None)).min_scene_len == 0.6
