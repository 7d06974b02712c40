"""The file of results: locked, gone on with, never damaged."""

import json
import os

import pytest

from mambamia_cli.batch.jobs import Job
from mambamia_cli.batch.results import Results
from mambamia_cli.errors import OutputError
from mambamia_cli.records import JobRecord

SEEN = {"schema": "mambamia.scenes/1", "video": {"source": "a.mp4", "title": "a.mp4"}, "n": 1}


def job(name=None, video="a.mp4"):
    return Job("scenes", video, {}, name)


def record(key="k", name=None, failed=False):
    error = {"class": "input", "message": "ä", "hint": ""} if failed else None
    return JobRecord(name, key, "scenes", "a.mp4", "failed" if failed else "done", 1, 0.5, None if failed else (SEEN,), error)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "r.jsonl"


def write(path, *records):
    with Results(str(path)) as results:
        for one in records:
            results.write(one)


def settled(path, *keys, force=False):
    with Results(str(path), force=force) as results:
        return [results.settled(key, job()) for key in keys]


def test_what_is_done_is_settled_and_what_failed_is_not(path):
    write(path, record("a"), record("b", failed=True))
    assert settled(path, "a", "b", "c") == [True, False, False]
    first = json.loads(path.read_text().splitlines()[0])
    assert first == {"schema": "mambamia.job/1", "key": "a", "cmd": "scenes", "video": "a.mp4", "status": "done", "attempts": 1,
                     "seconds": 0.5, "records": [SEEN]}  # fmt: skip


def test_a_later_line_of_the_same_key_counts(path):
    write(path, record("a", failed=True), record("b"))
    write(path, record("a"), record("b", failed=True))
    assert settled(path, "a", "b") == [True, False]


def test_force_settles_nothing(path):
    write(path, record("a"))
    assert settled(path, "a", force=True) == [False]


@pytest.mark.parametrize("cut", [1, 20, 60, 140])
def test_a_torn_last_line_is_cut_off_and_its_job_is_not_done(path, cut):
    write(path, record("a"), record("b"))
    whole = path.read_bytes()
    end = whole.index(b"\n") + 1
    path.write_bytes(whole[: end + cut])
    assert settled(path, "a", "b") == [True, False]
    assert path.read_bytes() == whole[:end]
    write(path, record("b"))
    assert path.read_bytes() == whole


def test_a_line_that_is_whole_but_for_its_newline_is_torn_too(path):
    write(path, record("a"), record("b"))
    path.write_bytes(path.read_bytes()[:-1])
    assert settled(path, "a", "b") == [True, False]


def test_one_torn_line_alone_is_ours(path):
    write(path, record("a"))
    path.write_bytes(path.read_bytes()[:9])
    assert settled(path, "a") == [False] and path.read_bytes() == b""


def test_a_damaged_line_in_the_middle_counts_for_nothing(path):
    write(path, record("a"), record("b"))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0][:50] + b"\n" + lines[1])
    with Results(str(path)) as results:
        assert (results.damaged, results.settled("a", job()), results.settled("b", job())) == (1, False, True)


@pytest.mark.parametrize("data", [b"\0\0\0\x18ftypmp42 a video", b'{"video": "a.mp4"}\n', b"a.mp4\nb.mp4\n", b"x"])
def test_a_file_that_holds_something_else_is_left_alone(path, data):
    path.write_bytes(data)
    with pytest.raises(OutputError, match="is no file of results"), Results(str(path)):
        pass
    assert path.read_bytes() == data


def test_a_file_that_is_being_written_is_refused_and_is_free_afterwards(path):
    with Results(str(path)) as first:
        first.write(record("a"))
        with pytest.raises(OutputError, match="another run is writing"), Results(str(path)):
            pass
        first.write(record("b"))
    assert settled(path, "a", "b") == [True, True]


def test_every_job_has_a_line_although_the_work_is_done_once(path):
    write(path, record("a", "one"))
    for _ in range(2):
        with Results(str(path)) as results:
            assert results.settled("a", job("one")) and results.settled("a", job("two")) and results.settled("a", job("one", "d/link.mp4"))
    one, two, link = (json.loads(line) for line in path.read_text().splitlines())
    assert two == {**one, "id": "two"} and (link["id"], link["video"]) == ("one", "d/link.mp4")
    assert link["records"] == [{**SEEN, "video": {"source": "d/link.mp4", "title": "link.mp4"}}]


def test_a_record_that_cannot_be_written_leaves_nothing_of_itself(path, monkeypatch):
    write(path, record("a"))
    before = path.read_bytes()
    with Results(str(path)) as results:
        monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OutputError, match="no space left"):
            results.write(record("b"))
        monkeypatch.undo()
        assert path.read_bytes() == before
        results.write(record("c"))
    assert settled(path, "a", "b", "c") == [True, False, True]


def test_every_record_is_on_the_disk_before_the_next_begins(path, monkeypatch):
    with Results(str(path)) as results:
        synced = []
        monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_size))
        results.write(record("a"))
        assert synced == [path.stat().st_size]


@pytest.mark.parametrize("name", ["none/r.jsonl", "."])
def test_a_place_that_cannot_be_written_is_refused(tmp_path, name):
    with pytest.raises(OutputError, match="cannot write"), Results(str(tmp_path / name)):
        pass
