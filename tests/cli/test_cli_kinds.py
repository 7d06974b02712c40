"""The kinds of model through the Python API and the command line, on tiny random models in their real formats."""

import json
import math
from fractions import Fraction

import pytest
from fixtures import relatives
from fixtures.processes import cpu_seconds
from fixtures.sounds import chirp, write_with_sound
from fixtures.videos import write_video

from mambamia_cli import open_video
from mambamia_cli.errors import UsageError
from mambamia_cli.pipeline import Models
from mambamia_cli.video.audio import open_sound
from mambamia_cli.video.grab import grab

QUESTION = "What is heard?"


@pytest.fixture(scope="module")
def parts():
    return relatives.Parts()


@pytest.fixture(scope="module")
def relative(parts, tmp_path_factory):
    return relatives.write_relative(tmp_path_factory.mktemp("relative") / "model", parts)


@pytest.fixture(scope="module")
def talking(tmp_path_factory):
    """A video of 4.5 s with sound."""
    return write_with_sound(tmp_path_factory.mktemp("talking") / "a.mkv", chirp(4.5, 16000), 16000)


@pytest.fixture(scope="module")
def models(relative):
    return Models(str(relative), device="cpu", quant="fp32", threads=1)


def told(parts, folder, path, times, span=(0, None), count=20):
    """The reference's answer: frames and sound decoded here, everything else composed of transformers' classes."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    windows = list(open_sound(path, *span))
    video = relatives.woven(parts, relatives.seen(parts, grab(path, times)), relatives.heard(parts, windows) if windows else None)
    ids = relatives.answer(parts.language, video, QUESTION, count, tokenizer)
    return tokenizer.decode([i for i in ids if i != 257], skip_special_tokens=True)


def same(record, wanted):
    """Equal, or equal as far as the guard against loops let it go."""
    assert record.answer and (wanted.startswith(record.answer) if record.finish == "repeat" else record.answer == wanted.strip())


class TestRelative:
    def test_ask_equals_the_reference(self, models, parts, relative, talking):
        record = open_video(talking, models=models).ask(QUESTION, max_tokens=20)
        times = [Fraction(9, 2) * i / 5 for i in range(5)]
        same(record, told(parts, relative, talking, times))
        sampling = record.sampling
        assert (sampling.sampler, sampling.frames, sampling.kept, sampling.tokens_out) == ("uniform", 5, 5, 5 * 17)
        assert record.tool.model == str(relative) and record.tool.quant == "fp32" and record.range == (0.0, 4.5) and record.confidence is None

    def test_a_range_is_what_is_seen_and_heard(self, models, parts, relative, talking):
        record = open_video(talking, models=models, start=1, end=3.5).ask(QUESTION, max_tokens=20)
        times = [1 + Fraction(5, 2) * i / 3 for i in range(3)]
        same(record, told(parts, relative, talking, times, (1, Fraction(7, 2))))

    def test_without_audio_and_without_sound(self, models, parts, relative, talking, tmp_path):
        deaf = Models(str(relative), device="cpu", quant="fp32", hear=False)
        silent = write_video(tmp_path / "silent.mp4", textured=True).path
        for path, used in ((talking, deaf), (silent, models)):
            record = open_video(path, models=used).ask(QUESTION, max_tokens=20)
            tokenizer_folder, frames = relative, record.sampling.frames
            duration = Fraction(9, 2) if path == talking else Fraction(3)
            times = [duration * i / frames for i in range(frames)]
            assert frames == math.ceil(duration)
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
            video = relatives.woven(parts, relatives.seen(parts, grab(path, times)), None)
            ids = relatives.answer(parts.language, video, QUESTION, 20, tokenizer)
            same(record, tokenizer.decode([i for i in ids if i != 257], skip_special_tokens=True))

    def test_no_more_than_its_frames_and_it_says_so(self, models, tmp_path):
        path = write_with_sound(tmp_path / "long.mkv", chirp(100, 16000, of=100), 16000, seconds=100, fps=2)
        said = []
        record = open_video(path, models=models, warn=said.append).ask(QUESTION, max_tokens=4)
        assert record.sampling.frames == 32 and record.sampling.max_gap_s == pytest.approx(100 / 32)
        assert any("sees 32 frames" in text and "3.1 s" in text for text in said) and record.warnings
        assert open_video(path, models=models, max_frames=3).ask(QUESTION, max_tokens=4).sampling.frames == 3

    def test_several_questions_look_and_listen_once(self, models, talking, monkeypatch):
        calls = []
        watched = type(models.answerer)._watched
        monkeypatch.setattr(type(models.answerer), "_watched", lambda self, *a: calls.append(1) or watched(self, *a))
        records = open_video(talking, models=models, end=4).ask("what?", "who is there?", max_tokens=4)
        assert len(calls) == 1 and len(records) == 2

    def test_choices_are_scored_by_the_same_prompt(self, models, talking):
        record = open_video(talking, models=models).ask("which?", choices=["cat", "dog"], max_tokens=4)
        assert record.finish == "choice" and sum(share for _, share in record.choices) == pytest.approx(1, abs=1e-3)
        assert record.unsure is None, "shares of an uncalibrated model are no measure of how sure it is"

    def test_summarize_titles_scenes_by_their_own_frames_and_sound(self, models, talking, monkeypatch):
        seen = []
        prompt = type(models.answerer).prompt
        monkeypatch.setattr(type(models.answerer), "prompt", lambda self, i, kept, q, span: seen.append((list(kept), span)) or prompt(self, i, kept, q, span))
        video = open_video(talking, models=models)
        index = video.index(default_rate=Fraction(4))
        index.delta[:] = 0.1
        index.delta[8] = 3.0
        record = video.summarize(max_tokens=4, min_scene_len=0.5)
        assert record.summary and all(scene.title for scene in record.scenes)
        for (kept, span), scene in zip(seen, record.scenes, strict=False):
            assert span == (scene.start, scene.end) and all(span[0] <= index.seconds[i] < span[1] for i in kept)

    def test_scenes_use_the_embedded_compressor(self, models, talking):
        record = open_video(talking, models=models).scenes(refine=False)
        assert len(record.delta) == 18 and record.tool.model == models.name

    def test_its_senses_take_turns_where_the_plan_says_so(self, relative, talking, monkeypatch):
        from mambamia_cli.language.unimambamia import model as module
        from mambamia_cli.plan.estimate import Settings

        given, made = [], module.UniMambaMia
        monkeypatch.setattr(module, "UniMambaMia", lambda *a, **options: given.append(options["turns"]) or made(*a, **options))
        for together in (True, False):
            monkeypatch.setattr("mambamia_cli.pipeline.video.settle", lambda *_, together=together: Settings(together=together, prefill=512))
            used = Models(str(relative), device="cpu", quant="fp32")
            open_video(talking, models=used).ask(QUESTION, max_tokens=2)
            assert used.language.prefill == 512
        assert given == [False, True]

    def test_find_is_a_sentence(self, models, talking):
        with pytest.raises(UsageError, match="no lexicon .*use mambamia-tiny"):
            open_video(talking, models=models).find("guitar")

    def test_a_video_whose_container_tells_no_length(self, models, talking, tmp_path):
        from fixtures.videos import write_raw_h264

        raw = write_raw_h264(tmp_path / "a.h264", write_video(tmp_path / "a.mp4", fps=25).path)
        assert open_video(raw, models=models).ask(QUESTION, max_tokens=4).sampling.frames == 3


def test_the_command_line_answers_with_each_option(mambamia, relative, talking):
    ran = mambamia("ask", talking, QUESTION, "-m", relative, "--json", "--max-tokens", 8)
    record = json.loads(ran.out)
    assert ran.code == 0 and record["sampling"]["sampler"] == "uniform" and record["tool"]["quant"] == "fp32"
    deaf = json.loads(mambamia("ask", talking, QUESTION, "-m", relative, "--json", "--max-tokens", 8, "--no-audio").out)
    assert deaf["answer"] != record["answer"]
    packed = json.loads(mambamia("ask", talking, QUESTION, "-m", relative, "--json", "--max-tokens", 8, "--quant", "nf4").out)
    assert packed["tool"]["quant"] == "nf4"
    chosen = mambamia("ask", talking, "which?", "--choices", "cat,dog", "-m", relative)
    assert chosen.code == 0 and chosen.out.strip() in ("cat", "dog")


def test_the_command_line_refuses_in_one_sentence(mambamia, relative, talking, tmp_path):
    ran = mambamia("ask", talking, QUESTION, "-m", relative, "--quant", "int4")
    assert ran.code == 2 and "use --quant nf4" in ran.one_sentence()
    assert mambamia("find", talking, "guitar", "-m", relative).code == 2
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text((relative / "config.json").read_text())
    ran = mambamia("ask", talking, QUESTION, "-m", tmp_path / "m")
    assert ran.code == 5 and ran.out == ""
    ran.one_sentence()


def test_a_plan_reads_no_weights_and_no_torch(relative, talking):
    code = (
        "import sys; from mambamia_cli.cli.app import run; "
        f"code = run(['plan', {str(talking)!r}, '-m', {str(relative)!r}, '--device', 'cpu', '--json']); "
        "print(code, [m for m in ('torch', 'transformers', 'onnxruntime', 'huggingface_hub') if m in sys.modules])"
    )
    best, printed = cpu_seconds(code)
    assert printed.splitlines()[-1] == "0 []" and best < 2
    plan = json.loads(printed[: printed.rindex("}") + 1])
    # five frames in 4.5 s, 64 patches pooled to 16 and the one that ends a frame; 23 blocks of five features, spread over five frames
    assert plan["tokens"] | {"prompt": 0} == {"frames": 5, "patches": 5 * 64, "kept_frames": 5, "visual": 5 * 17, "sound": 25, "prompt": 0, "answer": 128}
    assert list(plan["stages"]) == ["answer"] and plan["quant"] == "fp32"
    stored = 2 * sum(path.stat().st_size for path in relative.glob("*.safetensors"))  # float16, held in float32
    held = sum(plan["parts_bytes"][part] for part in ("sight", "hearing", "language_model"))
    assert 0.7 * stored < held < stored  # headers, and the layers behind the one that is read


def test_what_a_plan_shows_and_limits_refuse(mambamia, relative, talking, monkeypatch):
    shown = mambamia("plan", talking, "-m", relative, "--device", "cuda", "--vram-limit", "8GiB")
    assert shown.code == 0 and "the model's own hearing" in shown.out and "tokens of sound" in shown.out and "anchors" not in shown.out
    assert "measures MambaMia models only" in shown.out
    deaf = json.loads(mambamia("plan", talking, "-m", relative, "--no-audio", "--json").out)
    assert deaf["tokens"]["sound"] == deaf["parts_bytes"]["hearing"] == 0
    assert json.loads(mambamia("plan", "400s", "-m", relative, "--json").out)["tokens"]["frames"] == 32
    monkeypatch.setattr("mambamia_cli.language.unimambamia.model.UniMambaMia", lambda *a, **k: pytest.fail("loaded"))
    ran = mambamia("ask", talking, QUESTION, "-m", relative, "--device", "cpu", "--ram-limit", "300MiB")
    assert ran.code == 6 and "--ram-limit 300MiB" in ran.one_sentence()


def test_an_unknown_kind_is_refused_before_anything_is_loaded(mambamia, talking, tmp_path, monkeypatch):
    monkeypatch.setattr("mambamia_cli.cli.inputs.engine", lambda *_: pytest.fail("loaded"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertForMaskedLM"]}))
    ran = mambamia("ask", talking, QUESTION, "-m", tmp_path)
    assert ran.code == 5 and "no model that answers questions on pictures" in ran.one_sentence()


