"""`mambamia eval`: rows are checked, answers judged, runs resumed; `find` finds and says when it does not."""

import json

import pytest

from mambamia_cli.errors import InputError
from mambamia_cli.pipeline.evaluate import Prediction, Row, judged, normal, read_rows, summary, wilson
from mambamia_cli.records import AnswerRecord, Evidence, SamplingRecord, VideoRecord


def record(answer, *ranges):
    shown = tuple(Evidence(a, b, "", 1.0) for a, b in ranges)
    return AnswerRecord(VideoRecord("v"), "q", answer, "stop", SamplingRecord("fps"), evidence=shown or None)


def test_wilson_against_known_values():
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-3)  # R: prop.test(8, 10, correct = FALSE)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-3)
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("one", "other"), [("A cat.", "cat"), ("dog and the Cat", "cat, dog"), ("YES", "yes")])
def test_texts_that_say_the_same(one, other):
    assert normal(one) == normal(other) and normal(one) != normal("bird")


def test_a_time_is_judged_by_the_first_range_alone():
    row = Row("1", "v", "when?", 10.0)
    assert judged(row, record("at 3 s", (9, 12.5), (0, 1))).right
    assert not judged(row, record("at 10 s", (0, 1), (9, 12))).right
    assert not judged(row, record("at 10 s")).right


def test_summary_counts_by_kind_and_over_all():
    made = [Prediction(str(i), "ab"[i % 2], "v", "q", "x", "x", i < 3) for i in range(4)]
    assert [(s["kind"], s["right"], s["count"]) for s in summary(made)] == [("a", 2, 2), ("b", 1, 2), ("all", 3, 4)]


@pytest.mark.parametrize(("text", "complaint"), [
    ("", "no rows"), ("{", "line 1"), ("[1]", "not an object"), ('{"id": 1}', "lacks 'video'"),
    ('{"id":1,"video":"v","question":"q","answer":"a","options":"x"}', "options"),
    ('{"id":1,"video":"v","question":"q","answer":"a"}\n' * 2, "repeats the id"),
])  # fmt: skip
def test_bad_rows_are_named(tmp_path, text, complaint):
    (tmp_path / "rows.jsonl").write_text(text)
    with pytest.raises(InputError, match=complaint):
        read_rows(tmp_path / "rows.jsonl")


def test_eval_goes_on_where_it_stopped_and_counts_failures(tmp_path, capsys, three_cuts):
    from mambamia_cli.cli.app import run

    rows = [{"id": f"r{i}", "video": str(three_cuts.path) if i else "missing.mp4", "question": "Which of these appears?", "kind": "appear",
             "options": ["cat", "dog"], "answer": "cat"} for i in range(3)]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "out.jsonl"
    assert run(["eval", str(tmp_path / "rows.jsonl"), "--predictions", str(out), "--json", "-q"]) == 0
    whole, first = json.loads(capsys.readouterr().out), out.read_text()
    assert whole[0]["count"] == 3 and whole[0]["errors"] == 1
    out.write_text(first[: len(first) - 20])  # the last line torn, as kill -9 leaves it
    assert run(["eval", str(tmp_path / "rows.jsonl"), "--predictions", str(out), "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out) == whole
    again = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(p["id"], p["predicted"]) for p in again] == [(p["id"], p["predicted"]) for p in map(json.loads, first.splitlines())]


def test_find_gives_ranges_or_says_that_there_are_none(capsys, three_cuts):
    from mambamia_cli.cli.app import run

    assert run(["find", str(three_cuts.path), "violin", "fire truck", "--json", "-q"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "mambamia.find/1" and [f["query"] for f in found["found"]] == ["violin", "fire truck"]
    for one in found["found"]:
        assert all(0 <= r["start"] < r["end"] for r in one["ranges"]) and 0 <= one["presence"] <= 1
    assert run(["find", str(three_cuts.path), " "]) == 2
