"""Lines -> jobs: what is taken, what is refused, and that nothing is dropped."""

import json
import re

import pytest

from mambamia_cli.batch.jobs import Job, parse
from mambamia_cli.errors import UsageError

A = '{"video": "a.mp4", "cmd": "scenes"'


@pytest.mark.parametrize("line, job", [
    ('{"video": "a.mp4", "cmd": "scenes"}', Job("scenes", "a.mp4", {})),
    ('  {"id": "x", "video": "a.mp4", "cmd": "ask", "question": "who?"}', Job("ask", "a.mp4", {"questions": ["who?"]}, "x")),
    ('{"video": "a.mp4", "cmd": "ask", "questions": ["who?", "what?"], "choices": ["cat ", "dog"]}',
     Job("ask", "a.mp4", {"questions": ["who?", "what?"], "choices": ["cat", "dog"]})),
    ('{"video": "a.mp4", "cmd": "find", "query": "cat"}', Job("find", "a.mp4", {"queries": ["cat"]})),
    ('{"video": "a.mp4", "cmd": "find", "queries": ["cat", "a dog"]}', Job("find", "a.mp4", {"queries": ["cat", "a dog"]})),
    (A + ', "threshold": 1, "min_scene_len": "0.6s", "level": "chapter", "refine": false}',
     Job("scenes", "a.mp4", {"threshold": 1.0, "min_scene_len": 0.6, "level": "chapter", "refine": False})),
    (A + ', "fps": 2.0, "start": "1:35", "end": 100.25, "max_frames": 9, "video_track": 0}',
     Job("scenes", "a.mp4", {"fps": "2", "start": "95", "end": "100.25", "max_frames": 9, "video_track": 0})),
    (A + ', "fps": "30000/1001"}', Job("scenes", "a.mp4", {"fps": "30000/1001"})),
    (A + ', "fps": "all"}', Job("scenes", "a.mp4", {"fps": "all"})),
    ('{"video": "a.mp4", "cmd": "summarize", "token_budget": 64, "max_tokens": 5, "min_scene_len": 3}',
     Job("summarize", "a.mp4", {"min_scene_len": 3.0, "token_budget": 64, "max_tokens": 5})),
])  # fmt: skip
def test_a_line_becomes_a_job(line, job):
    assert parse(line.encode(), "jobs", {}) == [job]


@pytest.mark.parametrize("line, words", [
    ('{"video": "a.mp4", "cmd": "scenes"', "it is not JSON"),
    ('{"video": "a.mp4", "cmd": "dance"}', '"cmd" "dance" is not one of'),
    ('{"video": "a.mp4", "cmd": ["ask"]}', '"cmd" ["ask"] is not one of'),
    ('{"video": "a.mp4"}', 'no "cmd", and no --cmd'),
    ("a.mp4", 'no "cmd", and no --cmd'),
    ('{"cmd": "scenes"}', '"video" is not a text'),
    ('{"video": 5, "cmd": "scenes"}', '"video" is not a text'),
    ('{"video": " ", "cmd": "scenes"}', '"video" is not a text'),
    (A + ', "id": 7}', '"id" is not a text'),
    (A + ', "fsp": 2}', '"fsp" is not known'),
    (A + ', "question": "who?"}', '"question" is not for scenes'),
    (A + ', "token_budget": 9}', '"token_budget" is not for scenes'),
    ('{"video": "a.mp4", "cmd": "ask"}', 'there is no "question" to ask'),
    ('{"video": "a.mp4", "cmd": "find"}', 'there is no "query" to find'),
    ('{"video": "a.mp4", "cmd": "ask", "question": ["who?"]}', '"question" ["who?"] is not a text'),
    ('{"video": "a.mp4", "cmd": "ask", "question": "  "}', "is not a text"),
    ('{"video": "a.mp4", "cmd": "ask", "questions": []}', '"questions" [] is not a text or a list'),
    ('{"video": "a.mp4", "cmd": "ask", "questions": ["who?", 5]}', "none of them empty"),
    ('{"video": "a.mp4", "cmd": "ask", "question": "who?", "questions": ["what?"]}', "comes beside its singular"),
    ('{"video": "a.mp4", "cmd": "ask", "question": "who?", "choices": ["cat"]}', "is not a list of different choices"),
    ('{"video": "a.mp4", "cmd": "ask", "question": "who?", "choices": "cat,dog"}', "is not a list of different choices"),
    ('{"video": "a.mp4", "cmd": "ask", "question": "who?", "max_tokens": 0}', "is not a whole number from 1 on"),
    (A + ', "max_frames": true}', '"max_frames" true is not a whole number from 1 on'),
    (A + ', "max_frames": 2.5}', "is not a whole number"),
    (A + ', "video_track": -1}', "is not a whole number from 0 on"),
    (A + ', "refine": "no"}', '"refine" "no" is not true or false'),
    (A + ', "level": "act"}', '"level" "act" is not one of'),
    (A + ', "threshold": -1}', "is not a number from 0 on"),
    (A + ', "threshold": NaN}', "NaN is not a number"),
    (A + ', "threshold": null}', '"threshold" null is not a number from 0 on'),
    (A + ', "fps": 0}', '"fps" 0 is not a frame rate'),
    (A + ', "start": "soon"}', '"start" "soon" is not a time'),
    (A + ', "start": 5, "end": 5}', '"end" is not after the start'),
    (A + ', "min_scene_len": "long"}', "is not a length of time"),
    (A + ', "fps": 2, "fps": 3}', '"fps" comes twice'),
])  # fmt: skip
def test_a_bad_line_is_refused_in_one_sentence(line, words):
    with pytest.raises(UsageError) as caught:
        parse(f"# a list\n\n{line}\n".encode(), "jobs.jsonl", {})
    assert caught.value.message.startswith("line 3 of jobs.jsonl: ") and words in caught.value.message and "\n" not in str(caught.value)
    assert caught.value.hint and caught.value.exit_code == 2


