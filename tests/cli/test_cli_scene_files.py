"""`mambamia scenes -f ... -o ...` and --from: where the results of several videos and formats go, and what is refused."""

import json
import os
import subprocess
import sys

import pytest

from mambamia_cli.scenes.formats import FORMATS

USAGE, INPUT = 2, 3


@pytest.fixture
def scenes(mambamia, tiny_model):
    return lambda *argv: mambamia("scenes", *argv, "-m", tiny_model)


@pytest.fixture
def again(mambamia):
    """`scenes --from`, which needs no model."""
    return lambda *argv: mambamia("scenes", "--from", *argv)


@pytest.fixture(scope="module")
def record(three_cuts, tiny_model, tmp_path_factory):
    from mambamia_cli.pipeline import open_video
    from mambamia_cli.records import to_json

    path = tmp_path_factory.mktemp("record") / "three.json"
    path.write_text(to_json(open_video(three_cuts.path, model=str(tiny_model)).scenes(threshold=0.05), pretty=True), "utf-8")
    return path


def listing(folder):
    return sorted(os.path.relpath(os.path.join(where, name), folder) for where, _, names in os.walk(folder) for name in names)


def test_one_format_goes_to_stdout_and_every_format_can(again, record):
    for name in FORMATS:
        ran = again(record, "-f", name)
        assert ran.code == 0 and ran.out and "Traceback" not in ran.err
    assert again(record, "-f", "csv").out.startswith("Timecode List:,")
    assert again(record, "-f", "JSON").out == again(record, "--json").out == record.read_text() + "\n"
    assert again(record, "-f", "jsonl").out == again(record, "-j").out
    assert again(record, "-f", "ffmeta").out == again(record, "-f", "ffmetadata").out


def test_a_folder_gets_a_file_for_every_video_and_format(scenes, three_cuts, numbered, tmp_path):
    ran = scenes(three_cuts.path, numbered.path, "-f", "csv,vtt,json", "-o", f"{tmp_path}/new/folder/")
    assert (ran.code, ran.out) == (0, "")
    assert listing(tmp_path) == [f"new/folder/{stem}.{ext}" for stem in ("numbered", "three_cuts") for ext in ("csv", "json", "vtt")]
    assert json.loads((tmp_path / "new/folder/numbered.json").read_text())["video"]["title"] == "numbered.mp4"


def test_a_folder_that_is_there_and_a_pattern(again, record, tmp_path):
    assert again(record, "-f", "edl,ogm,youtube,ffmetadata,text", "-o", tmp_path, "-q").err == ""
    assert listing(tmp_path) == [f"three_cuts.{ext}" for ext in ("edl", "ffmetadata.txt", "ogm.txt", "txt", "youtube.txt")]
    assert again(record, "-f", "csv,vtt", "-o", tmp_path / "{format}-{stem}.x.{ext}").code == 0
    assert {"csv-three_cuts.x.csv", "vtt-three_cuts.x.vtt"} <= set(listing(tmp_path))
    assert again(record, "--json", "-o", tmp_path / "a{1}.json").code == 0 and (tmp_path / "a{1}.json").exists()


def test_all_extensions_differ_so_that_a_folder_never_collides():
    assert len({one.extension for one in FORMATS.values()}) == len(FORMATS)


