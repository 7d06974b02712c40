"""The Python API on real videos, with a tiny model of random weights: the wiring is real, only the weights are not."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from mambamia_cli import open_video
from mambamia_cli.errors import InputError, UsageError
from mambamia_cli.language.prompt import with_options
from mambamia_cli.pipeline import Models, engine
from mambamia_cli.pipeline.answer import kept_frames, prompt
from mambamia_cli.pipeline.index import AnchorStore
from mambamia_cli.plan.estimate import Settings
from mambamia_cli.records import AnswerRecord, ScenesRecord, SummaryRecord
from mambamia_cli.vision import backends


@pytest.fixture(scope="module")
def models(tiny_model):
    return Models(str(tiny_model), device="cpu", threads=1)


@pytest.fixture(scope="module")
def video(models, three_cuts):
    """Eight seconds, looked at once a second."""
    return open_video(three_cuts.path, models=models)


def test_the_streamed_look_equals_the_whole_pass(models, video, three_cuts):
    """Decode -> encode -> compress in chunks gives what one pass over all frames gives."""
    from mambamia_cli.video import SampleSpec, open_frames

    with open_frames(three_cuts.path, SampleSpec(fps=Fraction(1), size=models.encoder.input_size)) as frames:
        chunks = list(frames)
    pixels = torch.from_numpy(np.concatenate([chunk.frames for chunk in chunks])).permute(0, 3, 1, 2)  # (m, 3, H, W)
    with torch.inference_mode():
        whole = models.compressor(models.encoder.encode(pixels)[None])
    index = video.index()
    assert index.times == tuple(t for chunk in chunks for t in chunk.times) and len(index.times) == 8
    np.testing.assert_allclose(index.delta, whole.delta[0].numpy(), rtol=1e-4)
    torch.testing.assert_close(index.anchors.read(list(range(8))), whole.anchors[0], rtol=2e-3, atol=2e-3)  # float16


def test_the_chunk_size_changes_no_number(models, three_cuts, monkeypatch):
    whole = open_video(three_cuts.path, models=models, fps=4, end=4).index()
    monkeypatch.setattr(models, "settings", Settings(chunk=5, together=True))
    chunked = open_video(three_cuts.path, models=models, fps=4, end=4).index()
    assert whole.times == chunked.times
    np.testing.assert_allclose(whole.delta, chunked.delta, rtol=1e-4)


def test_ask_one_gives_a_record_and_several_a_list_from_one_look(video):
    one, many = video.ask("what is it?", max_tokens=4), video.ask("what is it?", "where?", max_tokens=4)
    assert isinstance(one, AnswerRecord) and [r.question for r in many] == ["what is it?", "where?"]
    assert one.answer == many[0].answer != "" and one.finish == "length"
    assert many[0].timing_s["decode"] == many[1].timing_s["decode"]
    assert (one.sampling.frames, one.sampling.kept, one.sampling.tokens_out) == (32, 32, 64)
    assert one.sampling.tokens_in == 32 * 49 and one.video.duration == 8.0 and one.range == (0.0, 8.0)


def test_the_answer_is_streamed_piece_by_piece(video):
    pieces = []
    record = video.ask("what is it?", max_tokens=6, on_text=pieces.append)
    assert len(pieces) > 1 and "".join(pieces).strip() == record.answer


def test_another_run_gives_the_same_answer(models, three_cuts, video):
    fresh = open_video(three_cuts.path, models=models).ask("what is it?", max_tokens=8)
    assert fresh.answer == video.ask("what is it?", max_tokens=8).answer


def test_the_video_reaches_the_answer(models, video, numbered):
    """Other frames, other prompt: the visual tokens are really in it."""
    first = prompt(video.index(), models, [0, 1], "what?")
    second = prompt(video.index(), models, [0, 7], "what?")
    assert first.shape == second.shape and not torch.allclose(first, second)
    base = len(prompt(video.index(), models, [0], "what?"))
    assert len(first) == base + 2 + len(models.language.tokenize("1:"))


def test_choices_are_ranked_by_likelihood(models, video):
    record = video.ask("which?", choices=["cat", "dog", "car"])
    names, shares = zip(*record.choices, strict=True)
    assert record.answer == names[0] and record.finish == "choice" and sum(shares) == pytest.approx(1, abs=1e-3)
    embeds = prompt(video.index(), models, range(8), with_options("which?", ["cat", "dog", "car"]))
    scores = dict(zip(["cat", "dog", "car"], models.language.score(embeds, ["cat", "dog", "car"]), strict=True))
    assert sorted(scores, key=scores.get, reverse=True) == list(names)


def test_the_token_budget_keeps_fewer_frames_in_order_of_time(models, three_cuts):
    opened = open_video(three_cuts.path, models=models, token_budget=7)
    record = opened.ask("what?", max_tokens=2)
    assert record.sampling.kept <= 3 and record.sampling.tokens_out <= 7 and record.sampling.sampler == "delta"
    kept = kept_frames(opened.index(), models, 10, "what?", 2)
    assert 1 <= len(kept) <= 5 and kept == sorted(set(kept))


def test_a_question_that_fills_the_context_lowers_the_number_of_frames_and_then_is_refused(models, video):
    from mambamia_cli.language.prompt import prompt_length

    room = models.language.context_length
    one_frame = 2 + len(models.language.tokenize("1:"))
    question = "x" * (room - 64 - prompt_length(models.language, [], 2, "") - 3 * one_frame)  # three frames fit exactly
    assert len(kept_frames(video.index(), models, None, question, 64)) == 3
    with pytest.raises(UsageError, match="no room"):
        kept_frames(video.index(), models, None, "x" * room, 64)


@pytest.mark.parametrize("budget", [1, 0])
def test_a_budget_below_one_frame_is_refused(models, three_cuts, budget):
    if budget == 0:
        with pytest.raises(UsageError):
            open_video(three_cuts.path, models=models, token_budget=budget)
    else:
        with pytest.raises(UsageError, match="less than one frame"):
            open_video(three_cuts.path, models=models, token_budget=budget).ask("what?")


def test_scenes_uses_four_frames_a_second_unless_told(models, three_cuts):
    record = open_video(three_cuts.path, models=models).scenes()
    assert isinstance(record, ScenesRecord) and len(record.delta) == 32 and record.sampling.fps == 4
    assert len(open_video(three_cuts.path, models=models, fps=2, end=2).scenes().delta) == 4
    assert len(open_video(three_cuts.path, models=models, fps=None, end=1).scenes().delta) == 25


def test_a_peak_of_delta_becomes_a_marker_at_its_frame(models, three_cuts, monkeypatch):
    """Wiring from curve to record, apart from the weights: with a known curve the markers stand at its peaks."""
    video = open_video(three_cuts.path, models=models)
    index = video.index(default_rate=Fraction(4), anchors=False)
    index.delta[:] = 0.1
    index.delta[[8, 18]] = 2.0
    starts = [scene.start for scene in video.scenes(refine=False).scenes]
    assert starts == [0.0, float(index.times[8]), float(index.times[18])]


def test_summarize_titles_every_scene_from_its_own_frames(models, three_cuts, monkeypatch):
    seen = []
    monkeypatch.setattr("mambamia_cli.pipeline.summary.prompt", lambda index, m, kept, *a: seen.append(list(kept)) or prompt(index, m, kept, *a))
    video = open_video(three_cuts.path, models=models)
    index = video.index(default_rate=Fraction(4))
    index.delta[:] = 0.1
    index.delta[[8, 18]] = 2.0
    record = video.summarize(max_tokens=6, min_scene_len=0.5)
    assert isinstance(record, SummaryRecord) and len(record.scenes) >= 3 and all(scene.title for scene in record.scenes)
    spans = [(scene.start, scene.end) for scene in record.scenes]
    for kept, (start, end) in zip(seen, spans, strict=False):
        assert kept and all(start <= float(index.times[i]) < end for i in kept)
    assert len(seen) == len(record.scenes) + 1 and record.summary


def test_a_damaged_packet_is_counted_and_warned_of(models, three_cuts, tmp_path):
    said, data = [], bytearray(three_cuts.path.read_bytes())
    for at in range(len(data) // 3, len(data) // 3 + 400, 7):
        data[at] ^= 0xFF
    (tmp_path / "damaged.mp4").write_bytes(data)
    record = open_video(tmp_path / "damaged.mp4", models=models, warn=said.append).scenes()
    if record.sampling.corrupt_packets:
        assert any("damaged packets" in text for text in said) and record.warnings


def test_start_and_end_as_text_or_numbers(models, three_cuts):
    text, number = (open_video(three_cuts.path, models=models, start=s, end=e).index().times for s, e in (("0:02", "5s"), (2, 5.0)))
    assert text == number and text[0] == 2 and text[-1] < 5


def test_a_missing_file_is_refused_before_any_weights_are_read(models, tmp_path):
    with pytest.raises(InputError):
        open_video(tmp_path / "none.mp4", model="nonesuch")


def test_an_empty_question_is_refused(video):
    for questions in ((), ("",), ("what?", " ")):
        with pytest.raises(UsageError):
            video.ask(*questions)


def test_anchors_come_back_from_disk_as_they_went_in(monkeypatch):
    monkeypatch.setattr("mambamia_cli.pipeline.index.MEMORY_ANCHORS", 1000)
    store, anchors = AnchorStore(), torch.randn(50, 7, 8)
    store.append(anchors[:20])
    store.append(anchors[20:])
    assert store._file._rolled and store.frames == 50
    torch.testing.assert_close(store.read([3, 19, 20, 49]), anchors[[3, 19, 20, 49]].half().float())


def test_a_look_for_scenes_alone_does_with_fewer_bits(tiny_model, three_cuts, monkeypatch):
    monkeypatch.setattr(backends, "int8_is_exact", lambda: True)
    monkeypatch.setattr(engine, "multiplies_bfloat16", lambda: True)
    models = Models(str(tiny_model), device="cpu", threads=1)
    video = open_video(three_cuts.path, models=models)
    video.scenes()
    exact = {"encoder", "compressor"}
    assert models.int8_encoder.backend.name == "onnxruntime int8" and not exact & set(vars(models))
    assert {p.dtype for p in models.rounded_compressor.parameters()} == {torch.float32, torch.bfloat16}
    video.scenes(refine=False)
    assert not exact & set(vars(models))  # the look is known
    assert video.index(default_rate=Fraction(4)).anchors is not None and models.encoder.backend.name == "onnxruntime"
    assert {p.dtype for p in models.compressor.parameters()} == {torch.float32}
    models.settings = Settings(together=False)
    models.enter("answer")
    assert not {"encoder", "int8_encoder", "compressor", "rounded_compressor"} & set(vars(models))


def test_no_close_look_is_rounded(tiny_model, three_cuts):
    models = Models(str(tiny_model), device="cpu", threads=1)
    open_video(three_cuts.path, models=models, fps=1).scenes()  # too few frames a second
    open_video(three_cuts.path, models=models).summarize(max_tokens=2)  # which keeps anchors
    assert not {"int8_encoder", "rounded_compressor"} & set(vars(models))


def test_a_cpu_without_the_instructions_has_one_encoder_and_one_compressor(tiny_model, monkeypatch):
    monkeypatch.setattr(backends, "int8_is_exact", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    models = Models(str(tiny_model), device="cpu", threads=1)
    assert models.int8_encoder is models.encoder and models.rounded_compressor is models.compressor
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # torch 2.10 and older do not tell
    assert not engine.multiplies_bfloat16()


@pytest.mark.skipif(not backends.int8_is_exact(), reason="this CPU adds 8-bit products in too few bits: the tool does not use them here")
def test_fewer_bits_mark_the_same_scenes(three_cuts, monkeypatch):
    """With the trained weights: the curve moves a little, no marker does."""
    marked = []
    for fewer in (True, False):
        monkeypatch.setattr(backends, "int8_is_exact", lambda fewer=fewer: fewer)
        monkeypatch.setattr(engine, "multiplies_bfloat16", lambda fewer=fewer: fewer)
        marked.append(open_video(three_cuts.path, models=Models("mambamia-tiny", device="cpu")).scenes())
    rounded, exact = marked
    assert [s.start for s in rounded.scenes] == [s.start for s in exact.scenes] and len(exact.scenes) > 3
    curves = [np.array([value for _, value in record.delta]) for record in marked]
    apart = np.abs(curves[0] - curves[1])
    assert 0 < apart.max() < 0.1 * (curves[1].max() - curves[1].min())
