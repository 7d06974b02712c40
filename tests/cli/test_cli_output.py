"""Where results go: stdout alone, files whole or not at all, pipes that close, several inputs of which some fail."""

import json
import os
import subprocess
import sys

import pytest

from mambamia_cli.cli import output as output_module
from mambamia_cli.cli.output import Output, ReaderGone, whole_file
from mambamia_cli.errors import OutputError


@pytest.fixture
def scenes(mambamia, tiny_model):
    """The `scenes` command on the tiny model."""
    return lambda *argv: mambamia("scenes", *argv, "-m", tiny_model)


def test_text_on_stdout_and_nothing_on_stderr(scenes, three_cuts):
    ran = scenes(three_cuts.path)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[0].startswith("three_cuts.mp4") and "00:00:00.000" in ran.out and "\x1b" not in ran.out


def test_json_is_the_scenes_record(scenes, three_cuts):
    record = json.loads(scenes(three_cuts.path, "--json").out)
    assert record["schema"] == "mambamia.scenes/1" and next(iter(record)) == "schema"
    assert record["video"]["width"] == 128 and record["sampling"]["frames"] == len(record["delta"]) == 32
    assert [t for t, _ in record["delta"]] == pytest.approx([int(i * 6.25) / 25 for i in range(32)])
    assert record["scenes"][0]["n"] == 1 and record["scenes"][0]["start"] == 0 and record["scenes"][-1]["end"] == 8.0
    assert set(record["scenes"][0]) == {"n", "start", "end", "peak"}


def test_json_for_people_has_a_frame_of_the_curve_and_a_signature_a_line(scenes, three_cuts):
    ran = scenes(three_cuts.path, "--json", "--threshold", "0.01")
    lines, record = ran.out.splitlines(), json.loads(ran.out)
    assert f"    {json.dumps(record['delta'][0])}," in lines
    assert sum(line.startswith('      "signature": [') and line.endswith("]") for line in lines) == len(record["candidates"]) > 1
    assert json.loads(scenes(three_cuts.path, "-j", "--threshold", "0.01").out).keys() == record.keys()


def test_options_may_be_spelled_with_underscores(scenes, three_cuts):
    ran = scenes(three_cuts.path, "--max_frames", "4", "--json", "-q")
    assert ran.code == 0 and json.loads(ran.out)["sampling"]["frames"] == 4


def test_the_same_command_gives_the_same_numbers(scenes, three_cuts):
    first, second = (json.loads(scenes(three_cuts.path, "--json").out) for _ in range(2))
    assert first["delta"] == second["delta"] and first["scenes"] == second["scenes"]


def test_a_low_threshold_marks_more_than_a_high_one(scenes, three_cuts):
    low, high = (json.loads(scenes(three_cuts.path, "--json", "--threshold", x).out) for x in ("0.01", "1e9"))
    assert len(low["scenes"]) > 1 and len(high["scenes"]) == 1 and high["threshold"] == 1e9


def test_start_and_end_keep_the_times_of_the_video(scenes, three_cuts):
    record = json.loads(scenes(three_cuts.path, "--json", "-s", "0:02", "-e", "5s").out)
    assert record["range"] == [2.0, 5.0]
    assert [t for t, _ in record["delta"]] == pytest.approx([2 + int(i * 6.25) / 25 for i in range(12)])


def test_a_capped_sampling_is_said_in_the_record_and_on_stderr_and_q_silences_it(scenes, three_cuts):
    ran = scenes(three_cuts.path, "--json", "--max-frames", "4")
    record = json.loads(ran.out)
    assert record["sampling"]["capped"] is True and record["sampling"]["frames"] == 4 and len(record["warnings"]) == 1
    assert ran.err.startswith("mambamia: warning: --max-frames 4 lowered the rate") and len(ran.err.splitlines()) == 1
    assert scenes(three_cuts.path, "--json", "--max-frames", "4", "-q").err == ""


def test_several_videos_the_failed_one_is_reported_and_the_rest_are_done(scenes, three_cuts, numbered, empty_file):
    ran = scenes(three_cuts.path, empty_file, numbered.path)
    assert ran.code == 1
    assert "three_cuts.mp4" in ran.out and "numbered.mp4" in ran.out
    assert "is empty" in ran.one_sentence()


def test_json_lines_hold_a_record_for_the_failed_one_too(scenes, three_cuts, empty_file, tmp_path):
    ran = scenes(three_cuts.path, empty_file, tmp_path / "none.mp4", "-j")
    first, second, third = map(json.loads, ran.out.splitlines())
    assert ran.code == 1 and first["schema"] == "mambamia.scenes/1"
    assert second["schema"] == third["schema"] == "mambamia.error/1"
    assert (second["source"], second["error"]["class"]) == (str(empty_file), "input") and second["error"]["hint"]
    assert len(ran.err.splitlines()) == 2


