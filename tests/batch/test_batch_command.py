"""`mambamia batch` with real workers: the same records as the single commands, one load, every failure in its record."""

import io
import json
import os
import shutil
import sys

import pytest
from batch.conftest import records

VARYING = ("timing_s", "memory_mib")
SPOKEN = ("--quant", "fp32")
"""Else each process takes the weights that are quickest when it begins."""


@pytest.fixture
def batch(mambamia, tiny_model):
    """The command on the tiny model."""
    return lambda *argv: mambamia("batch", *argv, "-m", tiny_model)


@pytest.fixture
def stdin(monkeypatch):
    """stdin(text) gives the command's stdin."""
    return lambda text: monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def same(one: dict) -> dict:
    return {name: value for name, value in one.items() if name not in VARYING}


@pytest.fixture(scope="module")
def mixed(three_cuts, short_video):
    """Jobs of every kind: (job, the single command that does the same)."""
    cuts, short = str(three_cuts.path), str(short_video)
    return [
        ({"video": cuts, "cmd": "scenes", "threshold": 0.01, "level": "scene"}, ("scenes", cuts, "--threshold", "0.01", "--level", "scene")),
        ({"video": cuts, "cmd": "scenes", "threshold": 0.01}, ("scenes", cuts, "--threshold", "0.01")),
        ({"video": cuts, "cmd": "ask", "questions": ["what is it?", "who is it?"], "max_tokens": 6}, ("ask", cuts, "what is it?", "who is it?", "--max-tokens", "6", *SPOKEN)),
        ({"video": cuts, "cmd": "ask", "question": "what?", "choices": ["cat", "dog"], "id": "c"}, ("ask", cuts, "what?", "--choices", "cat,dog", *SPOKEN)),
        ({"video": cuts, "cmd": "scenes", "refine": False}, ("scenes", cuts, "--no-refine")),
        ({"video": short, "cmd": "summarize", "max_tokens": 6}, ("summarize", short, "--max-tokens", "6", *SPOKEN)),
        ({"video": cuts, "cmd": "scenes", "start": 2, "end": "5s", "fps": 5, "max_frames": 4},
         ("scenes", cuts, "-s", "2", "-e", "5", "--fps", "5", "--max-frames", "4")),
    ]  # fmt: skip


def test_records_equal_those_of_the_single_commands_and_weights_are_loaded_once(mambamia, tiny_model, mixed, jobs_file, tmp_path, monkeypatch):
    events = []
    from mambamia_cli.cli import batch_run

    tell = batch_run._Told.event
    monkeypatch.setattr(batch_run._Told, "event", lambda self, event: (events.append(event), tell(self, event)))
    path = tmp_path / "r.jsonl"
    command = ("batch", jobs_file(*(job for job, _ in mixed)), "-o", path, "-m", tiny_model, *SPOKEN)
    ran = mambamia(*command)
    warned = f"mambamia: warning: [7/7] {mixed[6][0]['video']}: --max-frames 4 lowered the rate"
    assert (ran.code, ran.out) == (0, "") and ran.err.splitlines()[-1] == "mambamia: 7 jobs: 7 done, 0 failed"
    assert ran.err.startswith(warned) and len(ran.err.splitlines()) == 2
    loads = [event["stage"] for event in events if event["event"] == "progress" and event["loading"]]
    assert len(loads) == len(set(loads)) >= 4, "encoder, compressor, projector and language model, each once"
    made = records(path)
    for (_, single), record in zip(mixed, made, strict=True):
        alone = mambamia(*single, "-j", "-m", tiny_model)
        assert [same(one) for one in record["records"]] == [same(json.loads(line)) for line in alone.out.splitlines()], single
    looks = [tuple(record["records"][0]["timing_s"][stage] for stage in ("compare", "encode", "compress")) for record in made]
    assert looks[0] == looks[1] != looks[2] == looks[3] == looks[4] != looks[6], "jobs in a row about a video share a look"
    assert [record["video"] for record in made] == [job["video"] for job, _ in mixed] and made[3]["id"] == "c"
    assert all(record["attempts"] == 1 and record["seconds"] > 0 for record in made)

    again = mambamia(*command, "-v")
    assert again.err == "mambamia: 7 jobs: 7 done (7 before), 0 failed\n" and records(path) == made
    monkeypatch.setattr(batch_run.Keeper, "do", lambda *_: pytest.fail("a job was done again"))
    assert mambamia("batch", jobs_file(mixed[0][0]), "-o", path, "-m", tiny_model).code == 0
    with pytest.raises(pytest.fail.Exception):
        mambamia("batch", jobs_file({**mixed[0][0], "threshold": 0.02}), "-o", path, "-m", tiny_model)