def test_the_first_bad_line_is_named_and_the_others_are_counted():
    lines = [A + "}", A + ', "x": 1}', A + "}", A + ', "y": 1}', "{"]
    with pytest.raises(UsageError, match=r'line 2 of jobs: "x" is not known \(and 2 more lines are bad\); nothing was run'):
        parse("\n".join(lines).encode(), "jobs", {})
    with pytest.raises(UsageError, match=re.escape("(and 1 more line is bad)")):
        parse("\n".join(lines[:4]).encode(), "jobs", {})


def test_an_id_that_comes_twice_is_refused():
    with pytest.raises(UsageError, match="line 3 of jobs: repeats the id 'x' of line 1"):
        parse(f'{A}, "id": "x"}}\n{A}, "id": "y"}}\n{A}, "id": "x"}}'.encode(), "jobs", {})


def test_blank_lines_comments_marks_of_other_systems_and_a_missing_last_newline():
    data = b"\xef\xbb\xbf# a list\r\n\r\n   \na.mp4\r\n./b\xe2\x80\xa8c.mp4\nhttps://x.org/d"
    assert [job.video for job in parse(data, "jobs", {"cmd": "scenes"})] == ["a.mp4", "./b\u2028c.mp4", "https://x.org/d"]


def test_a_path_that_is_not_utf8_is_kept_byte_by_byte():
    job = parse(b"caf\xe9.mp4\n", "jobs", {"cmd": "scenes"})[0]
    assert job.video.encode("utf-8", "surrogateescape") == b"caf\xe9.mp4"
    assert parse(job.line().encode(), "jobs", {}) == [job]
    with pytest.raises(UsageError, match="it is not UTF-8"):
        parse(b'{"video": "caf\xe9.mp4", "cmd": "scenes"}', "jobs", {})


def test_the_command_line_speaks_where_the_line_does_not():
    defaults = {"cmd": "ask", "questions": ["what?"], "fps": "2", "max_tokens": 128, "threshold": 2.0}
    lines = ["a.mp4", '{"video": "b.mp4", "question": "who?", "fps": 1}', '{"video": "c.mp4", "cmd": "scenes"}']
    jobs = parse("\n".join(lines).encode(), "jobs", defaults)
    assert jobs[0].settings == {"questions": ["what?"], "fps": "2", "max_tokens": 128}
    assert jobs[1].settings == {"questions": ["who?"], "fps": "1", "max_tokens": 128}
    assert jobs[2].settings == {"threshold": 2.0, "fps": "2"}, "a question is not for scenes, a threshold is"


def test_a_job_written_as_a_line_is_the_same_job():
    line = '{"id": "a", "video": "ä.mp4", "cmd": "ask", "question": "who?", "start": "1m0.5s", "end": "1:02:03.5", "fps": "30000/1001"}'
    job = parse(line.encode(), "jobs", {"token_budget": 64})[0]
    assert job.settings["start"] == "60.5" and json.loads(job.line())["token_budget"] == 64
    assert parse(job.line().encode(), "jobs", {"fps": "3"}) == [job]