@pytest.mark.parametrize(
    "argv, said",
    [
        (["-f", "csv,nope"], "--format nope is not known; use some of text, json,"),
        (["-f", ""], "--format '' is not known"),
        (["-f", "csv,vtt"], "makes 2 files of each video"),
        (["-f", "csv,vtt", "-o", "{tmp}/a.csv"], "makes 2 files of each video"),
        (["-f", "csv,vtt", "-o", "{tmp}/{stem}.out"], "two results would be written to"),
        (["-f", "csv", "-o", "{tmp}/{stm}.{ext}"], "{stm} in "),
        (["-f", "csv", "--json"], "--json and --format exclude each other; add json to the list"),
        (["-f", "csv", "-j"], "-j and --format exclude each other; add jsonl to the list"),
        (["-f", "csv", "-o", "{tmp}/none/{stem}.{ext}"], "folder does not exist"),
        (["--embed-chapters", "{tmp}/a.avi"], "has no ending that tells the container"),
        (["--embed-chapters", "{tmp}/none/a.mkv"], "folder does not exist"),
        (["--embed-chapters", "{video}"], "is one of the videos"),
        (["--embed-chapters", "{tmp}/a.mkv", "-o", "{tmp}/a.mkv"], "two results would be written to"),
        (["--split", "{video}"], "is not a folder"),
        (["--split", "{video}/x"], "is not a folder"),
    ],
)
def test_what_cannot_be_placed_is_refused_before_anything_is_decoded(scenes, three_cuts, tmp_path, argv, said):
    filled = [word.replace("{tmp}", str(tmp_path)).replace("{video}", str(three_cuts.path)) for word in argv]
    before = three_cuts.path.read_bytes()
    ran = scenes(three_cuts.path, *filled)
    assert (ran.code, ran.out) == (USAGE, "") and said in ran.one_sentence()
    assert listing(tmp_path) == [] and three_cuts.path.read_bytes() == before


def test_two_videos_of_one_name_and_two_in_one_file(scenes, three_cuts, tmp_path):
    (tmp_path / "b").mkdir()
    other = tmp_path / "b" / "three_cuts.mp4"
    other.symlink_to(three_cuts.path)
    for argv in (["-f", "csv", "-o", f"{tmp_path}/o/"], ["--split", f"{tmp_path}/o"], ["--embed-chapters", f"{tmp_path}/a.mkv"]):
        ran = scenes(three_cuts.path, other, *argv)
        assert ran.code == USAGE and "would be written to" in ran.one_sentence()
    ran = scenes(three_cuts.path, other, "-f", "csv")
    assert ran.code == USAGE and "--format csv holds one video" in ran.one_sentence()
    assert listing(tmp_path) == ["b/three_cuts.mp4"]


def test_a_pattern_cannot_write_over_a_video_by_another_name(scenes, three_cuts, tmp_path):
    (tmp_path / "three_cuts.csv").hardlink_to(three_cuts.path)
    ran = scenes(three_cuts.path, "-f", "csv", "-o", tmp_path)
    assert ran.code == USAGE and "is one of the videos" in ran.one_sentence()


def test_of_several_videos_the_failed_one_has_no_file(scenes, three_cuts, empty_file, tmp_path):
    ran = scenes(three_cuts.path, empty_file, "-f", "csv,json", "-o", f"{tmp_path}/")
    assert ran.code == 1 and "is empty" in ran.one_sentence() and listing(tmp_path) == ["three_cuts.csv", "three_cuts.json"]


# --from