def test_every_failure_has_its_record_and_the_rest_are_done(batch, stdin, jobs_file, short_video, empty_file, text_named_mp4, audio_only, zero_frames, tmp_path):
    late = {"video": str(short_video), "cmd": "scenes", "start": 60}
    videos = [tmp_path / "none.mp4", tmp_path, empty_file, text_named_mp4, audio_only, zero_frames, "http://127.0.0.1:9/a.mp4"]
    jobs = [*({"video": str(video), "cmd": "scenes"} for video in videos), late, {"video": str(short_video), "cmd": "scenes"}]
    path, failed = tmp_path / "r.jsonl", tmp_path / "failed.jsonl"
    ran = batch(jobs_file(*jobs), "-o", path, "--failed", failed)
    made, lines = records(path), ran.err.splitlines()
    assert [(one.get("error") or {}).get("class") for one in made] == ["input"] * 6 + ["download", "usage", None]
    assert all(one["error"]["message"] and one["error"]["hint"] for one in made[:-1])
    assert ran.code == 1 and len(lines) == 9 and lines[-1] == "mambamia: 9 jobs: 1 done, 8 failed: 6 input, 1 download, 1 usage"
    assert lines[0] == f"mambamia: error: [1/9] {tmp_path / 'none.mp4'} does not exist; check the path"
    assert [json.loads(line) for line in failed.read_text().splitlines()] == [*jobs[:7], {**late, "start": "60"}]

    videos[0].symlink_to(short_video)  # mended
    again = batch(failed, "-o", path, "--failed", tmp_path / "still.jsonl", "-q")
    assert again.code == 1 and len(again.err.splitlines()) == 7
    mended = records(path)[9]
    assert (mended["video"], mended["status"], mended["records"][0]["video"]["source"]) == (str(videos[0]), "done", str(videos[0]))
    assert len((tmp_path / "still.jsonl").read_text().splitlines()) == 7


def test_a_list_of_paths_on_stdin(batch, stdin, short_video, numbered, tmp_path):
    shutil.copy(short_video, tmp_path / "a b.mp4")
    stdin(f"# found\n{tmp_path}/a b.mp4\n\n{numbered.path}\n")
    ran = batch("-", "--cmd", "scenes", "-q", "--failed", tmp_path / "failed")
    made = [json.loads(line) for line in ran.out.splitlines()]
    assert (ran.code, ran.err) == (0, "") and [one["status"] for one in made] == ["done", "done"]
    assert made[0]["video"] == f"{tmp_path}/a b.mp4" and made[0]["records"][0]["schema"] == "mambamia.scenes/1"
    assert (tmp_path / "failed").read_text() == ""
    assert batch(tmp_path / "failed", "--cmd", "scenes").code == 0, "nothing failed, so there is nothing to do"


def test_what_a_library_prints_and_a_module_beside_the_videos_do_no_harm(batch, jobs_file, short_video, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("""
import os, sys, threading, time
os.write(1, b"first words")
def shout():
    while "mambamia_cli.pipeline.index" not in sys.modules or "torch" not in sys.modules:
        time.sleep(0.005)
    while True:
        os.write(1, b'{"event": "done", "records": []}\\n')
        time.sleep(0.001)
threading.Thread(target=shout, daemon=True).start()
""")
    (tmp_path / "elsewhere").mkdir()
    for name in ("torch", "json"):
        (tmp_path / "elsewhere" / f"{name}.py").write_text("raise SystemExit('a module was imported from where the videos are')")
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))  # an empty part is the working directory
    ran = batch(jobs_file({"video": str(short_video), "cmd": "scenes"}))
    assert ran.code == 0 and len(json.loads(ran.out)["records"]) == 1, ran.err


