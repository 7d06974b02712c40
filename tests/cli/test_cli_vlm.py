"""Image-text-to-text models through the Python API and the command line: delta picks the frames, the model sees them."""

import json
import shutil

import numpy as np
import pytest
from fixtures import vlms
from fixtures.processes import cpu_seconds

from mambamia_cli import open_video
from mambamia_cli.compressor.select import select_frames, threshold_for_budget
from mambamia_cli.errors import ModelError, UsageError
from mambamia_cli.pipeline import Models
from mambamia_cli.video.grab import grab

QUESTION, KIND = "What is seen?", "qwen2_5_vl"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return vlms.write_vlm(tmp_path_factory.mktemp("vlm") / "model", KIND)


@pytest.fixture(scope="module")
def models(folder):
    return Models(str(folder), device="cpu", quant="fp32", threads=1)


def clock(seconds):
    return f"{round(seconds) // 60}:{round(seconds) % 60:02d}"


def told(folder, path, times, count, size=None):
    """The reference's answer: frames by `grab`, the rest by transformers alone."""
    inputs = vlms.inputs_of(folder, KIND, grab(path, times, size), [clock(float(t)) for t in times], QUESTION)
    processor = vlms.processor_of(folder, KIND)
    ids = vlms.answer(vlms.model_of(folder), inputs, count)
    return processor.tokenizer.decode([i for i in ids if i != processor.tokenizer.eos_token_id], skip_special_tokens=True), inputs


def same(record, wanted):
    """Equal, or equal as far as the guard against loops let it go."""
    assert record.answer and (wanted.strip().startswith(record.answer) if record.finish == "repeat" else record.answer == wanted.strip())


