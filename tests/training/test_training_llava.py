"""LLaVA-format data is read as published: arrays and lines, both kinds of media, and everything that is wrong with it."""

import json
from fractions import Fraction

import numpy as np
import pytest
from fixtures import llava_data
from fixtures.llava_data import turns

from mambamia_cli.errors import UsageError
from mambamia_cli.training.llava import Reader, Rows, Unusable, conversation

ROW = {"id": "a", "image": "x.png", "conversations": turns("<image>\nWhat is it?", "a cat")}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return llava_data.write_data(tmp_path_factory.mktemp("llava"))


@pytest.mark.parametrize("form", ["array", "lines", "indented"])
def test_rows_of_any_form_with_letters_beyond_ascii(tmp_path, form):
    rows = [{"id": str(i), "conversations": turns(f"Wie heißt „{i}“? 猫", "\\\" ü" * i or "x")} for i in range(5)]
    text = {"array": json.dumps(rows, ensure_ascii=False), "indented": "\ufeff" + json.dumps(rows, indent=2, ensure_ascii=False),
            "lines": "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)}[form]  # fmt: skip
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    (tmp_path / "b.jsonl").write_text(json.dumps(ROW) + "\n")
    read = Rows([tmp_path / "a.json", tmp_path / "b.jsonl"])
    assert len(read) == 6
    assert [read[i].id for i in range(6)] == ["0", "1", "2", "3", "4", "a"]
    assert read[4].turns == ((rows[4]["conversations"][0]["value"], rows[4]["conversations"][1]["value"].strip()),)
    assert read[5].kind == "image" and read[5].media == ("x.png",) and read[5].turns == (("What is it?", "a cat"),)


def test_a_bad_line_is_one_row_lost_and_a_bad_array_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(ROW) + '\n{"id": \n' + json.dumps(ROW) + "\n")
    rows = Rows([tmp_path / "a.jsonl"])
    assert len(rows) == 3 and rows[2].id == "a"
    with pytest.raises(Unusable):
        rows[1]
    (tmp_path / "b.json").write_text("[" + json.dumps(ROW) + ', {"id": ')
    with pytest.raises(UsageError, match="after row 1"):
        Rows([tmp_path / "b.json"])
    (tmp_path / "c.json").write_text("[]")
    with pytest.raises(UsageError, match="no rows"):
        Rows([tmp_path / "c.json"])
    with pytest.raises(UsageError, match="cannot read"):
        Rows([tmp_path / "absent.json"])


@pytest.mark.parametrize("change", [
    {"conversations": turns("only a question")}, {"conversations": turns("q", "  ")}, {"conversations": "text"}, {"image": 3},
    {"conversations": [{"from": "gpt", "value": "a"}, {"from": "human", "value": "q"}]}, {"video": ["a.mp4", "b.mp4"], "image": None},
    {"conversations": [{"from": "human"}]}, {"conversations": []}])  # fmt: skip
def test_what_is_no_conversation_is_unusable(change):
    with pytest.raises(Unusable):
        conversation(ROW | change)


def test_system_turns_and_open_ends():
    said = [{"from": "system", "value": "Be brief."}, *turns("<video>\nq", "a", "and then?")]
    row = conversation({"video": "v.mp4", "conversations": said})
    assert (row.kind, row.system, row.turns) == ("video", "Be brief.", (("q", "a"),))
    assert conversation({"conversations": turns("q", "a")}).kind == "text"


def test_media_are_read_as_ask_reads_them(data):
    rows, reader = Rows([data]), Reader(data.parent / "media", (32, 40), Fraction(2), 6)
    red = reader.read(rows[0])
    assert red.frames.shape == (1, 32, 40, 3) and red.seconds == (0.0,)
    assert red.frames[0].mean((0, 1)) == pytest.approx([220, 30, 30], abs=6)
    green = reader.read(rows[2])
    assert green.seconds == (0.0, 0.5, 1.0, 1.5, 2.0, 2.5) and green.frames.dtype == np.uint8
    assert green.frames[..., 1].mean() > 1.5 * green.frames[..., 0].mean()
    assert len(reader.read(rows[3]).frames) == 6  # four seconds would be eight: thinned evenly
    assert reader.read(rows[3]).seconds[-1] > 3.2
    assert reader.read(rows[6]).frames.shape == (0, 32, 40, 3)


@pytest.mark.parametrize("row, reason", [(4, "missing"), (5, "broken"), (7, "unusable")])
def test_what_cannot_be_read_says_why(data, row, reason):
    with pytest.raises(Unusable) as caught:
        Reader(data.parent / "media", (32, 32), Fraction(1), 4).read(Rows([data])[row])
    assert caught.value.reason == reason


def test_a_picture_that_is_none_is_broken(tmp_path):
    (tmp_path / "x.png").write_text("<html>404</html>")
    with pytest.raises(Unusable) as caught:
        Reader(tmp_path, (32, 32), Fraction(1), 4).read(conversation(ROW))
    assert caught.value.reason == "broken"
