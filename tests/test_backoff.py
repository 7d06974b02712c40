"""Memory runs out in the middle of a video: the look goes on in smaller pieces, with the results it would have had."""

import numpy as np
import pytest
import torch

from mambamia_cli import open_video
from mambamia_cli.compressor import stream
from mambamia_cli.errors import OutOfMemoryError
from mambamia_cli.pipeline import Models
from mambamia_cli.plan.estimate import Settings


@pytest.fixture
def models(tiny_model):
    return Models(str(tiny_model), device="cpu", threads=1)


class Narrow:
    """An encoder that has memory for so many frames, and notes what it was given."""

    def __init__(self, encoder, most, error):
        self._encoder, self._most, self._error, self.given = encoder, most, error, []

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def encode(self, frames):
        if len(frames) > self._most:
            raise self._error
        self.given.append(len(frames))
        return self._encoder.encode(frames)


def look(path, models):
    return open_video(path, models=models, fps=4).index()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")],
                         ids=["torch", "python", "cpu allocator"])  # fmt: skip
def test_the_encoder_runs_out(models, three_cuts, error):
    whole = look(three_cuts.path, models)
    narrow = models.__dict__["encoder"] = Narrow(models.encoder, 5, error)
    again = look(three_cuts.path, models)
    assert again.times == whole.times
    np.testing.assert_allclose(again.delta, whole.delta, rtol=1e-5)
    torch.testing.assert_close(again.anchors.read(list(range(32))), whole.anchors.read(list(range(32))), atol=2e-3, rtol=2e-3)
    assert narrow.given == [4] * 8  # 32 -> 16 -> 8 -> 4, each frame encoded once


@pytest.mark.parametrize("settings", [Settings(together=True), Settings(window=12, chunk=8, together=True)], ids=["one window", "windows"])
def test_the_compressor_runs_out(models, three_cuts, monkeypatch, settings):
    """In the middle of a window, with states of earlier ones to go back to."""
    monkeypatch.setattr(models, "settings", settings)
    whole, layer, worked = look(three_cuts.path, models), stream._run_layer, []

    def small_only(hidden, spans, *rest):
        if max(e - a for a, e in spans) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        worked.append(spans)
        return layer(hidden, spans, *rest)

    monkeypatch.setattr(stream, "_run_layer", small_only)
    again = look(three_cuts.path, models)
    assert worked and len(again.delta) == len(whole.delta) == 32
    np.testing.assert_allclose(again.delta, whole.delta, rtol=1e-4)
    torch.testing.assert_close(again.anchors.read(list(range(32))), whole.anchors.read(list(range(32))), atol=4e-3, rtol=4e-3)


def test_one_frame_is_too_much(models, three_cuts):
    models.__dict__["encoder"] = Narrow(models.encoder, 0, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(OutOfMemoryError, match="one frame at a time") as gone:
        look(three_cuts.path, models)
    assert gone.value.exit_code == 6


def test_other_errors_are_not_hidden(models, three_cuts):
    models.__dict__["encoder"] = Narrow(models.encoder, 5, RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        look(three_cuts.path, models)


def test_stages_take_turns_when_told_to(models, three_cuts):
    """Weights of the other stage are gone while one works, and the results are those of weights that stay."""
    video = open_video(three_cuts.path, models=models)
    expected = video.ask("what is it?", max_tokens=4).answer
    seen = []
    turns = Models(models.folder.path.as_posix(), device="cpu", threads=1)
    turns.settings = Settings(together=False)
    again = open_video(three_cuts.path, models=turns, progress=lambda stage, done, total: seen.append((stage, sorted(LOADED & turns.__dict__.keys()))))
    again._planned_for = {True, False}  # as if the limits had said so
    assert again.ask("what is it?", max_tokens=4).answer == expected
    assert {stage: loaded for stage, loaded in seen if stage == "watching"}["watching"] == ["compressor", "encoder"]
    assert {stage: loaded for stage, loaded in seen if stage == "thinking"}["thinking"] == []
    assert sorted(LOADED & turns.__dict__.keys()) == ["language", "projector"]
    again.index(default_rate=2)
    assert sorted(LOADED & turns.__dict__.keys()) == ["compressor", "encoder"]


LOADED = {"encoder", "compressor", "projector", "language"}
