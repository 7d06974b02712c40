"""`mambamia eval`: rows are checked, answers judged, runs resumed; `find` finds and says when it does not."""

import errno
import json
from dataclasses import asdict
from pathlib import Path

import pytest

from mambamia_cli.cli.evaluate import _resumed
from mambamia_cli.errors import DownloadError, InputError, ModelError, OutputError
from mambamia_cli.pipeline.evaluate import Prediction, Row, evaluate, judged, normal, read_rows, summary, table, wilson
from mambamia_cli.records import AnswerRecord, Evidence, FindRecord, SamplingRecord, Sighting, VideoRecord


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
    assert "ece" not in summary(made)[0] and "sure" not in table(summary(made))


def test_summary_says_how_far_confidence_can_be_trusted():
    def made(confidence, right, unsure=False):
        return Prediction(f"{confidence}{right}", "a", "v", "q", "x", "x", right, confidence, unsure=unsure)

    # Two bins: 0.92 and 0.96 with one right of two, |0.94 - 0.5| over 2 of 4; 0.3 and 0.3 with none right, 0.3 over 2 of 4.
    lines = summary([made(0.92, True), made(0.96, False), made(0.3, False, True), made(0.3, False, True)])
    assert lines[0]["ece"] == pytest.approx((0.44 * 2 + 0.3 * 2) / 4)
    assert (lines[0]["told"], lines[0]["told_right"], lines[0]["told_accuracy"]) == (2, 1, 0.5)
    assert "50.0% of 2" in table(lines) and "0.370" in table(lines)
    assert summary([made(0.3, True)])[0]["ece"] == pytest.approx(0.7)  # too modest is as wrong as too sure
    assert summary([made(1.0, True)])[0]["ece"] == 0 and summary([made(0.1, False, True)])[0]["told_accuracy"] is None


def test_summary_says_what_was_taken_for_what():
    def made(answer, predicted, right=False, error=None, kind="a"):
        return Prediction(f"{answer}{predicted}", kind, "v", "q", answer, predicted, right, error=error)

    lines = summary([made("mouse", "cow"), made("mouse", "cow"), made("boat", "ghost", kind="b"), made(3.5, None), made(4.0, 9.0), made("cat", "cat", True),
                     made("dog", None, error="gone")])
    assert lines[1]["confused"] == [{"answer": "boat", "predicted": "ghost", "count": 1}]
    assert lines[-1]["confused"][0] == {"answer": "mouse", "predicted": "cow", "count": 2} and len(lines[-1]["confused"]) == 4
    shown = table(lines)
    assert "mouse -> cow (2 times)" in shown and "a time -> nothing" in shown and "a time -> a time" in shown and "dog" not in shown
    assert "Wrong" not in table(summary([made("cat", "cat", True)]))


class Failing:
    """Stands in for Video: every question fails in one way."""

    def __init__(self, error):
        self.error = error

    def ask(self, *_, **__):
        raise self.error


def test_a_failed_question_is_counted_and_a_failed_model_ends_all():
    rows = [Row(str(i), "v", "q", "a") for i in range(3)]
    assert [p.error for p in evaluate(rows, Path(), lambda path: Failing(DownloadError("gone")))] == ["gone"] * 3
    with pytest.raises(ModelError):
        list(evaluate(rows, Path(), lambda path: Failing(ModelError("damaged"))))

    def unopened(path):
        raise ModelError("damaged")

    with pytest.raises(ModelError):
        list(evaluate(rows, Path(), unopened))


@pytest.mark.parametrize("cut", [b"", b'{"id": "r1", "ki', '{"id": "r1", "answer": "\u00e9'.encode()[:-1]])
def test_what_a_crash_left_is_kept_but_for_a_torn_line(tmp_path, cut):
    line = json.dumps(asdict(Prediction("r0", "a", "v", "q", "x", "x", True))).encode()
    path = tmp_path / "out.jsonl"
    path.write_bytes(line + (b"\n" + cut if cut else b""))  # without a cut, only the newline is missing
    assert list(_resumed(path, [Row("r0", "v", "q", "x"), Row("r1", "v", "q", "x")], {})) == ["r0"]
    assert path.read_bytes() == line + b"\n" and list(tmp_path.iterdir()) == [path]


def test_the_file_of_predictions_is_replaced_whole_or_stays(tmp_path, monkeypatch):
    torn = json.dumps(asdict(Prediction("r0", "a", "v", "q", "x", "x", True))) + "\n{"
    path = tmp_path / "out.jsonl"
    path.write_text(torn)

    def full(*_):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OutputError, match="no space left"):
        _resumed(path, [Row("r0", "v", "q", "x")], {})
    assert path.read_text() == torn and list(tmp_path.iterdir()) == [path]


