"""Which jobs share a look, and how a job becomes a call of the hall. Videos here are stand-ins that note what they were asked."""

import pytest

from mambamia_cli.batch.looker import Looker
from mambamia_cli.errors import DownloadError, InputError
from mambamia_cli.records import Evidence, FindRecord, SamplingRecord, Sighting, VideoRecord


class Stand:
    """In place of a pipeline.Video."""

    opened: list["Stand"]

    def __init__(self, source, **options):
        self.source, self.options, self.calls = source, options, []
        if "broken" in str(source):
            raise DownloadError("it stopped answering")
        self.opened.append(self)

    def __getattr__(self, name):
        def call(*words, **given):
            self.calls.append((name, words, given))
            if words == ("weights",):
                raise DownloadError("the weights could not be fetched")
            many = tuple(Evidence(i, i + 1, "", 0.5) for i in range(30))
            return FindRecord(VideoRecord(str(self.source)), (Sighting("cat", 0.5, many),), SamplingRecord("fps"))

        return call


@pytest.fixture
def looker(monkeypatch):
    Stand.opened = []
    monkeypatch.setattr("mambamia_cli.batch.looker.open_video", Stand)
    monkeypatch.setattr("mambamia_cli.batch.looker.check_source", lambda source: None)
    return Looker(None, None, None)


def do(looker, cmd, video="a.mp4", **settings):
    needed = {"ask": {"questions": ["who?"]}, "find": {"queries": ["cat"]}}.get(cmd, {})
    return looker.records({"cmd": cmd, "video": video, **needed, **settings})


@pytest.mark.parametrize("jobs, looks", [
    ((("ask", {}), ("ask", {"questions": ["where?"]}), ("find", {}), ("scenes", {"refine": False})), 1),
    ((("scenes", {}), ("scenes", {"threshold": 2.0}), ("summarize", {})), 1),
    ((("ask", {}), ("scenes", {})), 2),
    ((("scenes", {}), ("scenes", {"fps": "2"}), ("scenes", {"fps": "2", "start": "1"}), ("scenes", {"max_frames": 4})), 4),
    ((("ask", {}), ("ask", {"token_budget": 64})), 2),
    ((("ask", {}), ("ask", {"video": "b.mp4"}), ("ask", {})), 3),
])  # fmt: skip
def test_jobs_in_a_row_share_a_look_where_no_result_could_tell(looker, jobs, looks):
    for cmd, settings in jobs:
        do(looker, cmd, **settings)
    assert len(Stand.opened) == looks


def test_a_file_that_changed_is_looked_at_again(looker, tmp_path):
    path = tmp_path / "a.mp4"
    for data in (b"1", b"22"):
        path.write_bytes(data)
        do(looker, "ask", str(path))
    assert len(Stand.opened) == 2


def test_a_shared_look_is_planned_for_each_job(looker):
    do(looker, "ask", questions=["who?", "what is it?"], max_tokens=5)
    do(looker, "ask", questions=["a much longer question?"], choices=["cat", "dog"])
    assert Stand.opened[0].calls == [
        ("prepare", (), {"question": "what is it?", "max_tokens": 5}),
        ("ask", ("who?",), {"choices": None, "max_tokens": 5}), ("ask", ("what is it?",), {"choices": None, "max_tokens": 5}),
        ("renew_plan", (), {}), ("prepare", (), {"question": "a much longer question?"}),
        ("ask", ("a much longer question?",), {"choices": ["cat", "dog"]}),
    ]  # fmt: skip


def test_find_gives_as_many_ranges_as_the_command(looker):
    assert len(do(looker, "find")[0]["found"][0]["ranges"]) == 20


def test_every_frame_is_every_frame_and_no_rate_is_no_rate(looker):
    do(looker, "scenes", fps="all")
    do(looker, "scenes")
    assert Stand.opened[0].options["fps"] is None and "fps" not in Stand.opened[1].options


def test_a_failed_job_leaves_no_look_behind(looker):
    do(looker, "ask")
    looker.forget()
    do(looker, "ask")
    assert len(Stand.opened) == 2


def test_weights_that_cannot_be_fetched_are_not_the_videos_fault(looker):
    with pytest.raises(DownloadError) as broken:
        do(looker, "scenes", "broken.mp4")
    assert not looker.lacks_model(broken.value)
    with pytest.raises(DownloadError) as weights:
        do(looker, "find", queries=["weights"])
    assert looker.lacks_model(weights.value) and not looker.lacks_model(InputError("no"))
