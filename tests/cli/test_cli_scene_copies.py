"""--embed-chapters and --split on the command line: what they write, what they say, and that nothing half-written is left."""

import csv
import os
import resource
import signal
import subprocess
import time
from fractions import Fraction

import av
import pytest
from fixtures import videos
from fixtures.command import command

from mambamia_cli.cli.output import whole_file
from mambamia_cli.errors import OutputError
from mambamia_cli.records import SamplingRecord, Scene, ScenesRecord, VideoRecord, to_json
from mambamia_cli.video.probe import probe


def write_record(path, video, *cuts, length):
    """A record of scenes at these cuts, as `scenes --json` would have written it."""
    edges = [0.0, *cuts, length]
    scenes = tuple(Scene(n + 1, edges[n], edges[n + 1], float(n > 0)) for n in range(len(edges) - 1))
    path.write_text(to_json(ScenesRecord(VideoRecord(str(video), video.name, float(length), "25/1"), SamplingRecord("fps"), scenes, (), (0.0, length))))
    return path


@pytest.fixture(scope="module")
def long_one(made):
    """Forty seconds at 25 a second with one keyframe: whatever is cut from its middle must be encoded again."""
    options = {"x264-params": "scenecut=0", "preset": "ultrafast"}
    return videos.write_video(made / "long one.mp4", ((videos.RED, 40),), size=(120, 160), gop=5000, textured=True, options=options, audio=True)


@pytest.fixture
def record(tmp_path, long_one):
    return write_record(tmp_path / "record.json", long_one.path, 1.0, 30.0, length=40.0)


def test_a_copy_with_chapters_and_pieces(mambamia, tiny_model, three_cuts, tmp_path):
    ran = mambamia("scenes", three_cuts.path, "-m", tiny_model, "--threshold", "0.05", "-f", "csv",
                   "--embed-chapters", tmp_path / "{stem}-chapters.mkv", "--split", tmp_path / "pieces")  # fmt: skip
    assert ran.code == 0
    rows = list(csv.DictReader(ran.out.splitlines()[1:]))
    with av.open(str(tmp_path / "three_cuts-chapters.mkv")) as copy:
        starts = [float(c["start"] * c["time_base"]) for c in copy.chapters()]
        assert starts == pytest.approx([float(row["Start Time (seconds)"]) for row in rows], abs=0.001)
        assert [c["metadata"]["title"] for c in copy.chapters()] == [f"Scene {n}" for n in range(1, len(rows) + 1)]
    listed = list(csv.DictReader((tmp_path / "pieces" / "three_cuts-pieces.csv").read_text().splitlines()))
    assert sorted(os.listdir(tmp_path / "pieces")) == sorted([*(row["file"] for row in listed), "three_cuts-pieces.csv"])
    assert listed[0]["file"] == "three_cuts-001.mp4" and len(listed) == len(rows) and {row["made"] for row in listed} <= {"copied", "encoded"}
    assert ran.err.startswith(f"mambamia: three_cuts: {len(rows)} pieces; ") and len(ran.err.splitlines()) == 1
    assert sum(probe(tmp_path / "pieces" / row["file"]).duration for row in listed) == pytest.approx(8, abs=0.01)


def test_stderr_and_the_list_say_which_piece_was_copied_and_why_another_was_not(mambamia, record, tmp_path):
    ran = mambamia("scenes", "--from", record, "--split", tmp_path / "p", "-f", "csv", "-o", tmp_path / "a.csv")
    assert ran.code == 0 and ran.out == ""
    listed = tmp_path / "p" / "long one-pieces.csv"
    assert ran.err == f"mambamia: long one: 3 pieces; copied: 1; encoded again: 2-3 (its first frame is no keyframe); listed in {listed}\n"
    assert [row["made"] for row in csv.DictReader(listed.read_text().splitlines())] == ["copied", "encoded", "encoded"]
    assert [probe(tmp_path / "p" / f"long one-00{n}.mp4").duration for n in (1, 2, 3)] == pytest.approx([1, 29, 10], abs=0.002)
    assert mambamia("scenes", "--from", record, "--split", tmp_path / "p", "-q", "-f", "csv").err == ""


def test_a_piece_is_never_written_over_the_video(mambamia, three_cuts, tmp_path):
    video = tmp_path / "a-001.mp4"
    video.write_bytes(three_cuts.path.read_bytes())
    (tmp_path / "a.mp4").symlink_to(video)
    ran = mambamia("scenes", "--from", write_record(tmp_path / "r.json", tmp_path / "a.mp4", 2.0, length=8.0), "--split", tmp_path)
    assert ran.code == 2 and "a-001.mp4 is one of the videos" in ran.err and video.read_bytes() == three_cuts.path.read_bytes()


@pytest.mark.parametrize("argv", [["--split", "out"], ["--embed-chapters", "out/a.mkv"], ["--embed-chapters", "out/a.mp4"]])
def test_a_full_disk_leaves_nothing_half_written(record, tmp_path, argv):
    (tmp_path / "out").mkdir()

    def narrow():  # no file may grow past so many bytes: write() then fails as on a full disk, with another number
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))

    done = subprocess.run(command("scenes", "--from", record, "-f", "youtube", *argv), cwd=tmp_path, capture_output=True, text=True,
                          check=False, preexec_fn=narrow)  # fmt: skip
    assert done.returncode == 2 and "cannot write out/" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_whole_pieces_only(spawn, record, tmp_path, number, code):
    folder = tmp_path / "out"
    process = spawn("scenes", "--from", record, "--split", folder)
    while process.poll() is None and not list(folder.glob(".long one-002*")):  # the second piece takes a while
        time.sleep(0.002)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == code and err == "mambamia: error: interrupted\n"
    assert os.listdir(folder) == ["long one-001.mp4"] and probe(folder / "long one-001.mp4").duration == 1


def test_a_whole_file_appears_at_the_end_and_keeps_the_old_one_when_it_fails(tmp_path):
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    for error in (ValueError, KeyboardInterrupt, OSError):
        with pytest.raises(error), whole_file(target) as file:
            file.write(b"half")
            assert target.read_bytes() == b"old"
            raise error
    assert (target.read_bytes(), os.listdir(tmp_path)) == (b"old", ["a.bin"])
    with whole_file(target) as file:
        file.write(b"new")
    assert (target.read_bytes(), os.listdir(tmp_path)) == (b"new", ["a.bin"])
    with pytest.raises(OutputError, match="is not a regular file"), whole_file(tmp_path / "/dev/null"):
        pass


def test_a_write_that_failed_is_not_forgotten_when_the_writer_forgets_it(tmp_path):
    with pytest.raises(OutputError, match="cannot write"), whole_file(tmp_path / "a.bin") as file:
        file.close()
        try:
            file.write(b"x")
        except ValueError:
            file.problem = OSError(28, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_frames_are_counted_from_the_first_one_and_chapters_from_the_file(mambamia, late_start, tiny_model, tmp_path):
    made = mambamia("scenes", late_start.path, "-m", tiny_model, "--threshold", "0.05", "-f", "csv,ogm,json", "-o", f"{tmp_path}/")
    assert made.code == 0
    ogm, sheet = (tmp_path / "late.ogm.txt").read_text().splitlines(), (tmp_path / "late.csv").read_text().splitlines()
    assert ogm[0] == "CHAPTER01=00:00:03.600" and sheet[2].startswith("1,1,00:00:00.000,")
    assert Fraction(str(probe(late_start.path).offset)) == Fraction(18, 5)