class TestRefused:
    """Before anything runs, in one sentence, with nothing written."""

    @pytest.fixture
    def refused(self, batch, jobs_file, tmp_path, short_video, monkeypatch):
        monkeypatch.setattr("mambamia_cli.batch.keeper.Keeper._start", lambda self: pytest.fail("a worker was started"))

        def check(*argv, jobs=({"video": str(short_video), "cmd": "scenes"},), code=2):
            before = set(os.listdir(tmp_path)) | {"jobs.jsonl"}
            ran = batch(jobs_file(*jobs), *argv)
            assert (ran.code, ran.out, set(os.listdir(tmp_path))) == (code, "", before)
            return ran.one_sentence()

        return check

    def test_bad_lines(self, refused, tmp_path):
        good, bad = {"video": "a.mp4", "cmd": "scenes"}, {"video": "a.mp4", "cmd": "ask"}
        sentence = refused("-o", tmp_path / "r.jsonl", jobs=(good, bad, bad))
        assert "line 2 of" in sentence and "(and 1 more line is bad)" in sentence

    @pytest.mark.parametrize("argv, words", [
        (("--cmd", "dance"), "--cmd dance is not known"),
        (("--shard", "0/2"), "--shard 0/2 is no part"), (("--shard", "3/2"), "--shard 3/2 is no part"), (("--shard", "x"), "is no part"),
        (("--level", "act"), "--level 'act' is not one of"),
        (("--min-scene-len", "long"), "--min-scene-len 'long' is not a length"),
        (("--choices", "a"), "--choices 'a' is not a list of different choices"),
        (("-p", "who?"), "--question is given and no job takes it"), (("--query", "cat"), "--query is given and no job takes it"),
        (("-e", "0"), "--end 0 is not after the start"), (("--fps", "x"), "--fps x is not a frame rate"),
    ])  # fmt: skip
    def test_bad_options(self, refused, argv, words):
        assert words in refused(*argv)

    def test_places_that_are_read(self, refused, short_video, tmp_path):
        assert "is the list of jobs" in refused("-o", tmp_path / "jobs.jsonl")
        assert "is one of the videos" in refused("-o", short_video)
        assert "is the list of jobs" in refused("--failed", tmp_path / "jobs.jsonl")
        assert "name the same file" in refused("--failed", tmp_path / "r", "-o", tmp_path / "r")
        assert "its folder does not exist" in refused("-o", tmp_path / "none" / "r.jsonl")

    def test_no_list(self, mambamia, tmp_path):
        ran = mambamia("batch", tmp_path / "none.jsonl")
        assert ran.code == 2 and "none.jsonl cannot be read: no such file" in ran.one_sentence()


def test_a_model_that_is_not_there_ends_the_run_with_nothing_recorded(mambamia, jobs_file, short_video, tmp_path):
    ran = mambamia("batch", jobs_file({"video": str(short_video), "cmd": "scenes"}), "-o", tmp_path / "r.jsonl", "-m", "nonesuch")
    assert ran.code == 5 and "there is no model nonesuch" in ran.one_sentence() and not (tmp_path / "r.jsonl").exists()


def test_damaged_weights_end_the_run_with_nothing_recorded_as_failed(mambamia, jobs_file, short_video, tiny_model, tmp_path):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    (model / "compressor" / "model.safetensors").write_bytes(b"\xff" * 64)
    jobs = jobs_file({"video": str(tmp_path / "none.mp4"), "cmd": "scenes"}, *({"video": str(short_video), "cmd": "scenes", "start": n} for n in (0, 1)))
    ran = mambamia("batch", jobs, "-o", tmp_path / "r.jsonl", "-m", model)
    assert ran.code == 5 and "damaged" in ran.err and "3 jobs: 0 done, 1 failed: 1 input; 2 left undone" in ran.err
    assert [one["error"]["class"] for one in records(tmp_path / "r.jsonl")] == ["input"]
