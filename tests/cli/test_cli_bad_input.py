"""Bad input: one sentence with the remedy on stderr, the right exit code, nothing on stdout, nothing written."""

import os
import random
import shutil

import pytest

USAGE, INPUT, MODEL = 2, 3, 5


@pytest.fixture
def place(tmp_path):
    """An empty folder that a failing run must leave empty."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def refuse(mambamia, place, tiny_model):
    """refuse(code, argv...) runs a command that must fail so; returns its sentence."""

    def check(code: int, *argv: object) -> str:
        ran = mambamia(*argv, "-m", tiny_model, "-o", place / "result.json")
        sentence = ran.one_sentence()
        assert (ran.code, ran.out) == (code, ""), sentence
        assert os.listdir(place) == []
        assert ";" in sentence, "an error says what to do"
        return sentence

    return check


COMMANDS = (("scenes",), ("ask", "-p", "what is it?"), ("summarize",))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[0])
class TestVideos:
    def test_missing(self, refuse, command, tmp_path):
        assert "does not exist" in refuse(INPUT, *command, tmp_path / "none.mp4")

    def test_folder(self, refuse, command, tmp_path):
        assert "is a folder" in refuse(INPUT, *command, tmp_path)

    def test_text(self, refuse, command, text_named_mp4):
        assert "is not a video" in refuse(INPUT, *command, text_named_mp4)

    def test_empty(self, refuse, command, empty_file):
        assert "is empty" in refuse(INPUT, *command, empty_file)

    def test_audio_only(self, refuse, command, audio_only):
        refuse(INPUT, *command, audio_only)

    def test_zero_frames(self, refuse, command, zero_frames):
        refuse(INPUT, *command, zero_frames)


def test_a_broken_index_is_refused(refuse, three_cuts, tmp_path):
    """An mp4 cut short lost its index, which stands at its end: nothing can be decoded."""
    path = tmp_path / "cut.mp4"
    path.write_bytes(three_cuts.path.read_bytes()[:5000])
    refuse(INPUT, "scenes", path)


def test_what_a_truncated_video_still_holds_is_used(mambamia, truncated, tiny_model):
    ran = mambamia("scenes", truncated.path, "-m", tiny_model, "--json")
    assert ran.code == 0 and '"schema": "mambamia.scenes/1"' in ran.out


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits_give_an_answer_or_one_sentence(mambamia, three_cuts, tiny_model, tmp_path, seed):
    data, rng = bytearray(three_cuts.path.read_bytes()), random.Random(seed)
    for _ in range(40):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path = tmp_path / "flipped.mp4"
    path.write_bytes(data)
    ran = mambamia("scenes", path, "-m", tiny_model, "-q")
    assert ran.code in (0, INPUT)
    if ran.code:
        ran.one_sentence()


@pytest.mark.slow
def test_fuzzed_videos_always_end_with_a_code_of_ours(mambamia, three_cuts, truncated, tiny_model, tmp_path):
    rng = random.Random(2025)
    for turn in range(300):
        source = rng.choice([three_cuts.path, truncated.path])
        data = bytearray(source.read_bytes())
        if turn % 3 == 0:
            del data[rng.randrange(len(data)) :]
        for _ in range(rng.choice([1, 10, 100, 1000])):
            if data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path = tmp_path / f"fuzz{source.suffix}"
        path.write_bytes(data)
        ran = mambamia("scenes", path, "-m", tiny_model, "-q", "--timeout", 60)
        assert ran.code in (0, INPUT), (turn, ran)
        if ran.code:
            ran.one_sentence()


class TestModels:
    def refused(self, mambamia, place, video, *argv):
        ran = mambamia("scenes", video, "-o", place / "r.txt", *argv)
        assert (ran.code, ran.out, os.listdir(place)) == (MODEL, "", [])
        return ran.one_sentence()

    def test_unknown(self, mambamia, place, bikes):
        assert "there is no model nonesuch" in self.refused(mambamia, place, bikes, "-m", "nonesuch")

    def test_damaged_weights(self, mambamia, place, bikes, tiny_model, tmp_path):
        model = shutil.copytree(tiny_model, tmp_path / "model")
        (model / "compressor/model.safetensors").write_bytes(b"\xff" * 64)
        assert "damaged" in self.refused(mambamia, place, bikes, "-m", model)

    def test_truncated_weights(self, mambamia, place, bikes, tiny_model, tmp_path):
        model = shutil.copytree(tiny_model, tmp_path / "model")
        path = model / "compressor/model.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
        assert "damaged" in self.refused(mambamia, place, bikes, "-m", model)

    def test_wrong_shape(self, mambamia, place, bikes, tiny_model, tmp_path):
        model = shutil.copytree(tiny_model, tmp_path / "model")
        config = model / "compressor/config.json"
        config.write_text(config.read_text().replace('"state_size": 16', '"state_size": 32', 1))
        assert "shape" in (sentence := self.refused(mambamia, place, bikes, "-m", model)) or "expected" in sentence

    def test_wrong_shape_of_the_projector(self, mambamia, place, bikes, tiny_model, tmp_path):
        model = shutil.copytree(tiny_model, tmp_path / "model")
        config = model / "projector/config.json"
        config.write_text(config.read_text().replace('"hidden_width": 32', '"hidden_width": 33'))
        ran = mambamia("ask", bikes, "what?", "-m", model, "--max-frames", 2)
        assert (ran.code, ran.out) == (MODEL, "")
        ran.one_sentence()

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "other"}', '{"format": "mambamia/1", "name": "x"}'])
    def test_a_config_that_is_none_of_ours(self, mambamia, place, bikes, tiny_model, tmp_path, text):
        model = shutil.copytree(tiny_model, tmp_path / "model")
        (model / "config.json").write_text(text)
        self.refused(mambamia, place, bikes, "-m", model)

    def test_a_missing_part(self, mambamia, place, bikes, tiny_model, tmp_path):
        model = shutil.copytree(tiny_model, tmp_path / "model")
        (model / "projector/model.safetensors").unlink()
        assert "lacks projector/model.safetensors" in self.refused(mambamia, place, bikes, "-m", model)


class TestOutput:
    @pytest.mark.parametrize("flag", ["-o", "--plot"])
    def test_no_such_folder(self, mambamia, bikes, tiny_model, tmp_path, flag):
        ran = mambamia("scenes", bikes, "-m", tiny_model, flag, tmp_path / "none" / "a.png")
        assert (ran.code, ran.out) == (USAGE, "") and "folder does not exist" in ran.one_sentence()

    @pytest.mark.parametrize("command, flag", [("summarize", "-o"), ("scenes", "--plot"), ("scenes", "--embed-chapters")])
    def test_a_folder_in_its_place(self, mambamia, bikes, tiny_model, tmp_path, command, flag):
        (tmp_path / "a.png").mkdir()
        (tmp_path / "a.mkv").mkdir()
        ran = mambamia(command, bikes, "-m", tiny_model, flag, tmp_path / ("a.mkv" if "embed" in flag else "a.png"))
        assert (ran.code, ran.out) == (USAGE, "") and "is a folder" in ran.one_sentence()

    @pytest.mark.skipif(not os.path.exists("/proc/self"), reason="needs a folder that nobody may write to")
    def test_a_folder_that_cannot_be_written(self, mambamia, bikes, tiny_model):
        ran = mambamia("scenes", bikes, "-m", tiny_model, "-o", "/proc/self/a.json")
        assert (ran.code, ran.out) == (USAGE, "")
        assert "cannot write" in ran.one_sentence()

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
    def test_a_full_disk(self, mambamia, three_cuts, tiny_model):
        ran = mambamia("scenes", three_cuts.path, "-m", tiny_model, "-o", "/dev/full")
        assert (ran.code, ran.out) == (USAGE, "")
        assert "no space left" in ran.one_sentence() and os.path.exists("/dev/full")

    def test_the_video_itself(self, mambamia, three_cuts, tiny_model):
        before = three_cuts.path.read_bytes()
        ran = mambamia("scenes", three_cuts.path, "-m", tiny_model, "-o", three_cuts.path)
        assert ran.code == USAGE and "is one of the videos" in ran.one_sentence() and three_cuts.path.read_bytes() == before


@pytest.mark.parametrize("argv", [
    ("ask", "{video}"), ("ask", "{video}", ""), ("ask", "{video}", "  "), ("ask", "{video}", "what?", ""), ("ask", "{video}", "{video}"),
    ("ask", "{video}", "-p", ""), ("ask", "{video}", "what?", "--choices", "cat"), ("ask", "{video}", "what?", "--choices", "cat,cat"),
    ("ask", "{video}", "what?", "--choices", "cat,,dog"), ("ask", "{video}", "a?", "b?", "--json"), ("scenes", "{video}", "{video}", "--json"),
    ("scenes", "{video}", "--json", "-j"), ("scenes", "{video}", "-q", "-v"), ("scenes", "{video}", "--fps", "0"),
    ("scenes", "{video}", "--fps", "-1"), ("scenes", "{video}", "--fps", "fast"), ("scenes", "{video}", "--fps", "1/0"),
    ("scenes", "{video}", "--max-frames", "0"), ("scenes", "{video}", "--max-frames", "1.5"), ("scenes", "{video}", "-s", "soon"),
    ("scenes", "{video}", "-s", "5", "-e", "3"), ("scenes", "{video}", "-e", "0"), ("scenes", "{video}", "--threshold", "-1"),
    ("scenes", "{video}", "--threshold", "nan"), ("scenes", "{video}", "--min-scene-len", "short"), ("scenes", "{video}", "--plot", "a.jpg"),
    ("scenes", "{video}", "{video}", "--plot", "a.png"), ("scenes", "{video}", "--device", "tpu"), ("scenes", "{video}", "--device", "cpu:1"), ("scenes", "{video}", "--device", "xpu:"),
    ("ask", "{video}", "what?", "--quant", "int3"), ("ask", "{video}", "what?", "--max-tokens", "0"), ("scenes", "{video}", "--nonesuch"),
    ("scenes", ""), ("scenes",), ("nonesuch",), ("bench", "nonesuch"), ("scenes", "{video}", "--timeout", "0"),
], ids=lambda argv: " ".join(argv))  # fmt: skip
def test_bad_options_are_refused_before_anything_is_loaded(mambamia, bikes, tiny_model, monkeypatch, argv):
    """Exit 2 and one sentence; the models are never asked for."""

    def never(*_args, **_options):
        raise AssertionError("loaded something for a command that cannot run")

    monkeypatch.setattr("mambamia_cli.cli.inputs.engine", never)
    words = [word.format(video=bikes) for word in argv]
    ran = mambamia(*words, *(("-m", tiny_model) if words[0] in ("ask", "scenes") else ()))
    assert (ran.code, ran.out) == (USAGE, "")
    ran.one_sentence()


def test_a_start_after_the_end_of_the_video(mambamia, bikes, tiny_model):
    ran = mambamia("scenes", bikes, "-m", tiny_model, "-s", "1:00:00")
    assert (ran.code, ran.out) == (USAGE, "")
    ran.one_sentence()


def test_debug_shows_the_traceback(mambamia, tmp_path, tiny_model):
    ran = mambamia("scenes", tmp_path / "none.mp4", "-m", tiny_model, "--debug")
    assert ran.code == INPUT and "Traceback" in ran.err and ran.err.splitlines()[-1].startswith("mambamia: error: ")


def test_a_name_cannot_steer_the_terminal_or_break_the_line(mambamia, tiny_model):
    ran = mambamia("scenes", "no\x1b[2J\nsuch.mp4", "-m", tiny_model)
    assert ran.code == INPUT and "\x1b" not in ran.one_sentence()