class TestFrames:
    def test_all_of_them_where_they_fit(self, models, folder, three_cuts):
        record = open_video(three_cuts.path, models=models, fps=1).ask(QUESTION, max_tokens=12)
        wanted, inputs = told(folder, three_cuts.path, three_cuts.times[::25], 12)
        same(record, wanted)
        each = int((inputs["input_ids"] == models.language.processor.image_id).sum()) // 8
        assert (record.sampling.kept, record.sampling.tokens_out, record.sampling.sampler) == (8, 8 * each, "fps")
        assert record.tool.model == record.tool.language_model == str(folder) and record.tool.quant == "fp32"
        assert record.evidence is None and record.confidence is None

    def test_those_that_delta_picks_where_they_do_not(self, models, folder, three_cuts):
        video = open_video(three_cuts.path, models=models, fps=2, token_budget=5 * 15 + 3)
        record = video.ask(QUESTION, max_tokens=12)
        delta = video.index().delta
        kept = select_frames(delta, threshold_for_budget(delta, 5))
        assert record.sampling.kept == len(kept) == 5 and record.sampling.sampler == "delta"
        assert list(np.diff(kept)) != [kept[1] - kept[0]] * 4, "delta does not pick evenly here"
        same(record, told(folder, three_cuts.path, [video.index().times[i] for i in kept], 12)[0])

    def test_scaled_to_a_size(self, folder, bigbuckbunny):
        """1280 x 720 is shown as 448 x 252, 16 x 9 tokens; --frame-size changes that."""
        for longest, size, each in ((None, (252, 448), 144), (224, (126, 224), 32)):
            used = Models(str(folder), device="cpu", quant="fp32", threads=1, frame_size=longest)
            record = open_video(bigbuckbunny, models=used, end=2, fps=1).ask(QUESTION, max_tokens=6)
            assert record.sampling.tokens_out == 2 * each
            same(record, told(folder, bigbuckbunny, [0, 1], 6, size)[0])

    def test_several_questions_and_a_stream(self, models, three_cuts):
        pieces = []
        video = open_video(three_cuts.path, models=models, fps=1)
        both = video.ask(QUESTION, "And who?", max_tokens=8)
        alone = video.ask("And who?", max_tokens=8, on_text=pieces.append)
        assert both[1].answer == alone.answer and "".join(pieces).strip() == alone.answer and len(pieces) > 1

    def test_choices_are_the_models_alone(self, models, folder, three_cuts):
        record = open_video(three_cuts.path, models=models, fps=1).ask("which?", choices=["pill", "alien"])
        question = "which? Options: pill, alien."
        inputs = vlms.inputs_of(folder, KIND, grab(three_cuts.path, three_cuts.times[::25]), [clock(i) for i in range(8)], question)
        model, tokenizer = vlms.model_of(folder), vlms.processor_of(folder, KIND).tokenizer
        scores = np.array([vlms.likelihood(model, inputs, tokenizer.encode(text)) for text in ("pill", "alien")])
        shares = np.exp(scores - np.logaddexp.reduce(scores))
        assert record.finish == "choice" and dict(record.choices) == pytest.approx(dict(zip(("pill", "alien"), shares, strict=True)), abs=2e-3)

    def test_a_question_of_when_is_put_to_it(self, models, three_cuts):
        """Not answered from the embedded model's words, as it would be by that model itself."""
        assert open_video(three_cuts.path, models=models, fps=1).ask("When does the pill appear?", max_tokens=4).finish in ("length", "repeat", "stop")

    def test_summarize(self, models, three_cuts):
        record = open_video(three_cuts.path, models=models, token_budget=60).summarize(max_tokens=6)
        assert record.summary and len(record.scenes) > 1 and all(scene.title is not None for scene in record.scenes)

    def test_a_budget_below_one_frame(self, models, three_cuts):
        with pytest.raises(UsageError, match="less than one frame's 15 tokens"):
            open_video(three_cuts.path, models=models, fps=1, token_budget=14).ask(QUESTION)

    def test_the_eye_leaves_before_the_model_comes(self, folder, three_cuts, monkeypatch):
        """Where weights take turns, vision and compressor are gone when the model is loaded."""
        from mambamia_cli.language.vlm import model as module
        from mambamia_cli.plan.estimate import Settings

        used, seen = Models(str(folder), device="cpu", quant="fp32", threads=1), []
        monkeypatch.setattr("mambamia_cli.pipeline.video.settle", lambda *_: Settings(prefill=256))
        load = module.load
        monkeypatch.setattr(module, "load", lambda *a, **k: seen.append({"encoder", "compressor"} & set(vars(used))) or load(*a, **k))
        open_video(three_cuts.path, models=used, fps=1).ask(QUESTION, max_tokens=2)
        assert seen == [set()] and used.language.prefill == 256


def test_finding_is_by_the_embedded_models_words(folder, three_cuts, smollm, monkeypatch):
    used = Models(str(folder), device="cpu", threads=1)
    monkeypatch.setattr(type(used), "answerer", property(lambda self: pytest.fail("the model was loaded")), raising=False)
    record = open_video(three_cuts.path, models=used, fps=1).find("pill")
    plain = open_video(three_cuts.path, model="mambamia-tiny", device="cpu", fps=1).find("pill")
    assert record.found == plain.found and record.tool.model == "mambamia-tiny"


def test_the_command_line(mambamia, folder, three_cuts):
    options = ("-m", folder, "--max-tokens", 8, "--fps", 1, "--device", "cpu")
    ran = mambamia("ask", three_cuts.path, QUESTION, *options, "--json", "--token-budget", 80)
    record = json.loads(ran.out)
    assert (ran.code, ran.err) == (0, "")
    assert record["tool"]["model"] == str(folder) and record["sampling"]["kept"] == 5 and record["sampling"]["tokens_out"] == 75
    assert record["sampling"]["sampler"] == "delta" and record["answer"]
    packed = json.loads(mambamia("ask", three_cuts.path, QUESTION, *options, "--json", "--quant", "nf4").out)
    assert packed["tool"]["quant"] == "nf4"
    small = json.loads(mambamia("ask", three_cuts.path, QUESTION, *options, "--json", "--frame-size", 56).out)
    assert small["sampling"]["tokens_out"] < packed["sampling"]["tokens_out"]
    chosen = mambamia("ask", three_cuts.path, "which?", "--choices", "cat,dog", *options)
    assert chosen.code == 0 and chosen.out.strip() in ("cat", "dog")
    text = mambamia("ask", three_cuts.path, QUESTION, *options)
    assert text.code == 0 and text.out.strip()