def test_a_file_that_holds_something_else_is_refused(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("notes\n")
    with pytest.raises(InputError, match="holds no predictions"):
        _resumed(path, [Row("r0", "v", "q", "x")], {})
    assert path.read_text() == "notes\n"


@pytest.mark.parametrize("row", [Row("r0", "w", "q", "x"), Row("r0", "v", "other", "x"), Row("r0", "v", "q", "y")])
def test_predictions_of_other_questions_are_not_taken_for_these(tmp_path, row):
    path = tmp_path / "out.jsonl"
    path.write_text(json.dumps(asdict(Prediction("r0", "a", "v", "q", "x", "x", True))) + "\n")
    with pytest.raises(InputError, match="answers another question as 'r0'"):
        _resumed(path, [row], {})
    assert _resumed(path, [Row("r1", "v", "q", "x")], {}) == {}  # of rows that are not asked for nothing is held against the file


@pytest.mark.parametrize(("text", "complaint"), [
    ('{"id":1,"video":"v","question":"q","answer":"c","options":["a","b"]}', "'c', that is none of its options"),
    ("", "no rows"), ("{", "line 1"), ("[1]", "not an object"), ('{"id": 1}', "lacks 'video'"),
    ('{"id":1,"video":"v","question":"q","answer":"a","options":"x"}', "options"),
    ('{"id":1,"video":"v","question":"q","answer":"a"}\n' * 2, "repeats the id"),
])  # fmt: skip
def test_bad_rows_are_named(tmp_path, text, complaint):
    (tmp_path / "rows.jsonl").write_text(text)
    with pytest.raises(InputError, match=complaint):
        read_rows(tmp_path / "rows.jsonl")


def test_a_number_is_one_of_the_options_where_there_are_some(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"id":1,"video":"v","question":"how many?","answer":3,"options":["2","3"]}')
    (row,) = read_rows(tmp_path / "rows.jsonl")
    assert judged(row, record("3")).right and not judged(row, record("2")).right
    with pytest.raises(InputError, match="cannot read .*: no such file or directory; check the path"):
        read_rows(tmp_path / "gone.jsonl")


def test_eval_goes_on_where_it_stopped_and_counts_failures(tmp_path, capsys, three_cuts):
    from mambamia_cli.cli.app import run

    rows = [{"id": f"r{i}", "video": str(three_cuts.path) if i else "missing.mp4", "question": "Which of these appears?", "kind": "appear",
             "options": ["cat", "dog"], "answer": "cat"} for i in range(3)]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "out.jsonl"
    assert run(["eval", str(tmp_path / "rows.jsonl"), "--predictions", str(out), "--json", "-q"]) == 1  # a video is missing
    whole, first = json.loads(capsys.readouterr().out), out.read_text()
    assert whole[0]["count"] == 3 and whole[0]["errors"] == 1
    out.write_text(first[: len(first) - 20])  # the last line torn, as kill -9 leaves it
    assert run(["eval", str(tmp_path / "rows.jsonl"), "--predictions", str(out), "--json", "-q"]) == 1
    resumed = json.loads(capsys.readouterr().out)
    # A prompt whose beginning is in the cache already is scored a little otherwise, so its confidence is not the same to the last digit.
    assert resumed[0].pop("ece") == pytest.approx(whole[0].pop("ece"), abs=0.05) and resumed == whole
    again = [json.loads(line) for line in out.read_text().splitlines()]
    assert [p["id"] for p in again] == ["r1", "r0", "r2"]  # what failed was asked again
    assert {p["id"]: p["predicted"] for p in again} == {p["id"]: p["predicted"] for p in map(json.loads, first.splitlines())}
    for flags in (["--answer-by", "language"], ["--selection", "uniform"], ["--quant", "fp32"], ["--fps", "2"]):
        assert run(["eval", str(tmp_path / "rows.jsonl"), "--predictions", str(out), "-q", *flags]) == 3
        assert f"made with another {flags[0]}" in capsys.readouterr().err and len(out.read_text().splitlines()) == 3


def test_find_gives_ranges_or_says_that_there_are_none(capsys, three_cuts):
    from mambamia_cli.cli.app import run

    assert run(["find", str(three_cuts.path), "violin", "fire truck", "--json", "-q"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "mambamia.find/1" and [f["query"] for f in found["found"]] == ["violin", "fire truck"]
    for one in found["found"]:
        assert all(0 <= r["start"] < r["end"] for r in one["ranges"]) and 0 <= one["presence"] <= 1
    assert run(["find", str(three_cuts.path), " "]) == 2


def ranged(*counts):
    """A FindRecord with so many ranges of each thing."""
    found = tuple(Sighting(f"thing {i}", 0.9, tuple(Evidence(k, k + 1, f"00:00:0{k}.000", 0.9 - k / 10) for k in range(count)))
                  for i, count in enumerate(counts))  # fmt: skip
    return FindRecord(VideoRecord("v"), found, SamplingRecord("fps"))


@pytest.mark.parametrize(("counts", "status"), [((3, 0), 0), ((0, 0), 1), ((0, 1), 0)])
def test_find_gives_the_best_ranges_and_an_exit_status_as_grep_does(capsys, monkeypatch, three_cuts, tiny_model, counts, status):
    from mambamia_cli.cli.app import run
    from mambamia_cli.pipeline import Video

    monkeypatch.setattr(Video, "find", lambda self, *queries: ranged(*counts))
    asked = ["find", str(three_cuts.path), "one", "two", "-m", str(tiny_model)]
    assert run(asked) == 0
    assert capsys.readouterr().out.count(" to ") == sum(counts)
    assert run([*asked, "-n", "2", "--exit-status", "--json"]) == status
    found = json.loads(capsys.readouterr().out)["found"]
    assert [[r["start"] for r in one["ranges"]] for one in found] == [list(range(min(2, count))) for count in counts]
    assert run([*asked, "-n", "0"]) == 2