def test_from_marks_anew_without_the_video_and_without_torch(record, tmp_path):
    data = json.loads(record.read_text())
    data["video"]["source"] = "/gone/film.mp4"
    moved = tmp_path / "moved.json"
    moved.write_text(json.dumps(data))
    code = (
        "import sys; from mambamia_cli.cli.app import run; "
        f"code = run(['scenes', '--from', {str(moved)!r}, '--threshold', '0.3', '--level', 'scene', '--min-scene-len', '1s', '-f', 'csv', "
        f"'--plot', {str(tmp_path / 'a.png')!r}]); "
        "print(code, [m for m in ('torch', 'av', 'onnxruntime', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []" and (tmp_path / "a.png").exists()


def test_from_gives_the_scenes_of_another_threshold(again, scenes, record, three_cuts):
    for argv in (["--threshold", "0.3"], ["--threshold", "1e9"], ["--threshold", "0.05", "--min-scene-len", "2.2"], ["--threshold", "0.05", "--level", "chapter"]):
        made = json.loads(again(record, "--json", *argv).out)
        assert made["scenes"] == json.loads(scenes(three_cuts.path, "--json", *argv).out)["scenes"]


def test_from_without_a_word_of_marking_leaves_the_record_as_it_is(again, record):
    assert json.loads(again(record, "--json").out) == json.loads(record.read_text())


def test_a_threshold_below_what_the_record_keeps_is_said(again, record):
    lowest = json.loads(record.read_text())["candidates_from"]
    assert again(record, "--threshold", lowest * 0.9).err.startswith("mambamia: warning: the record keeps markers down to a threshold of")
    assert again(record, "--threshold", lowest * 1.1).err == "" == again(record, "--threshold", lowest * 0.9, "-q").err


@pytest.mark.parametrize(
    "argv, said",
    [
        (["--fps", "2"], "--fps needs the video and --from does without"),
        (["--no-refine"], "--no-refine needs the video"),
        (["-m", "other"], "--model needs the video"),
        (["--start", "5"], "--start needs the video"),
        (["a.mp4", "b.mp4"], "--from takes one VIDEO at most"),
        (["-o", "{record}"], "-o {record} is the record"),
        (["-f", "csv", "--plot", "{record}.jpg"], "neither .png nor .svg"),
        (["--level", "act"], "--level act is not known"),
    ],
)
def test_from_refuses_what_needs_the_video(again, record, argv, said):
    before = record.read_text()
    ran = again(record, *[word.replace("{record}", str(record)) for word in argv])
    assert ran.code == USAGE and said.replace("{record}", str(record)) in ran.one_sentence() and record.read_text() == before


def test_from_a_damaged_record_or_without_its_video(again, record, tmp_path, text_named_mp4):
    assert again(text_named_mp4).code == INPUT
    data = json.loads(record.read_text())
    for change, said in (({"schema": "mambamia.scenes/9"}, "is a record of kind mambamia.scenes/9"), ({"candidates": 3}, "'candidates' is not the list")):
        (tmp_path / "a.json").write_text(json.dumps({**data, **change}))
        ran = again(tmp_path / "a.json")
        assert (ran.code, ran.out) == (INPUT, "") and said in ran.one_sentence()
    (tmp_path / "a.json").write_text(json.dumps({**data, "video": {**data["video"], "source": "gone.mp4"}}))
    ran = again(tmp_path / "a.json", "--embed-chapters", tmp_path / "o.mkv")
    assert ran.code == INPUT and "gone.mp4 does not exist" in ran.one_sentence() and listing(tmp_path) == ["a.json"]


def test_from_takes_the_place_of_a_video_that_was_moved(again, record, three_cuts, tmp_path):
    moved = tmp_path / "moved.mp4"
    moved.write_bytes(three_cuts.path.read_bytes())
    ran = again(record, moved, "-f", "csv", "-o", f"{tmp_path}/", "--embed-chapters", tmp_path / "{stem}-chapters.mkv")
    assert ran.code == 0 and listing(tmp_path) == ["moved-chapters.mkv", "moved.csv", "moved.mp4"]


def test_from_lines_with_a_failed_video_among_them(again, scenes, three_cuts, empty_file, numbered, tmp_path):
    path = tmp_path / "all.jsonl"
    scenes(three_cuts.path, empty_file, numbered.path, "-j", "-o", path)
    ran = again(path, "-f", "csv", "-o", f"{tmp_path}/o/")
    assert ran.code == 1 and "failed when the record was made" in ran.one_sentence()
    assert listing(tmp_path / "o") == ["numbered.csv", "three_cuts.csv"]


def test_from_stdin(record):
    done = subprocess.run([sys.executable, "-m", "mambamia_cli", "scenes", "--from", "-", "-f", "ogm"], input=record.read_text(),
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout.startswith("CHAPTER01=00:00:00.000\nCHAPTER01NAME=Scene 1\n")


def test_without_a_video_and_without_a_record(mambamia):
    ran = mambamia("scenes")
    assert ran.code == USAGE and "there is no VIDEO to mark" in ran.one_sentence()