def broken(folder, path, how):
    shutil.copytree(folder, path)
    config = json.loads((path / "config.json").read_text())
    if how == "architecture":
        (path / "config.json").write_text(json.dumps(config | {"model_type": "qwen9_vl"}))
    elif how == "shard":
        min(path.glob("model-*.safetensors")).unlink()
    else:
        (path / "preprocessor_config.json").unlink()
    return path


@pytest.mark.parametrize("how, said", [("architecture", "pip install -U transformers"), ("shard", "lacks"), ("pictures", "preprocessor_config.json")])
def test_what_is_wrong_is_said_before_the_video_is_looked_at(mambamia, folder, three_cuts, tmp_path, monkeypatch, how, said):
    monkeypatch.setattr("mambamia_cli.pipeline.video.watch", lambda *a, **k: pytest.fail("looked"))
    ran = mambamia("ask", three_cuts.path, QUESTION, "-m", broken(folder, tmp_path / "m", how), "--device", "cpu")
    assert ran.code == 5 and ran.out == "" and said in ran.one_sentence()


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.pt"])
def test_pickles_are_refused_before_anything_else_is_done(mambamia, folder, three_cuts, tmp_path, file):
    path = tmp_path / "m"
    shutil.copytree(folder, path, ignore=shutil.ignore_patterns("*.safetensors", "*.index.json"))
    (path / file).write_bytes(b"a pickle")
    ran = mambamia("ask", three_cuts.path, QUESTION, "-m", path, "--device", "cpu")
    assert ran.code == 5 and "--allow-pickle" in ran.one_sentence()
    with pytest.raises(ModelError, match="are pickles"):
        Models(str(path), device="cpu").parts_for((96, 128))  # which is all that comes before a look at the video on a card
    assert Models(str(path), device="cpu", allow_pickle=True).parts_for((96, 128)) is None, "nothing to plan with"
    ran = mambamia("plan", three_cuts.path, "-m", path)
    assert ran.code == 5 and "convert them to safetensors" in ran.one_sentence()


def test_a_plan_reads_no_weights_and_no_torch(folder, three_cuts, mambamia):
    code = (
        "import sys; from mambamia_cli.cli.app import run; "
        f"code = run(['plan', {str(three_cuts.path)!r}, '-m', {str(folder)!r}, '--device', 'cpu', '--json']); "
        "print(code, [m for m in ('torch', 'transformers', 'onnxruntime', 'huggingface_hub') if m in sys.modules])"
    )
    best, printed = cpu_seconds(code)
    assert printed.splitlines()[-1] == "0 []" and best < 2
    plan = json.loads(printed[: printed.rindex("}") + 1])
    stored = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    held = plan["parts_bytes"]["language_model"] + plan["parts_bytes"]["sight"]
    assert 0.9 * stored < held <= stored and plan["tokens"]["visual"] == 32 * 15 and plan["quant"] == "fp32"
    ran = mambamia("plan", three_cuts.path, "-m", folder, "--device", "cuda", "--vram-limit", "8GiB")
    assert ran.code == 0 and "the model's own vision" in ran.out and "8 GiB" in ran.out
    assert mambamia("plan", three_cuts.path, "-m", folder, "--device", "cpu", "--ram-limit", "300MiB").code == 6


def test_a_limit_that_does_not_do_refuses_before_anything_is_loaded(mambamia, folder, three_cuts, monkeypatch):
    monkeypatch.setattr("mambamia_cli.pipeline.video.watch", lambda *a, **k: pytest.fail("looked"))
    ran = mambamia("ask", three_cuts.path, QUESTION, "-m", folder, "--device", "cpu", "--ram-limit", "300MiB")
    assert ran.code == 6 and "--ram-limit 300MiB" in ran.one_sentence()