def test_one_failed_video_alone_gives_its_own_code_and_its_record(scenes, empty_file, text_named_mp4):
    ran = scenes(text_named_mp4, "-j")
    assert ran.code == 3 and json.loads(ran.out)["error"]["class"] == "input"
    assert scenes(empty_file, empty_file).code == 1


def test_a_file_is_written_whole_and_nothing_beside_it(scenes, three_cuts, tmp_path):
    target = tmp_path / "a.json"
    target.write_text("old")
    ran = scenes(three_cuts.path, "--json", "-o", target)
    assert (ran.code, ran.out, os.listdir(tmp_path)) == (0, "", ["a.json"])
    assert json.loads(target.read_text())["schema"] == "mambamia.scenes/1"


def test_a_failed_run_leaves_the_old_file_alone(scenes, empty_file, tmp_path):
    target = tmp_path / "a.json"
    target.write_text("old")
    assert scenes(empty_file, "-o", target).code == 3
    assert os.listdir(tmp_path) == ["a.json"] and target.read_text() == "old"


@pytest.mark.parametrize("suffix, magic", [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_plot(scenes, three_cuts, tmp_path, suffix, magic):
    assert scenes(three_cuts.path, "--plot", tmp_path / f"a.{suffix}").code == 0
    assert os.listdir(tmp_path) == [f"a.{suffix}"] and (tmp_path / f"a.{suffix}").read_bytes().startswith(magic)


def test_a_heartbeat_without_a_terminal_only_with_v(scenes, three_cuts, monkeypatch):
    monkeypatch.setattr("mambamia_cli.cli.console.HEARTBEAT_SECONDS", 0)
    assert scenes(three_cuts.path).err == ""
    assert "three_cuts.mp4: watching" in scenes(three_cuts.path, "-v").err


def test_a_timeout_ends_the_video_with_124(scenes, bikes):
    ran = scenes(bikes, "--timeout", "0.01")
    assert (ran.code, ran.out) == (124, "") and "took longer than 0.01 s" in ran.one_sentence()


def test_a_link_stays_a_link_and_its_target_is_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link.txt").symlink_to(tmp_path / "real" / "a.txt")
    with Output(str(tmp_path / "link.txt")) as output:
        output.write("x")
        output.finish_record()
    assert (tmp_path / "link.txt").is_symlink() and (tmp_path / "real" / "a.txt").read_text() == "x"


def test_finished_records_are_kept_and_a_half_written_one_is_cut_off(tmp_path):
    with pytest.raises(KeyboardInterrupt), Output(str(tmp_path / "a.jsonl")) as output:
        output.write("one\n")
        output.finish_record()
        output.write("tw")
        raise KeyboardInterrupt
    assert (tmp_path / "a.jsonl").read_text() == "one\n" and os.listdir(tmp_path) == ["a.jsonl"]


def test_nothing_finished_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), Output(str(tmp_path / "a.json")) as output:
        output.write("half")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("opens", [lambda path: Output(str(path)), whole_file])
def test_an_interrupt_while_the_file_is_being_made_leaves_nothing(tmp_path, monkeypatch, opens):
    """A signal that comes in the system call that makes the file is raised when it returns, before the file has a name in Python."""
    seen = []

    def made_and_interrupted(path, *arguments, **options):
        file = open(path, *arguments, **options)  # noqa: SIM115  (its caller closes it)
        if str(path).endswith(".part"):
            seen.append(os.path.exists(path))
            raise KeyboardInterrupt
        return file

    monkeypatch.setattr(output_module, "open", made_and_interrupted, raising=False)
    with pytest.raises(KeyboardInterrupt), opens(tmp_path / "a.json"):
        pass
    assert seen == [True] and os.listdir(tmp_path) == []


def test_a_device_is_written_in_place_and_stays_a_device(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True)
    with Output(str(pipe)) as output:
        output.write("through\n")
        output.finish_record()
    assert reader.communicate(timeout=10)[0] == "through\n" and pipe.is_fifo()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_an_error_of_ours():
    with pytest.raises(OutputError, match="no space left"), Output("/dev/full") as output:
        output.write("x" * 100)


def test_a_name_that_is_not_text_is_still_written(tmp_path):
    with Output(str(tmp_path / "a.json")) as output:
        output.write('{"source": "a\udcff.mp4"}\n')
        output.finish_record()
    assert json.loads((tmp_path / "a.json").read_bytes())["source"] == "a\udcff.mp4"


def test_a_closed_pipe_is_told_apart():
    code = "import sys; from mambamia_cli.cli.output import Output, ReaderGone\n"
    code += "try:\n  [Output(None).write('x' * 65536) for _ in range(9)]\nexcept ReaderGone: sys.stderr.write('gone'); sys.stderr.flush(); import os; os._exit(0)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == "gone" and issubclass(ReaderGone, Exception)
    process.wait()
